"""PixelIQN: the conditionals of PixelCNN by quantile regression, without a likelihood.

    x_i^c = round(Q_τ(x_i^<c, φ(x_<i))), τ ~ U(0, 1) for each entry:    sampling inverts the conditional CDF
    Q_τ(x^<c, φ) = w_c · relu(M (h_c ⊙ ψ(τ)) + m) + b_c                 on the scale of [-1, 1]
    h_c = relu(A_c φ + B_c x^<c + a_c),   ψ(τ) = relu(Σ_k cos(π k τ) e_k + e)

φ are the features of PixelCNN's trunk; the channels of a pixel are drawn in sequence, each given those before it.
Training minimises the quantile-Huber loss (`chainrule.heads.quantiles`) at one random τ for each entry. What is learnt
is a function from noise to values, so there are no probabilities: no bits/dim, no exact twin and no compression.

Deviations from the paper: the trunk is PixelCNN's rather than the gated one, so that a likelihood model of the same
trunk stands beside it, and the width of the head is chosen so that a `PixelCNNMADE` of the same size has as many
parameters; τ enters behind the trunk, by the cosine embedding and product of implicit quantile networks, and the
Huber loss ends its square at half a spacing of the levels.

References:
    Ostrovski et al., Autoregressive Quantile Networks for Generative Modeling, 2018, https://arxiv.org/abs/1806.05575
    Dabney et al., Implicit Quantile Networks for Distributional Reinforcement Learning, 2018, equations 3 and 4,
    https://arxiv.org/abs/1806.06923
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.errors import DataError, ModelError
from chainrule.heads import quantiles
from chainrule.masks import rank_mask
from chainrule.models.base import GenerativeModel, Site
from chainrule.models.pixelcnn import PixelCNN, PixelState
from chainrule.nn import MaskedLinear
from chainrule.sampling import Conditional

WIDTH = 0.77
"""Units of the head for each channel of the trunk: so many that it has the parameters of a PixelCNN-MADE's head."""

VALIDATION_TAUS = 8
"""The validation loss is a mean over a fixed grid of so many quantiles, and so no matter of chance."""


class PixelFeatures(PixelCNN):
    """PixelCNN without its output layer: the features of each pixel, over whole images or along a walk."""

    def _make_head(self, filters: int) -> None:
        pass

    def program(self) -> None:
        return None

    def _step_head(self, features: Tensor, state: PixelState) -> Tensor:
        return features


