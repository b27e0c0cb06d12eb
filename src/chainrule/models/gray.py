"""Gray as a function of the channels: which colours agree with it. Pure functions.

The gray level of a pixel is the sum of its channels, in as many steps as there are gray levels. The sums of one gray
level are an interval, so that it is easy to say which values of a channel can still lead there.

Reference: Kolesnikov & Lampert, PixelCNN Models with Auxiliary Variables, 2017, https://arxiv.org/abs/1612.08185
"""

from __future__ import annotations

import torch
from torch import Tensor


def gray_of(x: Tensor, levels: int, grays: int) -> Tensor:
    """⌊Σ_c x_c · grays / (C · (levels - 1) + 1)⌋: integers (B, C, H, W) → (B, H, W), from 0 to grays - 1.

    >>> gray_of(torch.tensor([3, 3, 2]).view(1, 3, 1, 1), levels=4, grays=10).item()
    8
    """
    return x.long().sum(1) * grays // (x.shape[1] * (levels - 1) + 1)


def possible(gray: Tensor, so_far: Tensor, left: int, channels: int, levels: int, grays: int) -> Tensor:
    """Which values of the next channel can still lead to a gray level.

    Args:
        gray: the pixel's gray level, integers (...).
        so_far: the sum of its earlier channels, integers (...).
        left: channels after the next one.

    Returns:
        Booleans (..., levels). All are true where none is possible: a contradiction earlier on is not this channel's.

    >>> possible(torch.tensor(8), torch.tensor(3), left=1, channels=3, levels=4, grays=10).tolist()
    [False, False, True, True]
    """
    sums = channels * (levels - 1) + 1
    least = -(-gray * sums // grays)  # sums from least to most have this gray level
    most = -(-(gray + 1) * sums // grays) - 1
    total = so_far[..., None] + torch.arange(levels, device=gray.device)
    result = (total <= most[..., None]) & (total + left * (levels - 1) >= least[..., None])
    return result | ~result.any(-1, keepdim=True)
