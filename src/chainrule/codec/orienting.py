"""In which of the eight ways a picture is laid before a model codes it.

A network that was trained on pictures as people see them predicts some edges better than others, as does least squares,
which sees more above and to the left than above and to the right. So a picture that a model codes is laid as its
predictions alone do best.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from chainrule.codec.event_coding import too_large
from chainrule.data.orientations import AS_IT_IS, ORIENTATIONS, TRANSPOSED, laid

SIDE = 128
"""The choice looks at the middle of a picture, so many pixels high and wide, or at as many of smaller ones."""


def best(model: Any, x: Tensor) -> int:
    """The orientation in which a model's predictions leave least of pictures (N, C, H, W); as it is, if it has none."""
    height, width = x.shape[2:]
    sample, may_transpose = _sample(x), model.any_size and not too_large(model.sized(width, height))
    if model.rough_cost(sample[:0]) is None:
        return AS_IT_IS
    ways = [way for way in range(ORIENTATIONS) if may_transpose or not way & TRANSPOSED]
    costs = [model.rough_cost(laid(sample, way)) for way in ways]
    return ways[costs.index(min(costs))]  # of equals the first


def _sample(x: Tensor) -> Tensor:
    """The middle of some of the pictures, evenly spread."""
    count, _, height, width = x.shape
    high, wide = min(SIDE, height), min(SIDE, width)
    top, left = (height - high) // 2, (width - wide) // 2
    every = -(-count * high * wide // SIDE**2)
    return x[::every, :, top : top + high, left : left + wide]