class PixelIQN(GenerativeModel):
    """Autoregressive implicit quantile network on PixelCNN's trunk.

    Args:
        shape: (C, H, W).
        levels: values of every channel, 0 … levels - 1.
        filters, blocks, layer_norm: of the trunk, as for `PixelCNN`.
        embedding: cosines that τ is embedded in.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = PixelIQN((3, 4, 4), 4, filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> x.shape, model.quantiles(x, 0.5).shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2, 3, 4, 4]))
    """

    loss_unit = "quantile loss"

    def __init__(
        self,
        shape: tuple[int, int, int],
        levels: int,
        filters: int = 128,
        blocks: int = 12,
        layer_norm: bool = True,
        embedding: int = 64,
    ) -> None:
        super().__init__(shape, levels)
        if len(self.shape) != 3:
            raise ModelError(f"PixelIQN models images: its shape is (C, H, W), not {self.shape}")
        if embedding < 1:
            raise ModelError(f"{embedding} cosines embed nothing: use at least 1")
        self.trunk = PixelFeatures(self.shape, levels, filters, blocks, layer_norm)  # type: ignore[arg-type]
        channels, self.width = self.shape[0], max(1, round(WIDTH * filters))
        inputs = torch.arange(1, channels + 1).repeat_interleave(levels if self.trunk.one_hot_input else 1)
        units = torch.arange(channels).repeat_interleave(self.width)  # a unit of rank r sees the first r channels
        self.from_features = nn.Linear(filters, channels * self.width, bias=False)
        self.channel_input = MaskedLinear(rank_mask(inputs, units))
        self.tau_input = nn.Linear(embedding, self.width)
        nn.init.ones_(self.tau_input.bias)  # so that at first the features pass whatever τ is
        self.mix = nn.Linear(self.width, self.width)
        self.output = nn.Linear(self.width, channels)
        nn.init.zeros_(self.output.bias)

    # --------------------------------------------------------------------------------------------------- parallel pass

    def quantiles(self, x: Tensor, tau: Tensor | float, context: Any = None) -> Tensor:
        """The predicted τ-quantile of each entry given the earlier entries of `x`.

        Args:
            x: integers of shape (B, *shape), in [0, levels).
            tau: one for all entries, or floats that broadcast to that shape; in [0, 1].

        Returns:
            (B, *shape), in levels, before rounding; they may leave [0, levels - 1] a little.

        Raises:
            DataError: `x` holds no events of this model, or `tau` leaves [0, 1].
        """
        self._refuse_context(context)
        v = self._float(self.checked(x))
        tau = torch.as_tensor(tau, dtype=v.dtype, device=v.device)
        if tau.numel() and not bool(((tau >= 0) & (tau <= 1)).all()):
            raise DataError("a quantile is named by a number from 0 to 1: pass such `tau`")
        q = self._quantiles(self._hidden(v), tau[(None,) * (v.ndim - tau.ndim)])
        return (q + 1.0) * ((self.levels - 1) / 2.0)

    def loss(self, x: Tensor, context: Any = None) -> Tensor:
        """The mean quantile-Huber loss at one random τ for each entry, on the scale of [-1, 1]."""
        self._refuse_context(context)
        v = self._float(x)
        return self._loss(v, self._hidden(v), torch.rand_like(v))

    def validation_loss(self, x: Tensor, context: Any = None) -> Tensor:
        """The same with each τ of a grid for each entry: no matter of chance."""
        self._refuse_context(context)
        v = self._float(x)
        h = self._hidden(v)
        taus = [(k + 0.5) / VALIDATION_TAUS for k in range(VALIDATION_TAUS)]
        return torch.stack([self._loss(v, h, v.new_full((1, 1, 1, 1), tau)) for tau in taus]).mean()

    def _loss(self, v: Tensor, h: Tensor, tau: Tensor) -> Tensor:
        q, target = self._quantiles(h, tau).to(v.dtype), quantiles.scaled(v, self.levels)
        return quantiles.quantile_huber(target, q, tau, quantiles.kappa(self.levels)).mean()

    def _hidden(self, v: Tensor) -> Tensor:
        """h of every entry from the earlier ones: levels as floats (B, C, H, W) → (B, H, W, C, width)."""
        v_last, features = v.permute(0, 2, 3, 1), self.trunk._features(v).permute(0, 2, 3, 1)
        pre = self.from_features(features) + self.channel_input(self.trunk._encode(v_last))
        return F.relu(pre).unflatten(-1, (self.shape[0], self.width))

    def _quantiles(self, h: Tensor, tau: Tensor) -> Tensor:
        """(B, H, W, C, width) and τ, which broadcasts to the (B, C, H, W) quantiles on the scale of [-1, 1]."""
        q = self._quantile(h, tau.permute(0, 2, 3, 1), self.output.weight, self.output.bias)
        return q.permute(0, 3, 1, 2)

    def _quantile(self, h: Tensor, tau: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(…, width) and τ, which broadcasts to (…) → (…). One τ for all is embedded once."""
        k = torch.arange(self.tau_input.in_features, dtype=h.dtype, device=h.device)
        embedded = F.relu(self.tau_input(torch.cos(math.pi * tau[..., None] * k)))
        return (F.relu(self.mix(h * embedded)) * weight).sum(-1) + bias

    # ----------------------------------------------------------------------------------------------------------- steps

    @property
    def period(self) -> int:
        return self.trunk.period

    def start(self, batch: int, context: Any = None) -> PixelState:
        self._refuse_context(context)
        state = self.trunk.start(batch)
        assert isinstance(state, PixelState)
        state.head = self.channel_input.prepare()
        return state

    def conditional(self, state: PixelState) -> Conditional:
        self.trunk._step_to_pixel(state)
        units = slice(state.channel * self.width, (state.channel + 1) * self.width)
        known = state.encoded()  # of the channels to come the mask takes no notice
        pre = F.linear(state.pixel, self.from_features.weight[units]) + state.head.part(known, units)
        return self._inverse_cdf(F.relu(pre), state.channel)

    def observe(self, state: PixelState, value: Tensor) -> PixelState:
        after = self.trunk.observe(state, value)
        assert isinstance(after, PixelState)
        return after

    def full_conditional(self, y: Tensor, site: Site, context: Any = None) -> Conditional:
        self._refuse_context(context)
        channel, row, column = site.index
        return self._inverse_cdf(self._hidden(self._float(y))[:, row, column, channel], channel)

    def _inverse_cdf(self, h: Tensor, channel: int) -> Conditional:
        """From uniforms (B,) to the levels nearest to their quantiles, given h (B, width)."""
        weight, bias = self.output.weight[channel], self.output.bias[channel]
        return lambda u: quantiles.nearest_level(self._quantile(h, u.to(h.dtype), weight, bias), self.levels)
