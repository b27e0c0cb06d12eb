"""Gated PixelCNN: two stacks of convolutions, so that no earlier pixel is out of sight.

    p(x) = ∏_i p(x_i | x_<i), as in PixelCNN; the features of pixel i come from
    a vertical stack over all rows above i, to both sides, and a horizontal stack over the pixels to the left of i,
    with tanh(a) · σ(b) in the place of ReLU (equation 2 of the paper)

A masked 3×3 convolution never reaches a wedge of pixels to the right above each pixel (Figure 1 of the paper), however
many layers follow: the blind spot of `PixelCNN`. The vertical stack has none, since it sees no pixel of its own row and
may therefore look to the right.

A class label c makes it p(x | c): it adds a bias of its own to every gate (equation 4 of the paper).

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
from chainrule.models.pixelcnn import PixelCNN, PixelState
from chainrule.models.pixelcnn_made import PixelCNNMADE
from chainrule.nn import ChannelLayerNorm, Gate, GatedBlock, LeftCache, LeftConv2d, RowCache, RowConv2d

FIRST, LATER = 7, 3
"""Sides of the kernels of the first layer and of the blocks."""


class GatedPixelCNN(PixelCNN):
    """Gated PixelCNN with the channels of a pixel independent of each other; other arguments as for `PixelCNN`.

    Args:
        classes: how many labels the model is conditional on; its `context` is then integers of shape (B,), in
            [0, classes). With 0 there is no context. The weights of the same seed are the same but for the labels' own.

    Each of the two stacks has `filters` channels. The blocks are wider than `PixelCNN`'s, about 21 · filters² weights
    each in place of 2.5 · filters²: compare models of the same number of parameters, not of the same `filters`.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = GatedPixelCNN((1, 4, 4), 2, filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> x.shape, model.log_prob(x).shape
        (torch.Size([2, 1, 4, 4]), torch.Size([2]))
        >>> model = GatedPixelCNN((1, 4, 4), 2, filters=8, blocks=1, classes=3)
        >>> model.sample(2, context=torch.tensor([0, 2])).shape
        torch.Size([2, 1, 4, 4])
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
        super().__init__(shape, levels, filters, blocks, layer_norm)
        if classes < 0 or (classes and not blocks):
            raise ModelError(f"{classes} classes and {blocks} blocks make no conditional model: use at least 1 of both")
        self.classes = int(classes)
        self.needs_context = self.classes > 0
        if classes:
            self._condition(self.classes)

    def _condition(self, channels: int) -> None:
        """Make room for a context of so many channels in every block."""
        for block in self.blocks:
            block.condition(channels)  # type: ignore[operator]

    def checked_context(self, context: Any, n: int) -> Any:
        if not self.classes:
            return super().checked_context(context, n)
        if context is None:
            raise ModelError(
                f"{type(self).__name__} is conditional on {self.classes} classes: give `context`, one label an event"
            )
        labels = as_tensor(context)
        if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
            raise DataError(f"the labels are {labels.dtype} values: pass integers in [0, {self.classes})")
        if tuple(labels.shape) != (n,):
            raise DataError(f"the labels have shape {tuple(labels.shape)}: {n} events want one each, shape ({n},)")
        if n and (int(labels.min()) < 0 or int(labels.max()) >= self.classes):
            raise DataError(
                f"the labels go from {int(labels.min())} to {int(labels.max())}: "
                f"this model has {self.classes} classes, 0 to {self.classes - 1}"
            )
        return labels.long().to(self.device)

    def example_context(self, n: int) -> Any:
        return torch.arange(n, device=self.device) % self.classes if self.classes else None

    def _context_map(self, context: Any) -> Tensor | None:
        """What the blocks are conditioned on, (B, D, H or 1, W or 1), of a checked context; None without."""
        if not self.classes:
            self._refuse_context(context)
            return None
        if context is None:
            self.checked_context(context, 0)
        return self._float(F.one_hot(context.to(self.device).long(), self.classes))[:, :, None, None]

    def _make_trunk(self, inputs: int, filters: int, blocks: int, layer_norm: bool) -> None:
        self.vertical_input = RowConv2d(inputs, filters, FIRST, include=False)
        self.horizontal_input = LeftConv2d(inputs, filters, FIRST, include=False)
        gate = Gate()
        self.blocks = nn.ModuleList(
            GatedBlock(filters, LATER, layer_norm=layer_norm, depth=blocks, gate=gate) for _ in range(blocks)
        )
        self.norm = ChannelLayerNorm(filters) if layer_norm else None

    def _trunk(self, x: Tensor, context: Any) -> Tensor:
        given = self._context_map(context)
        v = self.vertical_input(x)
        h = self.horizontal_input(x) + v
        for block in self.blocks:
            v, h = block(v, h, given)
        return h

    # ---------------------------------------------------------------------------------------------------------- steps

    def start(self, batch: int, context: Any = None) -> GatedState:  # type: ignore[override]
        given = self._context_map(context)
        channels, _, width = self.shape
        values = torch.zeros(batch, channels, dtype=torch.long, device=self.device)
        row = self.horizontal_input.weight.new_zeros(batch, width, self.horizontal_input.in_channels)
        return GatedState(
            values=values,
            encoding=self._levels_encoded(),
            row=row,
            above=self.vertical_input.start(batch, width),
            left=self.horizontal_input.start(batch, width),
            caches=[block.start(batch, width, given) for block in self.blocks],  # type: ignore[operator]
            head=self._start_head(),
        )

    def conditional(self, state: GatedState) -> Tensor:  # type: ignore[override]
        return self.head.pmf(self.next_logits(state))

    def next_logits(self, state: GatedState) -> Tensor:
        """Logits of the next site, (B, levels)."""
        self._step_to_pixel(state)
        return self._step_logits(state)

    def observe(self, state: GatedState, value: Tensor) -> GatedState:  # type: ignore[override]
        self._step_to_pixel(state)
        self._step_observe(state, value)
        state.values[:, state.channel] = value
        state.channel += 1
        if state.channel == self.shape[0]:
            state.row[:, state.column] = state.encoded()
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
        state.pixel = self._step_head(features, state)


class GatedPixelCNNMADE(GatedPixelCNN, PixelCNNMADE):
    """Gated PixelCNN whose channels depend on each other through a MADE, as in `PixelCNNMADE`.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = GatedPixelCNNMADE((3, 2, 2), 4, filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> model.log_prob(x).shape
        torch.Size([2])
    """


@dataclass(kw_only=True)
class GatedState(PixelState):
    """The same for two stacks; a cache for each block."""

    row: Tensor  # (B, W, inputs): the row at hand, as far as it is known; before its first pixel, the row above
    above: RowCache
    left: LeftCache
    first: Tensor = field(default_factory=lambda: torch.zeros(0))  # (B, W, filters): the vertical stack's first layer
