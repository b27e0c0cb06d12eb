"""Benchmarks that print ratios: ours and the plain reference, on the same weights, side by side in one process."""

from chainrule.bench.sampling import bench_sampling

BENCHMARKS = {"sampling": bench_sampling}

__all__ = ["BENCHMARKS", "bench_sampling"]
