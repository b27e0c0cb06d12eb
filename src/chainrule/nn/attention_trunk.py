"""The trunk of an image transformer: attention over all earlier pixels, in raster order.

    h_i = e(x_{i−1}) + r_row(i) + c_column(i)   (e(x_{−1}) is a vector of its own),    features = blocks(h)

Each pixel's stream begins with the pixel before it and its own place, and from block to block gathers from all earlier
ones; a walk keeps their keys and values.

References: Chen et al., Generative Pretraining from Pixels, 2020,
https://proceedings.mlr.press/v119/chen20s.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.errors import ModelError
from chainrule.nn.attention import AttentionBlock, AttentionCache, every_place, fixed
from chainrule.nn.conv import MaskedConv2d
from chainrule.nn.trunk import Trunk

HEAD = 32
"""Channels of an attention head, about."""


class AttentionTrunk(Trunk):
    """Embedding, blocks of causal attention, ReLU, 1×1 convolution; arguments as for `Trunk`, and `size`.

    >>> AttentionTrunk(2, 8, blocks=1, layer_norm=True, size=(4, 5))(torch.zeros(1, 2, 4, 5)).shape
    torch.Size([1, 8, 4, 5])
    """

    composes_exactly = True
    periodic = False

    def _layers(self, blocks: int, layer_norm: bool, one_hot: int) -> None:
        height, width = fixed(self.size)
        self.reach = height
        heads = max(1, round(self.filters / HEAD))
        heads -= next(k for k in range(heads) if self.filters % (heads - k) == 0)
        self.input = MaskedConv2d(self.inputs, self.filters, 1, "B", one_hot=one_hot)
        self.first_input, self.row_input, self.column_input = (
            nn.Embedding(n, self.filters) for n in (1, height, width)
        )
        for table in (self.first_input, self.row_input, self.column_input):
            nn.init.normal_(table.weight, std=0.1)
        self.blocks = nn.ModuleList(
            AttentionBlock(self.filters, heads, layer_norm=layer_norm, depth=blocks) for _ in range(blocks)
        )

    def condition(self, channels: int, *, one_hot: int = 0) -> None:
        if not len(self.blocks):
            raise ModelError("a trunk of 0 blocks has no room for a context: use at least 1 block")
        for block in self.blocks:
            block.condition(channels, one_hot=one_hot)  # type: ignore[operator]

    def outer_layers(self) -> Sequence[nn.Module]:
        contexts = [block.context for block in self.blocks]
        tables = [self.input, self.first_input, self.row_input, self.column_input]
        return [*tables, *(c for c in contexts if isinstance(c, nn.Module))]

    def forward(self, x: Tensor, context: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        batch, _, height, width = x.shape
        pixels = self.input.pointwise(x.permute(0, 2, 3, 1).flatten(1, 2))  # (B, S, filters)
        first = self.first_input.weight.expand(batch, 1, -1).to(pixels.dtype)
        h = torch.cat([first, pixels[:, :-1]], 1)
        h = h + every_place(self.row_input, self.column_input)
        known = flat(context)
        for block in self.blocks:
            h = block(h, known)
        return self._last(h.unflatten(1, (height, width)).permute(0, 3, 1, 2), beside)

    def start(self, batch: int, height: int, width: int, context: Tensor | None = None) -> AttentionState:
        caches = [block.start(batch, height * width) for block in self.blocks]  # type: ignore[operator]
        return AttentionState(caches, self.first_input.weight.detach().expand(batch, -1), flat(context), width)

    def step(self, state: AttentionState, beside: Tensor | None = None) -> Tensor:
        row, column = divmod(state.position, state.width)
        h = state.before + (self.row_input.weight[row] + self.column_input.weight[column])
        for block, cache in zip(self.blocks, state.caches, strict=True):
            h = block.step(h, cache, state.context)  # type: ignore[operator]
        return self._last_step(h, beside)

    def observe(self, state: AttentionState, pixel: Tensor) -> None:
        state.before = self.input.pointwise(pixel)
        state.position += 1


def flat(context: Tensor | None) -> Tensor | None:
    """A context (B, D, 1, 1) as (B, D). Raises `ModelError` for one that differs from pixel to pixel."""
    if context is not None and context.shape[2:] != (1, 1):
        raise ModelError("attention takes one context for all pixels of an image: use a gated trunk")
    return None if context is None else context[:, :, 0, 0]


@dataclass
class AttentionState:
    """Where a walk stands: the cached keys and values, the embedding of the pixel before, the context."""

    caches: list[AttentionCache]
    before: Any
    context: Tensor | None
    width: int
    position: int = 0
