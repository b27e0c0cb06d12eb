"""The gated block in exact arithmetic: the convolutions of its two stacks, and its gate from a table of integers."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule.fixedpoint.exact_layers import ExactProduct, gathered
from chainrule.fixedpoint.exact_softmax import LOGIT_BITS, TABLE_ONE, powers
from chainrule.fixedpoint.grid import Grids
from chainrule.nn import Gate, LeftCache, LeftConv2d, RowCache, RowConv2d

GATE_BITS = 20
"""The table holds multiples of 2^-20."""


@functools.cache
def tanh_table() -> tuple[int, ...]:
    """⌊2^20 · tanh(d / 2^11) + ½⌋ for d = 0, 1, … up to the first that is 2^20; the same on every machine.

    With e = exp(−d / 2^10), tanh(d / 2^11) = (1 − e) / (1 + e).

    >>> table = tanh_table()
    >>> table[0], table[2048] / 2**20, table[-1] == 2**20, len(table)
    (0, 0.7615938186645508, True, 15617)
    """
    entries = (((TABLE_ONE - e << (GATE_BITS + 1)) // (TABLE_ONE + e) + 1) >> 1 for e in powers(LOGIT_BITS))
    return (*itertools.takewhile(lambda entry: entry < 1 << GATE_BITS, entries), 1 << GATE_BITS)


class ExactGate(Gate):
    """`Gate` by table: σ(b) = ½ + ½ tanh(b / 2), so that one table serves both factors.

    tanh reads its argument to 2^-11, σ to 2^-10; beyond the table both are constant. The factors are exact in float32,
    their product is rounded once.
    """

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        entries = tanh_table()
        both = [*(-entry for entry in reversed(entries[1:])), *entries]
        self.most = len(entries) - 1
        self.register_buffer("table", torch.tensor(both, dtype=torch.float32).mul_(2.0**-GATE_BITS), persistent=False)

    def forward(self, x: Tensor, dim: int = 1) -> Tensor:
        a, b = x.chunk(2, dim)
        return self._tanh(a, LOGIT_BITS + 1).mul_(self._tanh(b, LOGIT_BITS).mul_(0.5).add_(0.5))

    def _tanh(self, x: Tensor, bits: int) -> Tensor:
        """tanh of x · 2^(bits − 11)."""
        place = x.mul(2.0**bits).round_().clamp_(-self.most, self.most).add_(self.most)
        return self.table.take(place.long())


class ExactRowConv2d(ExactProduct, RowConv2d):
    """`RowConv2d` with exact sums."""

    matrix: Tensor

    def __init__(self, layer: RowConv2d, grids: Grids) -> None:
        self.take_over(layer, grids)
        self.register_buffer("matrix", self.grid_weight.permute(0, 2, 3, 1).flatten(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = F.pad(self.quantised(x.permute(0, 2, 3, 1)), (0, 0, self.reach, self.reach, self.reach, 0))
        taps = list(itertools.product(range(self.rows), range(self.kernel)))
        return F.linear(gathered(padded, taps, height, width), self.matrix, self.grid_bias).float().permute(0, 3, 1, 2)

    def matrix_and_bias(self) -> tuple[Tensor, Tensor]:
        return self.matrix, self.grid_bias

    def step_row(self, x: Tensor, cache: RowCache) -> Tensor:
        return super().step_row(self.quantised(x), cache).float()


class ExactLeftConv2d(ExactProduct, LeftConv2d):
    """`LeftConv2d` with exact sums."""

    matrix: Tensor

    def __init__(self, layer: LeftConv2d, grids: Grids) -> None:
        self.take_over(layer, grids)
        self.register_buffer("matrix", self.grid_weight.permute(0, 2, 3, 1).flatten(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = F.pad(self.quantised(x.permute(0, 2, 3, 1)), (0, 0, self.reach, 0))
        taps = [(0, j) for j in range(self.taps)]
        return F.linear(gathered(padded, taps, height, width), self.matrix, self.grid_bias).float().permute(0, 3, 1, 2)

    def matrix_and_bias(self) -> tuple[Tensor, Tensor]:
        return self.matrix, self.grid_bias

    def step(self, x: Tensor, cache: LeftCache, column: int) -> Tensor:
        return super().step(self.quantised(x), cache, column).float()
