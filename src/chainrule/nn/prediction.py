"""A trunk behind predictions: what is left of each pixel is what the network models.

    s = e / (16 + |e|),     e = what local least squares leave of a pixel, in half-bins

The inner trunk reads the pixels x and s, the softsign of the residuals, in which differences of one level are seen
(`chainrule.nn.least_squares`). Its features are followed by predictions of every channel: that of least squares, then
a plane through three neighbours, then ten neighbours by themselves; and by the slopes of the first. The head mixes
them with weights that the features choose (`chainrule.heads.mixture`). To know a neighbour to a precision of 1/256 is
then no longer the network's task, nor to follow an edge. All this is computed from whole numbers, in float64, without
rounding or with the same rounding everywhere: a float model and its exact form share it.

References: Weinberger et al., The LOCO-I Lossless Image Compression Algorithm, 2000, section III.A (prediction from
neighbours, residuals as contexts), https://doi.org/10.1109/83.855427; Jia et al., Dynamic Filter Networks, 2016
(filters that a network chooses for each place), https://arxiv.org/abs/1605.09673
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.nn.conv import MaskedConv2d
from chainrule.nn.fronts import Fronts
from chainrule.nn.least_squares import TOP, LeastSquaresState, LocalLeastSquares
from chainrule.nn.trunk import Trunk

SOFTNESS = 16.0
"""Half-bins at which a residual enters as ½: eight levels."""


def softsign(residual: Tensor) -> Tensor:
    """e / (16 + |e|) of residuals in half-bins, float64.

    >>> softsign(torch.tensor([-16.0, 0.0, 48.0])).tolist()
    [-0.5, 0.0, 0.75]
    """
    return residual / (residual.abs() + SOFTNESS)


def together(features: Tensor, numbers: Tensor) -> Tensor:
    """Features and, behind them, predictions, for which bfloat16's eight bits would not do."""
    return torch.cat([features, numbers], 1)  # in the wider of both types


class PredictingTrunk(nn.Module):
    """A trunk that reads pixels and their residuals, and whose features end with predictions of each channel.

    Args:
        channels, levels: of the pixels, which are encoded as numbers.
        inner: a trunk of 2 · channels inputs.

    >>> from chainrule.nn import MaskedTrunk
    >>> trunk = PredictingTrunk(3, 256, MaskedTrunk(6, 8, blocks=1, layer_norm=False))
    >>> trunk(torch.zeros(1, 3, 4, 5)).shape
    torch.Size([1, 47, 4, 5])
    """

    composes_exactly = True

    def __init__(self, channels: int, levels: int, inner: Trunk) -> None:
        super().__init__()
        self.levels = levels
        self.squares = LocalLeastSquares(channels, levels)
        self.inner = inner
        self.reach, self.periodic = TOP + inner.reach, False

    @property
    def hidden(self) -> MaskedConv2d:
        """The inner trunk's last layer."""
        return self.inner.hidden

    def condition(self, channels: int, *, one_hot: int = 0) -> None:
        """As the inner trunk does."""
        self.inner.condition(channels, one_hot=one_hot)

    def outer_layers(self) -> Sequence[nn.Module]:
        """The layers that read pixels or a context."""
        return self.inner.outer_layers()

    def half_bins(self, x: Tensor) -> Tensor:
        """Pixels in -1 … 1 as whole half-bins, float64."""
        return (x.detach().double() * (self.levels - 1)).round()

    def inputs(self, x: Tensor, numbers: Tensor, u: Tensor) -> Tensor:
        """What the inner trunk reads: pixels and their softened residuals."""
        return torch.cat([x, softsign(self.squares.residuals(u, numbers)).to(x.dtype)], 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The features and predictions of every pixel, each from the pixels before it.

        Args:
            x: pixels in -1 … 1, (B, channels, H, W).
            context: for the inner trunk.

        Returns:
            (B, filters + P channels + slopes, H, W): P predictions of every channel in half-bins, and the slopes of the
            first.
        """
        u = self.half_bins(x)
        numbers = self.squares(u)
        return together(self.inner(self.inputs(x, numbers, u), context), numbers)

    def start(self, batch: int, height: int, width: int, context: Tensor | None = None) -> PredictingState:
        """The state before the first pixel."""
        inner = self.inner.start(batch, height, width, context)
        return PredictingState(self.squares.start(batch, height, width, self.hidden.weight.device), inner, width)

    def start_fronts(self, fronts: Fronts) -> PredictingState:
        """The state before the first front of one picture, as for a trunk."""
        squares = self.squares.start(fronts.pictures, fronts.height, fronts.width, self.hidden.weight.device)
        return PredictingState(squares, self.inner.start_fronts(fronts), len(fronts), fronts)

    def step(self, state: PredictingState) -> Tensor:
        """The features and predictions of the next pixel, as `forward` has them at each."""
        state.numbers = state.squares.numbers(*state.place())
        return together(self.inner.step(state.inner), state.numbers)

    def observe(self, state: PredictingState, pixel: Tensor) -> None:
        """Tell the state the encoded pixel, (B, channels), and go on to the next."""
        assert state.numbers is not None
        u = self.half_bins(pixel)
        state.squares.observe(*state.place(), u)
        self.inner.observe(state.inner, self.inputs(pixel, state.numbers, u))
        state.column += 1
        if state.fronts is None and state.column == state.width:
            state.row, state.column = state.row + 1, 0


@dataclass
class PredictingState:
    """Where a walk stands: what its parts remember, the place, and the predictions of the pixel at hand."""

    squares: LeastSquaresState
    inner: Any
    width: int  # or the number of fronts
    fronts: Fronts | None = None
    row: int = 0
    column: int = 0  # or the front
    numbers: Tensor | None = None

    def place(self) -> tuple[Tensor, Tensor]:
        """Rows and columns of the pixel at hand, or of all of the front."""
        if self.fronts is None:
            return torch.tensor([self.row]), torch.tensor([self.column])
        return self.fronts[self.column]
