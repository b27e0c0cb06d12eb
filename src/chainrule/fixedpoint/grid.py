"""Whole numbers in place of reals: the input grid of a layer, the weight grid of each output, and the worst case.

A layer's input becomes integers q = clamp(round(x · 2^bits), low, high); the weights of output o become integers times
2^-f_o, as fine as the carrier allows. Each output is then an integer times 2^-f_o, and so is every partial sum.
Integers are carried as floating-point numbers, because that is what matrix products are fast in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from chainrule.errors import ModelError
from chainrule.fixedpoint.arithmetic import LIMITS

FINEST = 34
"""No weight grid is finer than 2^-34: float32 weights have nothing to say below it."""


@dataclass(frozen=True)
class Inputs:
    """The grid of a layer's input.

    Args:
        bits: the grid is 2^-bits.
        low, high: least and greatest integer; what lies outside is clamped.
        levels: if not 0, the input is one-hot vectors of this length side by side, which are integers as they are.
    """

    bits: int
    low: int
    high: int
    levels: int = 0

    def quantise(self, x: Tensor) -> Tensor:
        """Integers, as floats of the same type and shape; the sum of any two products with them is still exact.

        >>> Inputs(bits=2, low=0, high=15).quantise(torch.tensor([-1.0, 0.374, 0.375, 9.0])).tolist()
        [0.0, 1.0, 2.0, 15.0]
        """
        if self.levels:
            return x
        # A product with a power of two is exact; rounding is half to even on every device.
        return x.mul(2.0**self.bits).round_().clamp_(self.low, self.high)


@dataclass(frozen=True)
class Part:
    """One of the products that are summed into an output: weights (outputs, inputs[, taps]), float64, and their input.

    One-hot inputs lie side by side in the second dimension.
    """

    weight: Tensor
    inputs: Inputs

    def reach(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """How far up and how far down the partial sums of a row can go, for weights in the place of this part's."""
        if self.inputs.levels:  # of each one-hot vector at most one entry counts
            groups = weight.flatten(2) if weight.ndim > 2 else weight[..., None]
            groups = groups.unflatten(1, (-1, self.inputs.levels))
            up, down = groups.clamp(min=0).amax(2), (-groups).clamp(min=0).amax(2)
        else:
            low, high = weight * self.inputs.low, weight * self.inputs.high
            up, down = torch.maximum(low, high).clamp(min=0), (-torch.minimum(low, high)).clamp(min=0)
        return up.flatten(1).sum(1), down.flatten(1).sum(1)


@dataclass(frozen=True)
class Rows:
    """The outputs of a layer on their grids: output o is an integer times 2^-bits[o].

    Weights and bias hold integers, float64, of the shapes of the parts' weights and (O,).
    """

    bits: Tensor
    weights: list[Tensor]
    bias: Tensor
    worst: int

    def scaled(self, integers: Tensor, carrier: torch.dtype) -> Tensor:
        """Integers of these rows as multiples of their grids."""
        unit = torch.ldexp(torch.ones_like(self.bias), -self.bits).view(-1, *[1] * (integers.ndim - 1))
        return (integers * unit).to(carrier)


@dataclass(frozen=True)
class Grids:
    """What an exact layer is made of, beside its weights: it is part number `part` of the sums that `rows` describe.

    The bias goes to the first part.
    """

    inputs: Inputs
    rows: Rows
    part: int
    carrier: str


def worst_case(parts: Sequence[Part], weights: Sequence[Tensor], bias: Tensor) -> Tensor:
    """The largest absolute value of any partial sum in any order, for each output.

    Args:
        parts: the outputs are their sum.
        weights: in the place of the parts' own, (O, …); in the units in which the answer is wanted.
        bias: shape (O,).
    """
    up, down = bias.clamp(min=0), (-bias).clamp(min=0)
    for part, weight in zip(parts, weights, strict=True):
        more_up, more_down = part.reach(weight)
        up, down = up + more_up, down + more_down
    return torch.maximum(up, down)


def choose_rows(name: str, parts: Sequence[Part], bias: Tensor, carrier: str) -> Rows:
    """Put each output on the finest grid on which its worst case fits the carrier.

    Args:
        name: of the layer, for errors.
        parts: the products that are summed, which share the grids of the outputs.
        bias: float64 of shape (O,).
        carrier: "float32" or "float64".

    Raises:
        ModelError: a number is not finite, or no grid fits.
    """
    limit = LIMITS[carrier]
    numbers = [part.weight for part in parts] + [bias]
    if not all(bool(number.isfinite().all()) for number in numbers):
        raise ModelError(f"the layer {name} holds numbers that are not finite: it cannot be made exact")
    bits = torch.full((len(bias),), -1)
    weights, biases = [torch.zeros_like(part.weight) for part in parts], torch.zeros_like(bias)
    worst = torch.zeros(len(bias), dtype=torch.long)
    for f in range(FINEST, -1, -1):
        left = (bits < 0).nonzero()[:, 0]
        if not len(left):
            break
        whole = [(part.weight[left] * 2.0 ** (f - part.inputs.bits)).round() for part in parts]
        whole_bias = (bias[left] * 2.0**f).round()
        # A sum in float64 rounds; where it is far too large int64 might overflow, elsewhere int64 is exact.
        plausible = worst_case(parts, whole, whole_bias) < 2.0 * limit
        left, whole, whole_bias = left[plausible], [w[plausible] for w in whole], whole_bias[plausible]
        found = worst_case(parts, [w.long() for w in whole], whole_bias.long())
        fits = found <= limit
        rows = left[fits]
        bits[rows], worst[rows], biases[rows] = f, found[fits], whole_bias[fits]
        for weight, w in zip(weights, whole, strict=True):
            weight[rows] = w[fits]
    if bool((bits < 0).any()):
        raise ModelError(f"the layer {name} cannot be certified: its sums outgrow {carrier}'s {limit:,}")
    return Rows(bits, weights, biases, int(worst.max()))


def inputs_from(name: str, scale: Any) -> Inputs:
    """A layer's input grid as config.json holds it. Raises `ModelError` for what is no grid."""
    fields = {key: scale.get(key, 0) for key in ("bits", "low", "high", "levels")} if isinstance(scale, dict) else {}
    sane = fields and all(type(value) is int for value in fields.values())
    if not sane or not (-64 <= fields["bits"] <= 64 and -(2**28) <= fields["low"] <= fields["high"] <= 2**28):
        raise ModelError(f"the scales of the layer {name} are damaged: make the model exact again")
    return Inputs(**fields)
