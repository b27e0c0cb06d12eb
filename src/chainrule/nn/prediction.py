"""A trunk behind linear predictions: what is left of each pixel is what the network models.

    p_ik^c = b_kc + Σ_{j<i} Σ_d w_kcd(j − i) x_j^d                           k = 0 … K − 1
    r = x − p_0 (in half-bins),    s = r / (16 + |r|)

At first p_0 is ¾ W + ¾ N − ½ NW of the same channel, W, N and NW being the neighbours to the left, above, and above to
the left; it is trained. Each other p_k is one neighbour, and has no gradient: if it were trained, it would move under
the network that mixes them. The inner trunk reads x and s, the softsign of the residuals, in which differences of one
level are seen. Its features are followed by all predictions, which the head mixes with weights that the features choose
(`chainrule.heads.mixture`). To know a neighbour to a precision of 1/256 is then no longer the network's task, nor to
follow an edge.

References: Weinberger et al., The LOCO-I Lossless Image Compression Algorithm, 2000, section III.A (prediction from
neighbours, residuals as contexts), https://doi.org/10.1109/83.855427; Jia et al., Dynamic Filter Networks, 2016
(filters that a network chooses for each place), https://arxiv.org/abs/1605.09673
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.nn.conv import MaskedConv2d, WindowCache
from chainrule.nn.fronts import FrontCache, Fronts
from chainrule.nn.trunk import KERNEL, Trunk

SOFTNESS = 16.0
"""Half-bins at which a residual enters as ½: eight levels."""

PLANE = {(0, -1): 0.75, (-1, 0): 0.75, (-1, -1): -0.5}
NEIGHBOURS = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, 2), (-1, -2), (-2, 1), (-2, -1))
PREDICTORS: tuple[dict[tuple[int, int], float], ...] = (PLANE, *({place: 1.0} for place in NEIGHBOURS))
"""The predictors at first: what row and column away a neighbour is, and its weight."""


class Residuals(nn.Module):
    """Predictions in half-bins, and how pixels differ from them. It has no parameters of its own.

    Args:
        levels: of every channel.

    >>> predicted, residual = Residuals(256)(torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 1.0 - 32 / 255))
    >>> predicted.round().item(), residual.item()
    (223.0, 0.6666666865348816)
    """

    composes_exactly = True

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def predicted(self, p: Tensor) -> Tensor:
        """Predictions in units in which the levels span -1 … 1, in half-bins: 2v − (L − 1)."""
        return p * (self.levels - 1)

    def residual(self, x: Tensor, predicted: Tensor) -> Tensor:
        """How pixels `x` in -1 … 1 differ from predictions in half-bins, in half-bins."""
        return x * (self.levels - 1) - predicted

    def softened(self, x: Tensor, predicted: Tensor) -> Tensor:
        """The softsign of the residuals."""
        residual = self.residual(x, predicted)
        return residual / (residual.abs() + SOFTNESS)

    def forward(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (B, C, …) and predictions (B, K C, …), both in -1 … 1.

        Returns:
            Predictions in half-bins, and the softened residuals of the first C.
        """
        predicted = self.predicted(p)
        return predicted, self.softened(x, predicted[:, : x.shape[1]])


def _first(n: int, gradient: Tensor) -> Tensor:
    """A gradient of which only the first `n` rows are left."""
    return torch.cat([gradient[:n], torch.zeros_like(gradient[n:])])


class PredictingTrunk(nn.Module):
    """A trunk that reads pixels and their residuals, and whose features end with the predictions of each predictor.

    Args:
        channels, levels: of the pixels, which are encoded as numbers.
        inner: a trunk of 2 · channels inputs.

    >>> from chainrule.nn import MaskedTrunk
    >>> trunk = PredictingTrunk(3, 256, MaskedTrunk(6, 8, blocks=1, layer_norm=False))
    >>> trunk(torch.zeros(1, 3, 4, 5)).shape
    torch.Size([1, 41, 4, 5])
    """

    composes_exactly = True

    def __init__(self, channels: int, levels: int, inner: Trunk) -> None:
        super().__init__()
        self.predict = MaskedConv2d(channels, len(PREDICTORS) * channels, KERNEL, "A")
        with torch.no_grad():
            self.predict.weight.zero_()
            self.predict.bias.zero_()
            for first, predictor in zip(range(0, self.predict.out_channels, channels), PREDICTORS, strict=True):
                for (row, column), weight in predictor.items():
                    rows = range(first, first + channels)
                    self.predict.weight[rows, range(channels), row - 1, KERNEL // 2 + column] = weight
        for parameter in self.predict.parameters():
            parameter.register_hook(partial(_first, channels))
        self.residuals = Residuals(levels)
        self.inner = inner
        self.reach, self.periodic = KERNEL // 2 + inner.reach, inner.periodic

    @property
    def hidden(self) -> MaskedConv2d:
        """The inner trunk's last layer."""
        return self.inner.hidden

    def condition(self, channels: int, *, one_hot: int = 0) -> None:
        """As the inner trunk does."""
        self.inner.condition(channels, one_hot=one_hot)

    def outer_layers(self) -> Sequence[nn.Module]:
        """The layers that read pixels or a context."""
        return (self.predict, *self.inner.outer_layers())

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The features and predictions of every pixel, each from the pixels before it.

        Args:
            x: pixels in -1 … 1, (B, channels, H, W).
            context: for the inner trunk.

        Returns:
            (B, filters + K channels, H, W), K predictions of every channel in half-bins.
        """
        with torch.autocast(x.device.type, enabled=False):  # differences of levels need more than bfloat16's eight bits
            predicted, residual = self.residuals(x, self.predict(x))
        features = self.inner(torch.cat([x, residual], 1), context)
        return torch.cat([features.to(predicted.dtype), predicted], 1)

    def start(self, batch: int, height: int, width: int, context: Tensor | None = None) -> PredictingState:
        """The state before the first pixel."""
        return PredictingState(self.predict.start(batch, width), self.inner.start(batch, height, width, context), width)

    def start_fronts(self, fronts: Fronts) -> PredictingState:
        """The state before the first front of one picture, as for a trunk."""
        return PredictingState(self.predict.start_fronts(fronts), self.inner.start_fronts(fronts), len(fronts))

    def step(self, state: PredictingState) -> Tensor:
        """The features and predictions of the next pixel, (B, filters + K channels)."""
        state.predicted = self.residuals.predicted(self.predict.step(None, state.window, state.column))
        features = self.inner.step(state.inner)
        return torch.cat([features, state.predicted], 1)

    def observe(self, state: PredictingState, pixel: Tensor) -> None:
        """Tell the state the encoded pixel, (B, channels), and go on to the next."""
        assert state.predicted is not None
        self.predict.remember(pixel, state.window, state.column)
        residual = self.residuals.softened(pixel, state.predicted[:, : pixel.shape[1]])
        self.inner.observe(state.inner, torch.cat([pixel, residual], 1))
        state.column = (state.column + 1) % state.width


@dataclass
class PredictingState:
    """Where a walk stands: the predictor's window, the inner trunk's state, the predictions of the pixel at hand."""

    window: WindowCache | FrontCache
    inner: Any
    width: int  # or the number of fronts
    column: int = 0  # or the front
    predicted: Tensor | None = None
