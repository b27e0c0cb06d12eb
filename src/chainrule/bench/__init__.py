"""Benchmarks that print ratios: ours and the usual way, on the same data, side by side in one process."""

from chainrule.bench.codec import bench_codec
from chainrule.bench.sampling import bench_sampling

__all__ = ["bench_codec", "bench_sampling"]
