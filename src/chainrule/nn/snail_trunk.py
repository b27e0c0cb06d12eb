"""The trunk of PixelSNAIL: PixelCNN's, with a look at all earlier pixels now and then.

    h ← h + W attention(norm(h), row, column)    behind every fourth residual block but the last

Convolutions see what is near and know what to make of it, attention sees whatever is earlier, even in a masked
convolution's blind spot. The stream at a pixel knows the pixels before it alone, so a pixel's look may include itself.

Deviations from the paper: masked residual blocks in the place of gated ones; attention is added to the stream; its keys
are made of the stream, which knows the left neighbour, and of a pixel's place, not of the pixel itself. W is zero at
first, so that the trunk begins as the PixelCNN whose weights it may have taken.

Reference: Chen et al., PixelSNAIL: An Improved Autoregressive Generative Model, 2018,
https://arxiv.org/abs/1712.09763, sections 2.2 and 2.3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from chainrule.nn.attention import AttentionCache, AttentionLayer, fixed
from chainrule.nn.fronts import Fronts
from chainrule.nn.masked_trunk import MaskedState, MaskedTrunk
from chainrule.nn.trunk import Trunk

EVERY = 4
"""Residual blocks from one attention to the next."""
HEADS, WIDTH = 1, 32
"""Of attention: heads, and channels of all of them together."""


class SnailTrunk(MaskedTrunk):
    """Type-A convolution, residual blocks and attention, ReLU, 1×1 convolution; arguments as for `Trunk`, and `size`.

    >>> import torch
    >>> SnailTrunk(2, 8, blocks=1, layer_norm=True, size=(4, 5))(torch.zeros(1, 2, 4, 5)).shape
    torch.Size([1, 8, 4, 5])
    """

    composes_exactly = True
    periodic = False

    def _layers(self, blocks: int, layer_norm: bool, one_hot: int) -> None:
        height, width = fixed(self.size)
        super()._layers(blocks, layer_norm, one_hot)
        self.reach = height
        self.places = [*range(EVERY, blocks, EVERY)] or [blocks]  # so many blocks are in front of each attention
        self.looks = nn.ModuleList(
            AttentionLayer(self.filters, HEADS, WIDTH, layer_norm=layer_norm, size=(height, width)) for _ in self.places
        )
        for look in self.looks:
            nn.init.zeros_(look.gather.weight)  # type: ignore[union-attr,arg-type]

    def outer_layers(self) -> Sequence[nn.Module]:
        return [self.input, *(table for look in self.looks for table in look.places())]  # type: ignore[operator]

    def forward(self, x: Tensor, context: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        h = self.input(x)
        looks = dict(zip(self.places, self.looks, strict=True))
        for number, block in enumerate(self.blocks, 1):
            h = block(h)
            if number in looks:
                h = self._looked(looks[number], h)
        return self._last(self._looked(looks[0], h) if 0 in looks else h, beside)

    @staticmethod
    def _looked(look: nn.Module, h: Tensor) -> Tensor:
        found: Tensor = look(h.permute(0, 2, 3, 1).flatten(1, 2))
        return h + found.unflatten(1, h.shape[2:]).permute(0, 3, 1, 2)

    def start(self, batch: int, height: int, width: int, context: Tensor | None = None) -> SnailState:
        state = super().start(batch, height, width, context)
        caches = [look.start(batch, height * width) for look in self.looks]  # type: ignore[operator]
        return SnailState(**vars(state), looks=caches)

    def start_fronts(self, fronts: Fronts) -> MaskedState:
        return Trunk.start_fronts(self, fronts)

    def step(self, state: MaskedState, beside: Tensor | None = None) -> Tensor:
        assert isinstance(state, SnailState)
        h = self.input.step(None, state.first, state.column)
        looks = dict(zip(self.places, zip(self.looks, state.looks, strict=True), strict=True))
        for number in range(len(self.blocks) + 1):
            if number:
                h = self.blocks[number - 1].step(h, state.caches[number - 1], state.column)  # type: ignore[operator]
            if number in looks:
                look, cache = looks[number]
                h = h + look.step(h, cache)  # type: ignore[operator]
        return self._last_step(h, beside)


@dataclass
class SnailState(MaskedState):
    """Where a walk stands: also the keys and values of each attention."""

    looks: list[AttentionCache] = field(default_factory=list)
