"""The discretised mixture of logistics in integers: `chainrule.heads.mixture`, without a transcendental function.

All is int64. Lengths are multiples of 2^-10 half-bins, arguments of σ multiples of 2^-20, values of σ multiples of
2^-32. σ is interpolated linearly in a table made by multiplying and dividing integers; the CDFs never fall, and their
differences are the masses of the bins. No sum of products outgrows 2^63.
"""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule.errors import ModelError
from chainrule.fixedpoint.exact_softmax import (
    LARGEST,
    LOGIT_BITS,
    TABLE_ONE,
    TOTAL_BITS,
    WEIGHT_BITS,
    exp_table,
    powers,
)
from chainrule.heads.mixture import FARTHEST, FLATTEST, SHARPEST, LogisticMixture, Mixture, half_bins, offset
from chainrule.nn.least_squares import LARGEST_WEIGHT

REACH, STEP_BITS = 23, 7
"""The table of σ goes from −23 to 23, beyond which σ · 2^32 rounds to 0 or 2^32, in steps of 2^-7."""

ARGUMENT_BITS, VALUE_BITS = 20, 32
LENGTH_BITS = 10

SHARE_BITS = 20
"""Weights of components are at most 2^20; the largest is at least 2^19."""

CHOICE_BITS = 8
"""Weights of predictions drop this many of σ's bits, so that their sums do not outgrow 2^62."""

SCALED_BITS = 40
"""The CDF of the mixture is brought below 2^40 before it becomes frequencies."""

MOST_COMPONENTS = 2**10

STEEPEST = LARGEST_WEIGHT + 1
"""What a coefficient of an earlier channel's residual may come to: a slope of least squares, and tanh."""

ONE, EDGE = 1 << VALUE_BITS, REACH << ARGUMENT_BITS


