"""Quantile regression: the loss that makes an output the τ-quantile of what it predicts.

    ρ_τ(u) = |τ - 1{u < 0}| · L_κ(u) / κ,   L_κ(u) = u²/2 where |u| ≤ κ, κ (|u| - κ/2) beyond;   u = x - q

Without smoothing (κ → 0) the expected loss is least where q is the τ-quantile of x. The smoothing moves that point by
less than κ, and the choice of κ by the spacing of the levels makes this harmless: at the midpoints between neighbouring
levels every x is at least half a spacing away, so with κ of at most half a spacing the slope there is that of the loss
without smoothing, the minimum lies within half a spacing of the right level, and rounding gives that level exactly.
`kappa` takes the largest such value, for the smoothest gradients.

Reference: Dabney et al., Distributional Reinforcement Learning with Quantile Regression, 2018, equations 9 and 10,
https://arxiv.org/abs/1710.10044
"""

from __future__ import annotations

import torch
from torch import Tensor


def scaled(x: Tensor, levels: int) -> Tensor:
    """Levels as numbers in [-1, 1].

    >>> scaled(torch.tensor([0.0, 1.5, 3.0]), 4).tolist()
    [-1.0, 0.0, 1.0]
    """
    return x * (2.0 / (levels - 1)) - 1.0


def nearest_level(q: Tensor, levels: int) -> Tensor:
    """The level nearest to a number on the scale of `scaled`, integers in [0, levels); −1 for NaN.

    >>> nearest_level(torch.tensor([-7.0, -0.1, 0.9]), 4).tolist()
    [0, 1, 3]
    """
    level = ((q + 1.0) * ((levels - 1) / 2.0)).round().clamp(0, levels - 1)
    return level.nan_to_num(-1.0).long()


def kappa(levels: int) -> float:
    """Half the spacing of the levels, on the scale of `scaled`: see the head of this file.

    >>> kappa(5)
    0.25
    """
    return 1.0 / (levels - 1)


def quantile_huber(x: Tensor, q: Tensor, tau: Tensor, kappa: float) -> Tensor:
    """The quantile-Huber loss of predicted quantiles, entry by entry.

    Args:
        x: what was observed, on any scale.
        q: predicted τ-quantiles of it.
        tau: in [0, 1].
        kappa: where the square ends, on the same scale, above 0.

    Returns:
        The shape that the three broadcast to, on that scale; never negative.

    Example:
        >>> quantile_huber(torch.tensor(3.0), torch.tensor([1.0, 5.0]), torch.tensor(0.75), kappa=1.0).tolist()
        [1.125, 0.375]
    """
    u = x - q
    size = u.abs()
    huber = torch.where(size <= kappa, 0.5 / kappa * u**2, size - 0.5 * kappa)
    return (tau - (u < 0).to(u.dtype)).abs() * huber
