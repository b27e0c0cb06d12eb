"""A trunk that starts from predictions: the network models what they leave of each pixel.

    φ = relu(inner(x, s(e, 16)) + W · s(p_k − p_0, 4)),     s(d, a) = d / (a + |d|)

e is what local least squares leave of each earlier pixel, in half-bins (`chainrule.nn.least_squares`): in its softsign
the inner trunk sees differences of one level. The p_k are predictions of every channel of the pixel itself: that of
least squares, then a plane through three neighbours, then ten neighbours by themselves. A second kind of least squares,
with samples from farther away, can give one more prediction after these, and its residuals more inputs. Where
predictions agree, the pixel is likely to agree with them: so their spread enters the features φ.

The features are followed by the predictions, and the slopes of the first. The head mixes them with weights that the
features choose (`chainrule.heads.mixture`). The network then no longer has to know a neighbour to a precision of 1/256,
nor to follow an edge. All this is computed from whole numbers, in float64, without rounding or with the same rounding
everywhere: a float model and its exact form share it.

References: Weinberger et al., The LOCO-I Lossless Image Compression Algorithm, 2000, section III.A (prediction from
neighbours, residuals as contexts), https://doi.org/10.1109/83.855427; Jia et al., Dynamic Filter Networks, 2016
(filters that a network chooses for each place), https://arxiv.org/abs/1605.09673
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.nn.conv import MaskedConv2d
from chainrule.nn.fronts import Fronts
from chainrule.nn.least_squares import LeastSquaresState, LocalLeastSquares
from chainrule.nn.surroundings import FAR, NEAR
from chainrule.nn.trunk import Trunk

SOFTNESS = 16.0
"""Half-bins at which a residual enters as ½: eight levels."""

SPREAD_SOFTNESS = 4.0
"""Half-bins at which a difference of predictions enters as ½."""


def softsign(difference: Tensor, softness: float = SOFTNESS) -> Tensor:
    """d / (a + |d|) of differences in half-bins, float64.

    >>> softsign(torch.tensor([-16.0, 0.0, 48.0])).tolist()
    [-0.5, 0.0, 0.75]
    """
    return difference / (difference.abs() + softness)


class PredictingTrunk(nn.Module):
    """A trunk that reads pixels and their residuals, and whose features end with predictions of each channel.

    Args:
        channels, levels: of the pixels, which are encoded as numbers.
        inner: a trunk of (1 + kinds) · channels inputs.
        kinds: of least squares, 1 or 2.

    >>> from chainrule.nn import MaskedTrunk
    >>> trunk = PredictingTrunk(3, 256, MaskedTrunk(6, 8, blocks=1, layer_norm=False))
    >>> trunk(torch.zeros(1, 3, 4, 5)).shape
    torch.Size([1, 47, 4, 5])
    """

    composes_exactly = True

    squares: LocalLeastSquares
    from_spread: MaskedConv2d

    def __init__(self, channels: int, levels: int, inner: Trunk, kinds: int = 1) -> None:
        super().__init__()
        self.channels, self.levels = channels, levels
        self.squares = LocalLeastSquares(channels, levels, NEAR)
        self.far = LocalLeastSquares(channels, levels, FAR, alone=False) if kinds > 1 else None
        self.predictions = sum(layer.predictions for layer in self.layers())
        self.inner = inner
        self.from_spread = MaskedConv2d(self.predictions * channels, inner.filters, 1, "B")
        nn.init.zeros_(self.from_spread.bias)
        self.reach, self.periodic = max(layer.by.top for layer in self.layers()) + inner.reach, False

    def layers(self) -> list[LocalLeastSquares]:
        """The kinds of least squares."""
        return [self.squares] if self.far is None else [self.squares, self.far]

    @property
    def hidden(self) -> MaskedConv2d:
        """The inner trunk's last layer."""
        return self.inner.hidden

    def condition(self, channels: int, *, one_hot: int = 0) -> None:
        """As the inner trunk does."""
        self.inner.condition(channels, one_hot=one_hot)

    def outer_layers(self) -> Sequence[nn.Module]:
        """The layers that read pixels, predictions or a context."""
        return (self.from_spread, *self.inner.outer_layers())

    def half_bins(self, x: Tensor) -> Tensor:
        """Pixels in -1 … 1 as whole half-bins, float64."""
        return (x.detach().double() * (self.levels - 1)).round()

    def inputs(self, x: Tensor, numbers: Sequence[Tensor], u: Tensor) -> Tensor:
        """What the inner trunk reads: pixels, and their softened residuals from each kind of least squares."""
        residuals = [layer.residuals(u, found) for layer, found in zip(self.layers(), numbers, strict=True)]
        return torch.cat([x, *(softsign(residual).to(x.dtype) for residual in residuals)], 1)

    def together(self, numbers: Sequence[Tensor]) -> Tensor:
        """The predictions of all kinds, and the slopes of the first."""
        first, *others = numbers
        first, slopes = first.tensor_split([self.squares.predictions * self.channels], 1)
        return torch.cat([first, *(found[:, : self.channels] for found in others), slopes], 1)

    def spread(self, found: Tensor) -> Tensor:
        """The first prediction of each channel, in -1 … 1, and how far the others are from it, softened; float64."""
        predictions = found[:, : self.predictions * self.channels].double().unflatten(1, (-1, self.channels))
        first, others = predictions.tensor_split([1], 1)
        return torch.cat([first / (self.levels - 1), softsign(others - first, SPREAD_SOFTNESS)], 1).flatten(1, 2)

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
        numbers = [layer(u) for layer in self.layers()]
        found = self.together(numbers)
        beside = self.from_spread(self.spread(found).to(x.dtype))
        features = self.inner(self.inputs(x, numbers, u), context, beside)
        return torch.cat([features, found], 1)  # in the wider of the types: predictions need more than bfloat16

    def rough_cost(self, u: Tensor) -> int:
        """Roughly the bits that first predictions leave of pixels in half-bins, a whole number, the same everywhere.

        It is Σ log₂(1 + |e|) of the residuals, interpolated between the powers of two, in units of 2^-16.
        """
        mantissas, exponents = torch.frexp(1 + self.squares.residuals(u, self.squares(u)).abs())
        return int(((exponents - 2 + 2 * mantissas) * 2.0**16).round().sum())

    def start(self, batch: int, height: int, width: int, context: Tensor | None = None) -> PredictingState:
        """The state before the first pixel."""
        inner = self.inner.start(batch, height, width, context)
        return PredictingState(self._squares(batch, height, width), inner, width)

    def start_fronts(self, fronts: Fronts) -> PredictingState:
        """The state before the first front of one picture, as for a trunk."""
        squares = self._squares(fronts.pictures, fronts.height, fronts.width)
        return PredictingState(squares, self.inner.start_fronts(fronts), len(fronts), fronts)

    def _squares(self, batch: int, height: int, width: int) -> list[LeastSquaresState]:
        return [layer.start(batch, height, width, self.hidden.weight.device) for layer in self.layers()]

    def step(self, state: PredictingState) -> Tensor:
        """The features and predictions of the next pixel, as `forward` has them at each."""
        state.numbers = [squares.numbers(*state.place()) for squares in state.squares]
        found = self.together(state.numbers)
        beside = self.from_spread.pointwise(self.spread(found).to(self.hidden.weight.dtype))
        return torch.cat([self.inner.step(state.inner, beside), found], 1)

    def observe(self, state: PredictingState, pixel: Tensor) -> None:
        """Tell the state the encoded pixel, (B, channels), and go on to the next."""
        u = self.half_bins(pixel)
        for squares in state.squares:
            squares.observe(*state.place(), u)
        self.inner.observe(state.inner, self.inputs(pixel, state.numbers, u))
        state.column += 1
        if state.fronts is None and state.column == state.width:
            state.row, state.column = state.row + 1, 0


@dataclass
class PredictingState:
    """Where a walk stands: what its parts remember, the place, and the predictions of the pixel at hand."""

    squares: list[LeastSquaresState]
    inner: Any
    width: int  # or the number of fronts
    fronts: Fronts | None = None
    row: int = 0
    column: int = 0  # or the front
    numbers: list[Tensor] = field(default_factory=list)

    def place(self) -> tuple[Tensor, Tensor]:
        """Rows and columns of the pixel at hand, or of all of the front."""
        if self.fronts is None:
            return torch.tensor([self.row]), torch.tensor([self.column])
        return self.fronts[self.column]
