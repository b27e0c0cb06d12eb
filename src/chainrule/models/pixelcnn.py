"""PixelCNN: a stack of masked convolutions over an image.

    p(x) = ∏_i p(x_i | x_<i) = ∏_i ∏_c p(x_i^c | x_<i)                          (assignment, equation 2)

Autoregressive over the pixels in raster order, factorised over the channels of a pixel. A 7×7 masked convolution of
type A, `blocks` residual blocks of type-B convolutions (1×1, 3×3, 1×1), and two 1×1 convolutions to the logits, with
ReLU throughout: Table 1 of the paper.

Deviations from the paper: channels are never split by colour, since each pixel's channels are independent here and are
tied together by a MADE in `PixelCNNMADE`; layer normalisation over the channels of a pixel in front of every block; few
levels enter as one-hot vectors, many as one scaled number a channel. Masked 3×3 convolutions leave a blind spot to the
right above each pixel (Figure 1 of the Gated PixelCNN paper), and so does this model.

Reference: van den Oord et al., Pixel Recurrent Neural Networks, 2016, https://arxiv.org/abs/1601.06759
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.compiled import CompiledWalk, Program, all_known, available, known
from chainrule.errors import ModelError
from chainrule.models.likelihood import AutoregressiveModel
from chainrule.nn import ChannelLayerNorm, MaskedConv2d, ResidualBlock, one_hot

ONE_HOT_UP_TO = 16
"""Levels up to which each has an input of its own; beyond, a channel enters as one number in [-1, 1]."""


@known
class PixelCNN(AutoregressiveModel):
    """PixelCNN with the channels of a pixel independent of each other.

    Args:
        shape: (C, H, W).
        levels: values of every channel, 0 … levels - 1.
        filters: channels of the residual stream; the 3×3 convolutions work on half of them.
        blocks: residual blocks, each of which widens the receptive field by one pixel.
        layer_norm: normalise over the channels of a pixel in front of every block.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = PixelCNN((1, 4, 4), 2, filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> x.shape, model.log_prob(x).shape
        (torch.Size([2, 1, 4, 4]), torch.Size([2]))
    """

    def __init__(
        self, shape: tuple[int, int, int], levels: int, filters: int = 128, blocks: int = 12, layer_norm: bool = True
    ) -> None:
        super().__init__(shape, levels)
        if len(self.shape) != 3:
            raise ModelError(f"{type(self).__name__} models images: its shape is (C, H, W), not {self.shape}")
        if filters < 1 or blocks < 0:
            raise ModelError(f"{filters} filters and {blocks} blocks make no network: use at least 1 and 0")
        channels = self.shape[0]
        self.one_hot_input = levels <= ONE_HOT_UP_TO
        self._make_trunk(channels * (levels if self.one_hot_input else 1), filters, blocks, layer_norm)
        self.hidden = MaskedConv2d(filters, filters, 1, "B")
        self._make_head(filters)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _make_trunk(self, inputs: int, filters: int, blocks: int, layer_norm: bool) -> None:
        self.input = MaskedConv2d(inputs, filters, 7, "A")
        self.blocks = nn.ModuleList(ResidualBlock(filters, layer_norm=layer_norm, depth=blocks) for _ in range(blocks))
        self.norm: ChannelLayerNorm | None = ChannelLayerNorm(filters) if layer_norm else None

    def _make_head(self, filters: int) -> None:
        self.output = MaskedConv2d(filters, self.shape[0] * self.levels, 1, "B")
        self.output.weight.data.mul_(0.1)  # near uniform at first, yet with a gradient everywhere
        nn.init.zeros_(self.output.bias)

    # -------------------------------------------------------------------------------------------------- parallel pass

    def _logits(self, v: Tensor, context: Any = None) -> Tensor:
        return self._head(self._features(v, context), v)

    def _features(self, v: Tensor, context: Any = None) -> Tensor:
        """φ: what each pixel knows of the earlier ones; (B, C, H, W) → (B, filters, H, W)."""
        h = self._trunk(self._encode(v.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), context)
        h = F.relu(h) if self.norm is None else self.norm.activated(h)
        return self.hidden(h).relu_()

    def _trunk(self, x: Tensor, context: Any) -> Tensor:
        """(B, inputs, H, W) → (B, filters, H, W)."""
        self._refuse_context(context)
        h = self.input(x)
        for block in self.blocks:
            h = block(h)
        return h

    def _encode(self, v: Tensor) -> Tensor:
        """Channels last: (..., C) → (..., inputs)."""
        if self.one_hot_input:
            return one_hot(v, self.levels).flatten(-2)
        return v * (2.0 / (self.levels - 1)) - 1.0

    def _head(self, features: Tensor, v: Tensor) -> Tensor:
        """(B, filters, H, W) → logits (B, C, H, W, levels)."""
        logits = self.output(features).permute(0, 2, 3, 1)  # channels last: a view where the memory is
        return logits.unflatten(-1, (self.shape[0], self.levels)).permute(0, 3, 1, 2, 4)

    # ---------------------------------------------------------------------------------------------------------- steps

    def program(self) -> Program | None:
        if not (available() and all_known(self, self.head)) or torch.is_grad_enabled():
            return None
        if (self.hidden.weight.device.type, self.hidden.weight.dtype) != ("cpu", torch.float32):
            return None
        filters, program = self.input.out_channels, Program(self.shape, self.levels)
        seen = self.input.window_in(program)
        encoded, grid = self._levels_encoded(), getattr(self.input, "inputs", None)
        program.images(seen, encoded if grid is None else grid.quantise(encoded))
        stream = self.input.add_to(program, seen)
        for block in self.blocks:
            block.add_to(program, stream)  # type: ignore[operator]
        h, positive, features = stream, program.vector(filters), program.vector(filters)
        if self.norm is not None:
            h = program.vector(filters)
            program.norm(self.norm, stream, h)
        program.activate(self.hidden, h, positive, filters)
        h = self.hidden.add_to(program, positive)
        program.activate(self._head_layer(), h, features, filters)
        if not self._add_head(program, features):
            return None
        return program.finish(getattr(self.head, "table", None))

    def _head_layer(self) -> nn.Module:
        """The layer that reads the features."""
        return self.output

    def _add_head(self, program: Program, features: int) -> bool:
        program.logits(self.output.add_to(program, features), self.shape[0] * self.levels)
        return True

    @property
    def period(self) -> int:
        return self.shape[0] * self.shape[2]  # a row

    def _levels_encoded(self) -> Tensor:
        """What a channel of each level puts into the first layer, (levels, width)."""
        return self._encode(self._float(torch.arange(self.levels, device=self.device))[:, None])

    def start(self, batch: int, context: Any = None) -> PixelState | CompiledWalk:
        self._refuse_context(context)
        if (program := self.program()) is not None:
            return CompiledWalk(program, batch)
        _, height, width = self.shape
        values = torch.zeros(batch, self.shape[0], dtype=torch.long, device=self.device)
        caches = [layer.start(batch, height, width) for layer in (self.input, *self.blocks)]
        encoding, head = self._levels_encoded(), self._start_head()
        return PixelState(values=values, encoding=encoding, caches=caches, head=head)

    def conditional(self, state: PixelState | CompiledWalk) -> Tensor:
        if isinstance(state, CompiledWalk):
            return state.conditional()
        self._step_to_pixel(state)
        return self.head.pmf(self._step_logits(state))

    def observe(self, state: PixelState | CompiledWalk, value: Tensor) -> PixelState | CompiledWalk:
        if isinstance(state, CompiledWalk):
            state.observe(value)
            return state
        self._step_to_pixel(state)
        self._step_observe(state, value)
        state.values[:, state.channel] = value
        state.channel += 1
        if state.channel == self.shape[0]:
            self.input.remember(state.encoded(), state.caches[0], state.column)
            state.channel, state.pixel = 0, None
            state.column = (state.column + 1) % self.shape[2]
        return state

    def _step_to_pixel(self, state: PixelState) -> None:
        """Bring the features of the pixel at hand, once a pixel."""
        if state.pixel is None:
            h = self.input.step(None, state.caches[0], state.column)
            for block, cache in zip(self.blocks, state.caches[1:], strict=True):
                h = block.step(h, cache, state.column)  # type: ignore[operator]
            if self.norm is not None:
                h = self.norm.step(h)
            features = self.hidden.pointwise(F.relu(h)).relu_()
            state.pixel = self._step_head(features, state)

    def _start_head(self) -> Any:
        """What the head needs in the whole walk."""
        return None

    def _step_head(self, features: Tensor, state: PixelState) -> Any:
        """(B, filters) → what the head needs at one pixel: here all its logits, (B, C, levels)."""
        return self.output.pointwise(features).unflatten(-1, (self.shape[0], self.levels))

    def _step_logits(self, state: PixelState) -> Tensor:
        """Logits of the channel at hand, (B, levels)."""
        return state.pixel[:, state.channel]

    def _step_observe(self, state: PixelState, value: Tensor) -> None:
        """Tell the head the value of the channel at hand."""


@dataclass(kw_only=True)
class PixelState:
    """Where a walk stands and what it remembers."""

    values: Tensor  # (B, C): the pixel at hand, as far as it is known
    encoding: Tensor  # (levels, width): how each level of a channel enters
    caches: list[Any]  # a WindowCache for each layer that sees neighbours
    head: Any
    pixel: Any = None  # the head's view of the pixel at hand; None until its features are computed
    column: int = 0
    channel: int = 0

    def encoded(self) -> Tensor:
        """The pixel at hand as it enters the network, (B, inputs)."""
        return self.encoding[self.values].flatten(1)
