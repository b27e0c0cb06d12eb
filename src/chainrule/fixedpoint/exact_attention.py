"""Attention in exact arithmetic: integer scores, weights from the table of exponentials, one division.

With q, k and v as integers in units of 2^-10, 2^-10 and 2^-12,

    s_ij = ⌊2^-10 Σ_d Q_id K_jd⌉,    w_ij = ⌊table[max_j s_ij − s_ij] / 2^11⌋,    y_i = (Σ_j w_ij V_j / Σ_j w_ij) 2^-12

Every sum is one of integers below 2^53, exact in float64 in any order; the quotient is one division, which IEEE 754
rounds alike everywhere. So the parallel pass and the walk with cached keys and values give the same bits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from chainrule.fixedpoint.arithmetic import LIMITS
from chainrule.fixedpoint.exact_softmax import LOGIT_BITS, WEIGHT_BITS, exp_table
from chainrule.nn import CausalAttention

QUERY_BITS, KEY_BITS, VALUE_BITS = 10, 10, 12
LARGEST = 2**16
"""Queries and keys are clamped to ±2^16 · 2^-10, values to ±2^17 · 2^-12."""
SHARE_BITS = 20
"""The largest weight is 2^20."""
PASS = 2**22
"""Scores that are held at once."""


class ExactCausalAttention(CausalAttention):
    """`CausalAttention` in integers, carried by float64."""

    carrier, limit = "float64", LIMITS["float64"]
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        weights = torch.tensor([*exp_table(), 0]) >> (WEIGHT_BITS - SHARE_BITS)
        self.register_buffer("table", weights.double(), persistent=False)

    def whole(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Integers in place of queries (first divided by √d), keys and values."""
        scaled = q.double() * (1.0 / math.sqrt(q.shape[-1]))
        found = ((scaled, QUERY_BITS, LARGEST), (k.double(), KEY_BITS, LARGEST), (v.double(), VALUE_BITS, 2 * LARGEST))
        q, k, v = (x.mul(2.0**bits).round_().clamp_(-most, most) for x, bits, most in found)
        return q, k, v

    def mixed(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        """Integers (..., n, d), (..., m, d), (..., m, d) → (..., n, d); `seen`, if given, says what each of n sees."""
        scores = (q @ k.mT).mul_(2.0 ** (LOGIT_BITS - QUERY_BITS - KEY_BITS)).round_()
        if seen is not None:
            scores.masked_fill_(~seen, -torch.inf)
        below = scores.amax(-1, keepdim=True) - scores
        weights = self.table[below.clamp_(max=len(self.table) - 1).long()]
        return ((weights @ v) / weights.sum(-1, keepdim=True)).mul_(2.0**-VALUE_BITS).float()

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length = q.shape[-2]
        q, k, v = self.whole(q, k, v)
        found = torch.empty(q.shape, dtype=torch.float32, device=q.device)
        rows = max(1, PASS // max(1, length * q.shape[0] * q.shape[1]))
        for first in range(0, length, rows):
            end = min(first + rows, length)
            seen = torch.ones(end - first, end, dtype=torch.bool, device=q.device).tril_(first)
            found[:, :, first:end] = self.mixed(q[:, :, first:end], k[:, :, :end], v[:, :, :end], seen)
        return found

    def step(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.mixed(*self.whole(q[:, :, None], k, v), None)[:, :, 0]
