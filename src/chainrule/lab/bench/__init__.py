"""Benchmarks that print ratios: ours and the usual way, on the same data, side by side in one process."""

from chainrule.lab.bench.codec import bench_codec
from chainrule.lab.bench.picture_codecs import bench_pictures, read_folder
from chainrule.lab.bench.sampling import bench_growth, bench_sampling, full_size
from chainrule.lab.bench.steps import bench_steps
from chainrule.lab.bench.training import bench_training, profile_training

__all__ = [
    "bench_codec",
    "bench_growth",
    "bench_pictures",
    "bench_sampling",
    "bench_steps",
    "bench_training",
    "full_size",
    "profile_training",
    "read_folder",
]
