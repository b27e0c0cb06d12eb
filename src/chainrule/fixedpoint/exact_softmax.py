"""Logits to integer frequencies: a softmax without a transcendental function.

The weights exp(−d / 2¹⁰) come from a table of integers, made by multiplying integers, and are normalised in integers,
so that the conditional is the same everywhere, sums to 2²² exactly, and leaves no level at zero.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from chainrule.contract import Site
from chainrule.fixedpoint.arithmetic import exact_arithmetic
from chainrule.heads import Softmax

LOGIT_BITS = 10
"""Logits are rounded to multiples of 2^-10."""

TOTAL_BITS = 22
"""Frequencies sum to 2^22: the least probability is 2^-22, and the entropy coder has 24 bits to hold them."""

CODER_BITS = 24
"""The entropy coder's own frequencies sum to 2^24; see docs/format.md."""

WEIGHT_BITS = 31
LARGEST = 2**24
"""Logits are clamped to ±2^24 · 2^-10."""

MOST_LEVELS = 2**16


TABLE_ONE = 1 << 192
"""The number 1 where tables are made: in units of 2^-192."""


def powers(bits: int) -> Iterator[int]:
    """exp(−d / 2^bits) for d = 0, 1, … without end, in units of 2^-192; the same on every machine.

    exp(−2^-bits) comes from its Taylor series in integers, the rest from multiplying by it.
    """
    ratio, term = 0, TABLE_ONE
    for k in range(1, 64):
        ratio += term
        term = -term // (k << bits)
    value = TABLE_ONE
    while True:
        yield value
        value = value * ratio >> 192


@functools.cache
def exp_table() -> tuple[int, ...]:
    """⌊2^31 · exp(−d / 2^10) + ½⌋ for d = 0, 1, … until it is zero.

    >>> table = exp_table()
    >>> table[0] == 2**31, table[1024], len(table)
    (True, 790015084, 22714)
    """
    half = 1 << (192 - WEIGHT_BITS - 1)
    entries = ((value + half) >> (192 - WEIGHT_BITS) for value in powers(LOGIT_BITS))
    return tuple(itertools.takewhile(bool, entries))


class ExactSoftmax(Softmax):
    """The softmax in integers: the methods of `heads.Softmax`, and `frequencies`.

    With weights w_v = table[max − l_v], the frequency of level v is 1 + ⌊w_v · (2²² − L) / Σw⌋; what is left of 2²²
    goes to the first of the most likely levels. A level whose logit is -inf has no mass and is not counted in L.
    """

    exact = True
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.tensor([*exp_table(), 0]), persistent=False)

    def arithmetic(self) -> AbstractContextManager[None]:
        return exact_arithmetic()

    def frequencies(self, logits: Tensor) -> Tensor:
        """(..., levels) → int64 of the same shape, each at least 1 (0 for a logit of -inf), with sum 2^22.

        Integers are frequencies already: an exact mixture of logistics gives them in the place of logits.

        >>> ExactSoftmax().frequencies(torch.tensor([0.0, 0.0, -100.0])).tolist()
        [2097152, 2097151, 1]
        """
        if not logits.is_floating_point():
            return logits
        whole = logits.mul(2.0**LOGIT_BITS).round_().clamp_(-LARGEST, LARGEST).long()
        possible = (logits > -torch.inf).long()
        whole.sub_(1 - possible)  # so that the first of the largest is a possible one
        first = whole.argmax(-1, keepdim=True)  # the first, where several are the largest
        below = whole.gather(-1, first) - whole
        weight = self.table[below.clamp_(max=len(self.table) - 1)].mul_(possible)
        total, normaliser = 1 << TOTAL_BITS, weight.sum(-1, keepdim=True)
        frequency = weight.mul_(total - possible.sum(-1, keepdim=True))
        frequency.div_(normaliser, rounding_mode="floor").add_(possible)
        return frequency.scatter_add_(-1, first, total - frequency.sum(-1, keepdim=True))

    def pmf(self, logits: Tensor) -> Tensor:
        """Probabilities, exact in float64: (..., levels) → the same shape."""
        return self.frequencies(logits).double().mul_(2.0**-TOTAL_BITS)

    def log_pmf(self, logits: Tensor) -> Tensor:
        """log p of every level: (..., levels) → the same shape, nats, float64."""
        return self.pmf(logits).log_()

    def log_prob(self, logits: Tensor, x: Tensor) -> Tensor:
        """log p of the given levels: logits (..., levels) and integers (...) → nats, float64, of shape (...)."""
        return self.pmf(logits).gather(-1, x.long().unsqueeze(-1)).squeeze(-1).log_()

    def log_probs_of(self, table: Tensor, y: Tensor, sites: list[Site]) -> Tensor:
        """log p of each entry of given events, from their frequencies.

        Args:
            table: int32 (sites, B, levels), as `chainrule.fixedpoint.frequencies` gives them.
            y: integers (B, *walk_shape).
            sites: in the order of the walk.

        Returns:
            Nats, float64, (B, *walk_shape).
        """
        places = torch.arange(math.prod(y.shape[1:])).view(y.shape[1:])
        order = torch.stack([places[site.index] for site in sites]).to(y.device)
        symbols = y.flatten(1)[:, order].T.long()
        found = table.to(y.device).gather(-1, symbols[..., None])[..., 0].double().mul_(2.0**-TOTAL_BITS).log_()
        result = found.new_empty(len(y), len(order))
        result[:, order] = found.T
        return result.view(y.shape)