@functools.cache
def sigmoid_table() -> tuple[int, ...]:
    """⌊2^32 · σ(i / 2^7) + ½⌋ for i = −23 · 2^7 … 23 · 2^7; the same on every machine.

    >>> table = sigmoid_table()
    >>> len(table), table[0], table[2944], table[-1]
    (5889, 0, 2147483648, 4294967296)
    """
    wanted = itertools.islice(powers(STEP_BITS), (REACH << STEP_BITS) + 1)
    falling = [((power << (VALUE_BITS + 1)) // (TABLE_ONE + power) + 1) >> 1 for power in wanted]
    return tuple(falling[:0:-1]) + tuple((1 << VALUE_BITS) - value for value in falling)


class ExactLogisticMixture(LogisticMixture):
    """The mixture in integers: what `LogisticMixture` calls logits are frequencies, int64, with sum 2^22.

    A component's share of the mixture is at most 2^20, the largest at least 2^19. With the table's σ, L levels and
    w_j = 2v_j − (L − 1), for each channel c and component k and each edge w between two levels,

        mean_ck = ⌊m_ck (L − 1) 2^10⌉ + ⌊Σ_{j<c} (2 σ(2 a_cjk) − 2^32) w_j / 2^22⌋,
            or, from predictions p on the grid 2^-10,
            ⌊m_ck 2^15⌉ + 2^10 p_c + ⌊Σ_{j<c} (… + 2^32 g_cj) 2^10 (w_j − p_j) / 2^32⌋
        2^10 p_c = 2^10 p_0c + ⌊Σ_{i>0} ⌊(4 σ(b_ci) − 2^33) / 2^8⌋ 2^10 (p_ic − p_0c) / 2^24⌋,
            or ⌊p_ic⌉ 2^10 in a copy of p_i
        F_ck(w) = σ(⌊(2^10 w − mean_ck) ⌊σ(ρ_ck − b) / 2⌋ / 2^17⌋)
        G(w)    = ⌊Σ_k share_k F_ck(w) / D⌋,   S = ⌊Σ_k share_k 2^32 / D⌋   with D = ⌊Σ_k share_k 2^32 / 2^40⌋ + 1
        f_v     = 1 + ⌊(2^22 − L) G(above v) / S⌋ − ⌊(2^22 − L) G(below v) / S⌋

    and after the channel took a level whose bin has mass_k = max(1, F_ck(above) − F_ck(below)),

        share_k ← ⌊share_k mass_k / D⌋   with D = ⌊max_k share_k mass_k / 2^20⌋ + 1

    F and G are 0 below the lowest level; F is 2^32 and G is S above the highest. docs/format.md goes step by step.

    >>> mixture = ExactLogisticMixture(LogisticMixture(channels=1, levels=4, components=2))
    >>> mixture.logits(torch.zeros(1, 6), torch.zeros(1, 1)).tolist()
    [[[1574655, 522497, 522496, 1574656]]]
    """

    sigmoids: Tensor
    table: Tensor

    def __init__(self, mixture: LogisticMixture) -> None:
        if mixture.components > MOST_COMPONENTS:
            raise ModelError(f"{mixture.components:,} components have no exact form: use at most {MOST_COMPONENTS:,}")
        farthest = (FARTHEST + 1) * (mixture.levels - 1) << LENGTH_BITS  # a residual
        if mixture.predictions and (mixture.channels - 1) * (STEEPEST * farthest << VALUE_BITS) >= 2**63:
            raise ModelError(
                f"predictions of {mixture.channels} channels of {mixture.levels:,} levels have no exact form: "
                "use fewer levels, or prediction=0"
            )
        super().__init__(mixture.channels, mixture.levels, mixture.components, mixture.predictions, mixture.copies)
        self.register_buffer("table", torch.tensor([*exp_table(), 0]), persistent=False)
        self.register_buffer("sigmoids", torch.tensor(sigmoid_table()), persistent=False)

    def split(self, raw: Tensor) -> Mixture:
        """(..., numbers) → shares, means in 2^-10 half-bins, inverse scales in 2^-27, coefficients in 2^-32."""
        logits, means, sharpness, coefficients, *behind = self.pieces(raw.double())
        whole = logits.mul(2.0**LOGIT_BITS).round_().clamp_(-LARGEST, LARGEST).long()
        below = whole.amax(-1, keepdim=True) - whole
        bound, shift = int(FLATTEST) << ARGUMENT_BITS, int(offset(self.levels) * 2**ARGUMENT_BITS)
        arguments = sharpness.mul(2.0**ARGUMENT_BITS).round_().sub_(shift).clamp_(-bound, bound).long()
        doubled = coefficients.mul(2.0 ** (ARGUMENT_BITS + 1)).round_().clamp_(-EDGE, EDGE).long()
        scale = self.unit * 2.0**LENGTH_BITS
        return Mixture(
            self.table[below.clamp_(max=len(self.table) - 1)] >> (WEIGHT_BITS - SHARE_BITS),
            F.pad(means.mul(scale).round_().clamp_(-(2.0**48), 2.0**48).long(), (0, self.copies)),
            self.sigmoid(arguments) >> 1,
            2 * self.sigmoid(doubled) - ONE + (behind[2].mul(2.0**VALUE_BITS).long().unsqueeze(-1) if behind else 0),
            self.starts(*behind[:2]) if behind else None,
        )

    def mixed(self, choices: Tensor, predictions: Tensor) -> Tensor:
        """Choices, and predictions, which lie on the grid 2^-10 already → in 2^-10 half-bins."""
        first, others = predictions.mul(2.0**LENGTH_BITS).long().tensor_split([1], -2)
        arguments = choices.mul(2.0**ARGUMENT_BITS).round_().clamp_(-EDGE, EDGE).long()
        weights = (4 * self.sigmoid(arguments) - 2 * ONE) >> CHOICE_BITS
        mixed = first.squeeze(-2) + ((weights * (others - first)).sum(-2) >> (VALUE_BITS - CHOICE_BITS))
        farthest = FARTHEST * (self.levels - 1) << LENGTH_BITS
        return mixed.clamp_(-farthest, farthest)

    def copied(self, predictions: Tensor) -> Tensor:
        """Neighbours: whole half-bins, but outside the picture, where the first prediction stands for one; rounded."""
        return super().copied(predictions).round().long() << LENGTH_BITS

    def sigmoid(self, z: Tensor) -> Tensor:
        """2^32 σ(z / 2^20), interpolated between two entries of the table: int64 → the same shape."""
        z = (z + EDGE).clamp_(0, 2 * EDGE - 1)
        bits = ARGUMENT_BITS - STEP_BITS
        place = z.flatten() >> bits
        low = self.sigmoids.index_select(0, place)
        rise = self.sigmoids.index_select(0, place.add_(1)).sub_(low)
        return rise.view_as(z).mul_(z.bitwise_and_((1 << bits) - 1)).bitwise_right_shift_(bits).add_(low.view_as(z))

    def component(self, mixture: Mixture, channel: int, v: Tensor) -> tuple[Tensor, Tensor]:
        """Means and inverse scales of a channel's components, given the levels `v` (..., C) of earlier ones."""
        mean, inverse, coefficients = mixture.of_channel(channel)
        if mixture.predicted is not None:
            mean = mean + mixture.predicted[..., channel, :]
        if channel:
            bits = LENGTH_BITS if mixture.predicted is not None else 0  # of the residuals
            earlier = mixture.residuals(channel, half_bins(v.long(), self.levels) << bits)
            mean = mean + ((coefficients * earlier).sum(-2) >> (VALUE_BITS - LENGTH_BITS + bits))
        farthest = FARTHEST * (self.levels - 1) << LENGTH_BITS
        return mean.clamp(-farthest, farthest), inverse

    def cdf(self, w: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
        """F at edges `w`, in half-bins: integers up to 2^32."""
        unit = LENGTH_BITS + VALUE_BITS - 1 - (SHARPEST.bit_length() - 1) - ARGUMENT_BITS
        return self.sigmoid(((w << LENGTH_BITS) - mean) * inverse >> unit)

    def masses(self, mixture: Mixture, channel: int, v: Tensor) -> Tensor:
        mean, inverse = self.component(mixture, channel, v)
        w = half_bins(v[..., channel, None].long(), self.levels)
        above = self.cdf(w + 1, mean, inverse).masked_fill_(w == self.levels - 1, ONE)
        below = self.cdf(w - 1, mean, inverse).masked_fill_(w == 1 - self.levels, 0)
        return (above - below).clamp_(min=1)

    def posterior(self, weights: Tensor, masses: Tensor) -> Tensor:
        joint = weights * masses
        return joint.div_((joint.amax(-1, keepdim=True) >> SHARE_BITS) + 1, rounding_mode="floor")

    def edges(self, raw: Tensor, v: Tensor) -> Tensor:
        """Where the levels of whole pixels lie in their conditionals, without computing all of these.

        Args:
            raw: (..., numbers), as for `logits`.
            v: levels, (..., C).

        Returns:
            int64 (..., C, 2): the sum of the frequencies of all lower levels, and that of the level itself.
        """
        mixture, found = self.split(raw), []
        weights, v = mixture.weights, v.long()
        for channel in range(self.channels):
            mean, inverse = self.component(mixture, channel, v)
            w, total = half_bins(v[..., channel, None], self.levels), weights.sum(-1, keepdim=True) << VALUE_BITS
            divisor, sums = (total >> SCALED_BITS) + 1, []
            for edge, outside, beyond in ((w - 1, w == 1 - self.levels, 0), (w + 1, w == self.levels - 1, ONE)):
                cdf = self.cdf(edge, mean, inverse).masked_fill_(outside, beyond)
                sums.append((cdf * weights).sum(-1, keepdim=True).div_(divisor, rounding_mode="floor"))
            steps, last = torch.cat(sums, -1), total.div(divisor, rounding_mode="floor")
            steps.mul_((1 << TOTAL_BITS) - self.levels).div_(last, rounding_mode="floor")
            start, end = steps.unbind(-1)
            found.append(torch.stack([start + v[..., channel], end - start + 1], -1))
            if channel < self.channels - 1:
                weights = self.posterior(weights, self.masses(mixture, channel, v))
        return torch.stack(found, -2)

    def all_levels(self, mixture: Mixture, channel: int, v: Tensor, weights: Tensor) -> Tensor:
        mean, inverse = self.component(mixture, channel, v)
        edges = half_bins(torch.arange(self.levels - 1, device=mean.device), self.levels) + 1
        inner = mean.new_zeros(*mean.shape[:-1], self.levels - 1)
        for k in range(self.components):
            cdf = self.cdf(edges, mean[..., k, None], inverse[..., k, None])
            inner += cdf.mul_(weights[..., k, None])
        total = weights.sum(-1, keepdim=True) << VALUE_BITS
        divisor = (total >> SCALED_BITS) + 1
        steps = torch.cat([torch.zeros_like(total), inner, total], -1).div_(divisor, rounding_mode="floor")
        last = steps[..., -1:].clone()
        steps.mul_((1 << TOTAL_BITS) - self.levels).div_(last, rounding_mode="floor")
        return steps.diff(dim=-1).add_(1)
