"""The quantile head: inverse CDFs by quantile regression, without a likelihood.

    x_i^c = round(Q_τ(x_i^<c, φ(x_<i))), τ ~ U(0, 1) for each entry:    sampling inverts the conditional CDF
    Q_τ(x^<c, φ) = w_c · relu(M (h_c ⊙ ψ(τ)) + m) + b_c                 on the scale of [-1, 1]
    h_c = relu(A_c φ + B_c x^<c + a_c),   ψ(τ) = relu(Σ_k cos(π k τ) e_k + e)

Training minimises the quantile-Huber loss (`chainrule.heads.quantile_loss`) at one random τ for each entry; validation
measures it on a fixed grid of τ. What is learnt is a function from noise to values, so there are no probabilities.

References:
    - Ostrovski et al., Autoregressive Quantile Networks for Generative Modeling, 2018, https://arxiv.org/abs/1806.05575
    - Dabney et al., Implicit Quantile Networks for Distributional Reinforcement Learning, 2018, equations 3 and 4,
      https://arxiv.org/abs/1806.06923
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.contract import InverseCDF
from chainrule.errors import ModelError
from chainrule.heads.head import Head
from chainrule.heads.quantile_loss import kappa, nearest_level, quantile_huber, scaled
from chainrule.masks import rank_mask
from chainrule.nn import LevelEncoding, MaskedLinear
from chainrule.nn.linear import PreparedLinear

WIDTH = 0.77
"""Units of the head for each feature: with these it has as many parameters as a MADE head."""

VALIDATION_TAUS = 8
"""The validation loss is a mean over this many fixed quantiles, so that chance plays no part in it."""


class QuantileHead(Head):
    """Implicit quantile network over the channels of a pixel.

    Args:
        embedding: cosines that τ is embedded in; the other arguments as for `Head`.

    Raises:
        ModelError: there are no cosines.
    """

    has_likelihood = False
    loss_unit = "quantile loss"

    def __init__(self, channels: int, levels: int, filters: int, encoding: LevelEncoding, embedding: int = 64) -> None:
        super().__init__(channels, levels, filters, encoding)
        if embedding < 1:
            raise ModelError(f"{embedding} cosines embed nothing: use at least 1")
        self.encoding, self.width = encoding, max(1, round(WIDTH * filters))
        inputs = torch.arange(1, channels + 1).repeat_interleave(encoding.width)
        units = torch.arange(channels).repeat_interleave(self.width)  # a unit of rank r sees the first r channels
        self.from_features = nn.Linear(filters, channels * self.width, bias=False)
        self.channel_input = MaskedLinear(rank_mask(inputs, units), one_hot=encoding.one_hot)
        self.tau_input = nn.Linear(embedding, self.width)
        nn.init.ones_(self.tau_input.bias)  # so that at first the features pass whatever τ is
        self.mix = nn.Linear(self.width, self.width)
        self.output = nn.Linear(self.width, channels)
        nn.init.zeros_(self.output.bias)

    def outer_layers(self) -> Sequence[nn.Module]:
        return self.channel_input, self.tau_input, self.output

    def forward(self, features: Tensor, v: Tensor) -> Tensor:
        """h of every entry: (..., filters) and (..., C) → (..., C, width)."""
        pre = self.from_features(features) + self.channel_input(self.encoding(v))
        return F.relu(pre).unflatten(-1, (self.channels, self.width))

    def start(self, features: Tensor, before: QuantileState | None = None) -> QuantileState:
        weights = self.channel_input.prepare() if before is None else before.weights
        table = self.encoding.table(self.mix.weight) if before is None else before.table
        values = torch.zeros(len(features), self.channels, dtype=torch.long, device=features.device)
        return QuantileState(features, values, table, weights)

    def logits(self, state: QuantileState) -> InverseCDF:
        units = slice(state.channel * self.width, (state.channel + 1) * self.width)
        known = state.table[state.values].flatten(1)  # the mask ignores the channels to come
        pre = F.linear(state.features, self.from_features.weight[units]) + state.weights.part(known, units)
        return self.inverse_cdf(F.relu(pre), state.channel)

    def observe(self, state: QuantileState, value: Tensor) -> QuantileState:
        state.values[:, state.channel] = value
        state.channel += 1
        return state

    def inverse_cdf(self, h: Tensor, channel: int) -> InverseCDF:
        """From uniforms (B,) to the levels nearest to their quantiles, given a channel's h (B, width)."""
        weight, bias = self.output.weight[channel], self.output.bias[channel]
        return lambda u: nearest_level(self._quantile(h, u.to(h.dtype), weight, bias), self.levels)

    def quantiles(self, h: Tensor, tau: Tensor) -> Tensor:
        """h (..., C, width) and τ, which broadcasts to the (..., C) quantiles on the scale of [-1, 1]."""
        return self._quantile(h, tau, self.output.weight, self.output.bias)

    def loss(self, features: Tensor, v: Tensor) -> Tensor:
        """The quantile-Huber loss, (..., C): at random τ while training, as a mean over a grid of τ otherwise."""
        h = self(features, v)
        if self.training:
            return self._loss(v, h, torch.rand_like(v))
        grid = [v.new_tensor((k + 0.5) / VALIDATION_TAUS) for k in range(VALIDATION_TAUS)]
        return torch.stack([self._loss(v, h, tau) for tau in grid]).mean(0)

    def _loss(self, v: Tensor, h: Tensor, tau: Tensor) -> Tensor:
        q = self.quantiles(h, tau).to(v.dtype)
        return quantile_huber(scaled(v, self.levels), q, tau, kappa(self.levels))

    def _quantile(self, h: Tensor, tau: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(…, width) and τ, which broadcasts to (…) → (…). One τ for all is embedded once."""
        k = torch.arange(self.tau_input.in_features, dtype=h.dtype, device=h.device)
        embedded = F.relu(self.tau_input(torch.cos(math.pi * tau[..., None] * k)))
        return (F.relu(self.mix(h * embedded)) * weight).sum(-1) + bias


@dataclass
class QuantileState:
    """The pixel at hand: its features, its channels as far as they are known, and the prepared weights."""

    features: Tensor  # (B, filters)
    values: Tensor  # (B, C)
    table: Tensor  # (levels, width): how each level of a channel enters
    weights: PreparedLinear
    channel: int = 0
