"""What a training step sees: its rows, its noise and its seeds, as functions of (seed, step) and nothing else."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def batch_indices(count: int, batch_size: int, seed: int, step: int) -> Tensor:
    """Rows of the global batch of `step`: the data in a new order each epoch, epochs joined end to end.

    >>> rows = torch.cat([batch_indices(6, 4, 0, step) for step in range(3)])
    >>> sorted(rows[:6].tolist()), sorted(rows[6:].tolist())
    ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5])
    """
    first = step * batch_size
    rows: list[int] = []
    while len(rows) < batch_size:
        epoch, position = divmod(first + len(rows), count)
        rows += epoch_order(count, seed, epoch)[position : position + batch_size - len(rows)].tolist()
    return torch.tensor(rows)


@functools.lru_cache(maxsize=1)
def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order of the data in one epoch, (count,); the last one asked for is remembered."""
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch, -1))
    return torch.randperm(count, generator=generator)


def jittered(x: Tensor, levels: int, sigma: float) -> Tensor:
    """`x` plus rounded Gaussian noise, reflected at the ends: each event stands for its neighbourhood.

    The likelihood of jittered data is that of the data smoothed by a narrow kernel, so a model cannot do better by
    remembering which levels happened to be drawn. It costs a bias of about the kernel's width and saves variance.

    >>> x = torch.tensor([[0, 9]])
    >>> bool(((jittered(x, 10, 2.0) >= 0) & (jittered(x, 10, 2.0) < 10)).all())
    True
    """
    noise = torch.randn(x.shape, device=x.device).mul_(sigma).round_().long()
    y = (x.long() + noise) % (2 * levels)
    return torch.where(y < levels, y, 2 * levels - 1 - y)


def mixed_seed(seed: int, step: int, stream: int) -> int:
    """One 63-bit seed from three numbers, so that neighbouring steps and streams share nothing."""
    value = 0
    for part in (seed, step, stream):
        value = ((value ^ (part & 0xFFFFFFFFFFFFFFFF)) * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 29
    return value >> 1
