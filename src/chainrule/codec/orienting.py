"""In which of the eight ways a picture is laid before a model codes it.

Least squares see more above and to the left than above and to the right, so they predict some edges better than others,
and a picture may be predicted better mirrored or on its side. Predictions are quick to compare. Whether the network
does better then, too, its likelihood tells.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from chainrule.codec.event_coding import Encoding, too_large
from chainrule.data.orientations import AS_IT_IS, ORIENTATIONS, TRANSPOSED, laid

SIDE = 64
"""The choice looks at the middle of a picture, so many pixels high and wide at most, or of several smaller ones."""


def best(model: Any, x: Tensor) -> int:
    """The orientation that suits an exact model of any size best, of pictures (N, C, H, W)."""
    way = predicted_best(model, x)
    return min((AS_IT_IS, way), key=lambda way: _bits(model, laid(_sample(x), way))) if way else AS_IT_IS


def predicted_best(model: Any, x: Tensor) -> int:
    """The orientation in which a model's predictions leave least of pictures; as it is, if it makes none."""
    if not model.any_size or model.rough_cost(x[:0]) is None:
        return AS_IT_IS
    height, width = x.shape[2:]
    sample, may_transpose = _sample(x), not too_large(model.sized(width, height))
    ways = [way for way in range(ORIENTATIONS) if may_transpose or not way & TRANSPOSED]
    costs = [model.rough_cost(laid(sample, way)) for way in ways]
    return ways[costs.index(min(costs))]  # of equals the first


def _bits(model: Any, x: Tensor) -> float:
    return float(Encoding(model.sized(*x.shape[2:]), x).bits().sum())


def _sample(x: Tensor) -> Tensor:
    """The middle of some of the pictures, evenly spread."""
    count, _, height, width = x.shape
    high, wide = min(SIDE, height), min(SIDE, width)
    top, left = (height - high) // 2, (width - wide) // 2
    every = -(-count * high * wide // SIDE**2)
    return x[::every, :, top : top + high, left : left + wide]
