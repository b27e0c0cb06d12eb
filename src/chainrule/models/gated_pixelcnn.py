"""Gated PixelCNN: two stacks of convolutions, so that no earlier pixel is out of sight.

    p(x) = ∏_i p(x_i | x_<i), as in PixelCNN; the features of pixel i come from
    a vertical stack over all rows above i, to both sides, and a horizontal stack over the pixels to the left of i,
    with tanh(a) · σ(b) in the place of ReLU (equation 2 of the paper)

A masked 3×3 convolution never reaches a wedge of pixels to the right above each pixel (Figure 1 of the paper), however
many layers follow: the blind spot of `PixelCNN`. The vertical stack has none, since it sees no pixel of its own row and
may therefore look to the right.

Deviations from the paper: layer normalisation over the channels of a pixel in front of the convolutions; channels are
tied by a MADE in `GatedPixelCNNMADE` rather than split by colour; the logits come from two 1×1 convolutions.

Reference: van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016,
https://arxiv.org/abs/1606.05328
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.errors import DataError, ModelError
from chainrule.models.base import as_tensor
from chainrule.models.pixelcnn import PixelCNN
from chainrule.models.pixelcnn_made import PixelCNNMADE
from chainrule.nn import ChannelLayerNorm, GatedBlock, GatedCache, LeftCache, LeftConv2d, RowCache, RowConv2d

FIRST, LATER = 7, 3
"""Sides of the kernels of the first layer and of the blocks."""


class GatedPixelCNN(PixelCNN):
    """Gated PixelCNN with the channels of a pixel independent of each other; arguments as for `PixelCNN`, and

        classes: if not 0, the model is conditioned on a label, and every use of it takes labels as its context.

    Each of the two stacks has `filters` channels. The blocks are wider than `PixelCNN`'s, about 21 · filters² weights
    each in place of 2.5 · filters²: compare models of the same number of parameters, not of the same `filters`.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = GatedPixelCNN((1, 4, 4), 2, filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> x.shape, model.log_prob(x).shape
        (torch.Size([2, 1, 4, 4]), torch.Size([2]))
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        levels: int,
        filters: int = 128,
        blocks: int = 12,
        layer_norm: bool = True,
        classes: int = 0,
    ) -> None:
        if classes < 0 or classes == 1:
            raise ModelError(f"{classes} classes tell nothing apart: use 0 for no labels, or 2 and more")
        self.classes = int(classes)
        super().__init__(shape, levels, filters, blocks, layer_norm)

    @property
    def needs_context(self) -> bool:  # type: ignore[override]
        """Whether the model is conditioned on labels."""
        return self.classes > 0

    def checked_context(self, context: Any, n: int) -> Tensor | None:
        """Labels, integers (n,) in [0, classes), on the model's device.

        Raises:
            ModelError: the model has no classes and is given labels, or the reverse.
            DataError: they are no labels for `n` events.
        """
        if not self.needs_context:
            return super().checked_context(context, n)
        if context is None:
            raise ModelError(f"this {type(self).__name__} is conditioned on a class: give labels as the context")
        labels = as_tensor(context)
        if labels.dtype.is_floating_point or labels.dtype == torch.bool or tuple(labels.shape) != (n,):
            raise DataError(f"the context must be {n} labels, integers of shape ({n},), not {tuple(labels.shape)}")
        if n and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise DataError(f"the labels must lie from 0 to {self.classes - 1}, this model's classes")
        return labels.to(self.device)

    def every_context(self, n: int) -> Tensor | None:
        """Labels 0, 1, … in turn, (n,)."""
        return torch.arange(n, device=self.device) % self.classes if self.needs_context else None

    def context_map(self, context: Any) -> Tensor | None:
        """What the blocks see of a context: labels (B,) → one-hot vectors (B, classes, 1, 1)."""
        if not self.needs_context:
            return super().context_map(context)
        hot = F.one_hot(context.long(), self.classes)[:, :, None, None]
        return hot.to(self.hidden.weight.dtype)

    def context_channels(self, filters: int) -> int:
        """Channels of that map."""
        return self.classes

    def _make_trunk(self, inputs: int, filters: int, blocks: int, layer_norm: bool) -> None:
        self.vertical_input = RowConv2d(inputs, filters, FIRST, include=False)
        self.horizontal_input = LeftConv2d(inputs, filters, FIRST, include=False)
        self.blocks = nn.ModuleList(
            GatedBlock(filters, LATER, layer_norm=layer_norm, depth=blocks, context=self.context_channels(filters))
            for _ in range(blocks)
        )
        self.norm = ChannelLayerNorm(filters) if layer_norm else None

    def _trunk(self, x: Tensor, context: Tensor | None) -> Tensor:
        v = self.vertical_input(x)
        h = self.horizontal_input(x) + v
        for block in self.blocks:
            v, h = block(v, h, context)
        return h

    # ---------------------------------------------------------------------------------------------------------- steps

    def start(self, batch: int, context: Any = None) -> GatedState:  # type: ignore[override]
        features = self.context_map(context)
        channels, _, width = self.shape
        values = torch.zeros(batch, channels, dtype=torch.long, device=self.device)
        row = self.horizontal_input.weight.new_zeros(batch, width, self.horizontal_input.in_channels)
        return GatedState(
            values,
            row,
            self.vertical_input.start(batch, width),
            self.horizontal_input.start(batch),
            [block.start(batch, width, features) for block in self.blocks],  # type: ignore[operator]
            self._start_head(),
        )

    def conditional(self, state: GatedState) -> Tensor:  # type: ignore[override]
        return self.head.pmf(self.next_logits(state))

    def next_logits(self, state: GatedState) -> Tensor:
        """Logits of the next site, (B, levels)."""
        self._step_to_pixel(state)
        return self._step_logits(state)  # type: ignore[arg-type]

    def observe(self, state: GatedState, value: Tensor) -> GatedState:  # type: ignore[override]
        self._step_to_pixel(state)
        self._step_observe(state, value)  # type: ignore[arg-type]
        state.values[:, state.channel] = value
        state.channel += 1
        if state.channel == self.shape[0]:
            state.row[:, state.column] = self._encode(self._float(state.values))
            state.channel, state.pixel = 0, None
            state.column = (state.column + 1) % self.shape[2]
        return state

    def _step_to_pixel(self, state: GatedState) -> None:  # type: ignore[override]
        """Bring the features of the pixel at hand, once a pixel; at the first of a row, the vertical stack's row."""
        if state.pixel is not None:
            return
        column = state.column
        if column == 0:
            v = state.first = self.vertical_input.step_row(state.row, state.above)
            for block, cache in zip(self.blocks, state.caches, strict=True):
                v = block.step_row(v, cache)  # type: ignore[operator]
        h = self.horizontal_input.step(state.row[:, column - 1], state.left, column) + state.first[:, column]
        for block, cache in zip(self.blocks, state.caches, strict=True):
            h = block.step(h, cache, column)  # type: ignore[operator]
        if self.norm is not None:
            h = self.norm.step(h)
        features = self.hidden.pointwise(F.relu(h)).relu_()
        state.pixel = self._step_head(features, state)  # type: ignore[arg-type]


class GatedPixelCNNMADE(GatedPixelCNN, PixelCNNMADE):
    """Gated PixelCNN whose channels depend on each other through a MADE, as in `PixelCNNMADE`.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = GatedPixelCNNMADE((3, 2, 2), 4, filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> model.log_prob(x).shape
        torch.Size([2])
    """


@dataclass
class GatedState:
    """Where a walk stands and what it remembers."""

    values: Tensor  # (B, C): the pixel at hand, as far as it is known
    row: Tensor  # (B, W, inputs): the row at hand, as far as it is known; before its first pixel, the row above
    above: RowCache
    left: LeftCache
    caches: list[GatedCache]
    head: Any
    first: Tensor = field(default_factory=lambda: torch.zeros(0))  # (B, W, filters): the vertical stack's first layer
    pixel: Any = None  # the head's view of the pixel at hand; None until its features are computed
    column: int = 0
    channel: int = 0
