"""Choosing in which of the eight orientations a model codes a picture.

Least squares see more above and to the left than above and to the right, so they predict some edges better than others,
and a picture may be predicted better mirrored or on its side. Predictions are quick to compare. Where they hardly
differ, or the picture is small, the network's likelihood has the last word.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from chainrule.codec.event_coding import Encoding, too_large
from chainrule.data.orientations import AS_IT_IS, ORIENTATIONS, TRANSPOSED, laid

PREDICTED, CODED = 128, 64
"""Predictions are compared in the middle of a picture, at most this many pixels high and wide; likelihoods in less."""
CLEAR = 1.01
"""If predictions leave this many times fewer bits of a large picture, the network is taken to agree."""


def best(model: Any, x: Tensor) -> int:
    """The orientation that suits an exact model of any size best, of pictures (N, C, H, W)."""
    costs = _costs(model, x)
    way = min(costs, key=lambda way: costs[way])
    seen = _sample(x, CODED)
    if way == AS_IT_IS or (seen.numel() < x.numel() and costs[AS_IT_IS] > CLEAR * costs[way]):
        return way
    return min((AS_IT_IS, way), key=lambda way: _bits(model, laid(seen, way)))


def predicted_best(model: Any, x: Tensor) -> int:
    """The orientation in which a model's predictions leave the fewest bits; as it is, without predictions."""
    costs = _costs(model, x)
    return min(costs, key=lambda way: costs[way])  # of equals the first


def _costs(model: Any, x: Tensor) -> dict[int, float]:
    """About the bits that predictions leave of a sample, by orientation."""
    if not model.any_size or model.rough_cost(x[:0]) is None:
        return {AS_IT_IS: 0.0}
    height, width = x.shape[2:]
    sample, may_transpose = _sample(x, PREDICTED), not too_large(model.sized(width, height))
    ways = [way for way in range(ORIENTATIONS) if may_transpose or not way & TRANSPOSED]
    return {way: model.rough_cost(laid(sample, way)) for way in ways}


def _bits(model: Any, x: Tensor) -> float:
    return float(Encoding(model.sized(*x.shape[2:]), x).bits().sum())


def _sample(x: Tensor, side: int) -> Tensor:
    """The middle of some of the pictures, evenly spread, of `side`² pixels or less than twice as many."""
    count, _, height, width = x.shape
    high, wide = min(side, height), min(side, width)
    top, left = (height - high) // 2, (width - wide) // 2
    every = -(-count * high * wide // side**2)
    return x[::every, :, top : top + high, left : left + wide]
