"""The trunk of PixelCNN: a masked 7×7 convolution and residual blocks of masked convolutions.

Masked 3×3 convolutions leave a blind spot to the right above each pixel (Figure 1 of the Gated PixelCNN paper).

Reference: van den Oord et al., Pixel Recurrent Neural Networks, 2016, Table 1, https://arxiv.org/abs/1601.06759
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from chainrule.nn.conv import MaskedConv2d, WindowCache
from chainrule.nn.fronts import FrontCache, Fronts
from chainrule.nn.residual import ResidualBlock
from chainrule.nn.trunk import KERNEL, Trunk


class MaskedTrunk(Trunk):
    """Type-A convolution, residual blocks, ReLU, 1×1 convolution; arguments as for `Trunk`.

    >>> import torch
    >>> MaskedTrunk(2, 8, blocks=1, layer_norm=True)(torch.zeros(1, 2, 4, 5)).shape
    torch.Size([1, 8, 4, 5])
    """

    composes_exactly = True

    def _layers(self, blocks: int, layer_norm: bool, one_hot: int) -> None:
        self.input = MaskedConv2d(self.inputs, self.filters, KERNEL, "A", one_hot=one_hot)
        self.blocks = nn.ModuleList(
            ResidualBlock(self.filters, layer_norm=layer_norm, depth=blocks) for _ in range(blocks)
        )

    def outer_layers(self) -> Sequence[nn.Module]:
        return (self.input,)

    def forward(self, x: Tensor, context: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        h = self.input(x)
        for block in self.blocks:
            h = block(h)
        return self._last(h, beside)

    def start(self, batch: int, height: int, width: int, context: Tensor | None = None) -> MaskedState:
        first, *caches = (layer.start(batch, width) for layer in (self.input, *self.blocks))  # type: ignore[operator]
        return MaskedState(first, caches, width)

    def start_fronts(self, fronts: Fronts) -> MaskedState:
        first, *caches = (layer.start_fronts(fronts) for layer in (self.input, *self.blocks))  # type: ignore[operator]
        return MaskedState(first, caches, len(fronts))

    def step(self, state: MaskedState, beside: Tensor | None = None) -> Tensor:
        h = self.input.step(None, state.first, state.column)
        for block, cache in zip(self.blocks, state.caches, strict=True):
            h = block.step(h, cache, state.column)  # type: ignore[operator]
        return self._last_step(h, beside)

    def observe(self, state: MaskedState, pixel: Tensor) -> None:
        self.input.remember(pixel, state.first, state.column)
        state.column = (state.column + 1) % state.width


@dataclass
class MaskedState:
    """Where a walk stands: a cache for each layer that sees neighbours."""

    first: WindowCache | FrontCache
    caches: list[WindowCache | FrontCache]
    width: int  # or the number of fronts
    column: int = 0  # or the front
