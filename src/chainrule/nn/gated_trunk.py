"""The trunk of Gated PixelCNN: two stacks of convolutions, so that no earlier pixel is out of sight.

A vertical stack sees all rows above a pixel, to both sides; a horizontal stack sees the pixels to its left and what the
vertical stack knows. tanh(a) · σ(b) takes the place of ReLU.

Reference: van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016, Figure 2 and equations 2
and 4, https://arxiv.org/abs/1606.05328
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from chainrule.errors import ModelError
from chainrule.nn.gated import Gate, GatedBlock, GatedCache
from chainrule.nn.stacks import LeftCache, LeftConv2d, RowCache, RowConv2d
from chainrule.nn.trunk import KERNEL, Trunk, zeros

LATER = 3
"""Side of the kernels of the blocks."""


class GatedTrunk(Trunk):
    """Both stacks' first layers, gated blocks, ReLU, 1×1 convolution; arguments as for `Trunk`.

    Each stack has `filters` channels.
    """

    composes_exactly = True

    def _layers(self, blocks: int, layer_norm: bool, one_hot: int) -> None:
        self.vertical_input = RowConv2d(self.inputs, self.filters, KERNEL, include=False, one_hot=one_hot)
        self.horizontal_input = LeftConv2d(self.inputs, self.filters, KERNEL, include=False, one_hot=one_hot)
        gate = Gate()
        self.blocks = nn.ModuleList(
            GatedBlock(self.filters, LATER, layer_norm=layer_norm, depth=blocks, gate=gate) for _ in range(blocks)
        )

    def condition(self, channels: int, *, one_hot: int = 0) -> None:
        if not len(self.blocks):
            raise ModelError("a trunk of 0 blocks has no room for a context: use at least 1 block")
        for block in self.blocks:
            block.condition(channels, one_hot=one_hot)  # type: ignore[operator]

    def outer_layers(self) -> Sequence[nn.Module]:
        contexts = [c for block in self.blocks for c in (block.vertical_context, block.horizontal_context)]
        return [self.vertical_input, self.horizontal_input, *(c for c in contexts if isinstance(c, nn.Module))]

    def forward(self, x: Tensor, context: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        v = self.vertical_input(x)
        h = self.horizontal_input(x) + v
        for block in self.blocks:
            v, h = block(v, h, context)
        return self._last(h, beside)

    def start(self, batch: int, height: int, width: int, context: Tensor | None = None) -> GatedState:
        return GatedState(
            row=zeros(self.horizontal_input, batch, width, self.inputs),
            above=self.vertical_input.start(batch, width),
            left=self.horizontal_input.start(batch, width),
            caches=[block.start(batch, width, context) for block in self.blocks],  # type: ignore[operator]
            first=zeros(self.vertical_input, 0),
        )

    def step(self, state: GatedState, beside: Tensor | None = None) -> Tensor:
        column = state.column
        if column == 0:  # the vertical stack takes a whole row at once
            v = state.first = self.vertical_input.step_row(state.row, state.above)
            for block, cache in zip(self.blocks, state.caches, strict=True):
                v = block.step_row(v, cache)  # type: ignore[operator]
        h = self.horizontal_input.step(state.row[:, column - 1], state.left, column) + state.first[:, column]
        for block, cache in zip(self.blocks, state.caches, strict=True):
            h = block.step(h, cache, column)  # type: ignore[operator]
        return self._last_step(h, beside)

    def observe(self, state: GatedState, pixel: Tensor) -> None:
        state.row[:, state.column] = pixel
        state.column = (state.column + 1) % state.row.shape[1]


@dataclass
class GatedState:
    """Where a walk stands."""

    row: Tensor  # (B, W, inputs): the row at hand, as far as it is known; before its first pixel, the row above
    above: RowCache
    left: LeftCache
    caches: list[GatedCache]
    first: Tensor  # (B, W, filters): the vertical stack's first layer
    column: int = 0
