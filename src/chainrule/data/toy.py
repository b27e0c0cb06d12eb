"""The toy data of the assignment: one variable (the warm-up), and two variables with a known joint distribution."""

from __future__ import annotations

import os

import numpy as np

from chainrule.atomic import as_path
from chainrule.data.dataset import MOST_LEVELS, Dataset, as_tensor
from chainrule.data.hopper import gray_portrait
from chainrule.data.reading import read_npy
from chainrule.errors import DataError


def warmup() -> Dataset:
    """The warm-up: 10,000 samples of a mixture of two Gaussians, clipped and binned, values 1…100 kept as 0…99.

    Source: CS294-158 (Spring 2019), homework 1, section 1. The first 80 % train, of which the last 1,000 are held out
    for validation; the last 20 % test. Splits are uint8 (N, 1); `offset` is 1.

    >>> data = warmup()
    >>> data.levels, data.shape, len(data.train), len(data.validation), len(data.test)
    (100, (1,), 7000, 1000, 2000)
    >>> (data.train[:6, 0] + data.offset).tolist()
    [48, 76, 88, 81, 79, 21]
    """
    count = 10_000
    rand = np.random.RandomState(0)
    a = 0.3 + 0.1 * rand.randn(count)
    b = 0.8 + 0.05 * rand.randn(count)
    mask = rand.rand(count) < 0.5
    samples = np.clip(a * mask + b * (1 - mask), 0.0, 1.0)
    values = np.digitize(samples, np.linspace(0.0, 1.0, 100)) - 1
    x = as_tensor(values[:, None], levels=100)
    return Dataset("warmup", 100, train=x[:7000], validation=x[7000:8000], test=x[8000:], offset=1)


def portrait_joint() -> np.ndarray:
    """The joint distribution whose density is the portrait in gray: (200, 200) float64, sums to 1.

    >>> p = portrait_joint()
    >>> print(f"{-(p[p > 0] * np.log2(p[p > 0])).sum() / 2:.3f} bits/dim")
    7.407 bits/dim
    """
    gray = gray_portrait().astype(np.float64)
    return gray / gray.sum()


def load_joint(path: str | os.PathLike) -> np.ndarray:
    """Read a joint distribution p[i, j] = P(x₁ = i, x₂ = j) from a .npy file and normalise it: (L, L) float64.

    Raises `DataError` where the file is not a square array of floating-point probabilities whose sum is within 0.001
    of 1. Nothing is ever unpickled.
    """
    path = as_path(path)
    return _checked(read_npy(path), str(path))


def two_dimensional(
    joint: np.ndarray | None = None, *, name: str = "portrait-2d", count: int = 100_000, seed: int = 0
) -> Dataset:
    """Draw `count` points from a joint distribution, by default the portrait's: splits (N, 2), `truth` the joint.

    The first 80 % train, of which the last eighth (10,000 of 80,000) is held out for validation; the last 20 % test.
    Point k is the inverse CDF, over the cells in row order, of the k-th uniform of `np.random.RandomState(seed)`; a
    cell of no mass is never drawn. Raises `DataError` for what is no joint distribution, and for a count below 10.

    >>> data = two_dimensional(np.array([[0.5, 0.0], [0.25, 0.25]]), name="coins", count=100)
    >>> data.shape, len(data.train), len(data.validation), len(data.test)
    ((2,), 70, 10, 20)
    >>> data.train[:4].tolist()
    [[1, 0], [1, 0], [1, 0], [1, 0]]
    """
    if count < 10:
        raise DataError(f"{count} points are too few to split: draw at least 10")
    joint = portrait_joint() if joint is None else _checked(joint, f"the joint distribution of {name}")
    levels = len(joint)
    cdf = np.cumsum(joint)
    cdf /= cdf[-1]
    # side="right" counts the cells whose CDF is at most u, so that a flat step (a cell of no mass) is passed over
    cells = np.searchsorted(cdf, np.random.RandomState(seed).random_sample(count), side="right")
    x = as_tensor(np.stack(np.divmod(cells, levels), axis=1), levels)
    end = count * 8 // 10
    start = end - count // 10
    return Dataset(name, levels, train=x[:start], validation=x[start:end], test=x[end:], truth=joint)


def _checked(joint: np.ndarray, what: str) -> np.ndarray:
    """The joint in float64, normalised, or a sentence that begins with `what`."""
    if joint.dtype.kind != "f":
        raise DataError(f"{what} holds {joint.dtype} values: probabilities must be floating-point")
    if joint.ndim != 2 or joint.shape[0] != joint.shape[1] or not 2 <= len(joint) <= MOST_LEVELS:
        raise DataError(f"{what} has shape {joint.shape}: a joint distribution of two variables must be square")
    joint = joint.astype(np.float64)
    if not np.isfinite(joint).all():
        raise DataError(f"{what} holds NaN or infinite entries: every probability must be a finite number")
    if joint.min() < 0:
        raise DataError(f"{what} holds a negative entry ({joint.min():g}): no probability may be below 0")
    total = joint.sum()
    if abs(total - 1) > 1e-3:
        raise DataError(f"{what} sums to {total:.6g}: divide it by its sum so that the probabilities sum to 1")
    return joint / total
