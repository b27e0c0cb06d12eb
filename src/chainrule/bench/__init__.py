"""Benchmarks that print ratios: ours and the usual way, on the same data, side by side in one process."""

from chainrule.bench.codec import bench_codec
from chainrule.bench.sampling import bench_growth, bench_sampling, full_size
from chainrule.bench.steps import bench_steps
from chainrule.bench.training import bench_training, profile_training

__all__ = [
    "bench_codec",
    "bench_growth",
    "bench_sampling",
    "bench_steps",
    "bench_training",
    "full_size",
    "profile_training",
]
