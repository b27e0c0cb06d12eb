"""The gated block: two stacks, one that knows all rows above, one that knows the pixels to the left."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from chainrule.nn import passes
from chainrule.nn.conv import MaskedConv2d
from chainrule.nn.norm import ChannelLayerNorm
from chainrule.nn.stacks import LeftCache, LeftConv2d, RowCache, RowConv2d


class Gate(nn.Module):
    """tanh(a) · σ(b) of the two halves of the channels: equation 2 of the paper.

    >>> import torch
    >>> Gate()(torch.tensor([[0.0, 30.0, 5.0, 30.0]])).round().tolist()
    [[0.0, 1.0]]
    """

    def forward(self, x: Tensor, dim: int = 1) -> Tensor:
        """(…, 2 · filters, …) → (…, filters, …) along `dim`."""
        if dim == 1 and (y := passes.of(self, "forward")(self, x)) is not None:
            return y
        a, b = x.chunk(2, dim)
        return a.tanh() * b.sigmoid()


class GatedBlock(nn.Module):
    """One layer of a gated PixelCNN: Figure 2 of the paper, and its equation 4 where there is a context c.

        v' = gate(a),   a = W_v ⊛ v + U_v c
        h' = h + W₁ gate(W_h ⊛ h + W_vh a + U_h c)

    The vertical stack v sees rows above through k × k kernels, the horizontal stack h the pixels to the left, and what
    the vertical stack knows. Nothing flows from h to v, so v may look to the right. The context is known beforehand, to
    every pixel: a map (B, D, H or 1, W or 1).

    Args:
        filters: channels of each stack.
        kernel: odd side.
        layer_norm: normalise over the channels of a pixel before both convolutions.
        depth: blocks in the stack; the last convolution starts smaller by its square root.
        gate: shared among blocks.

    Reference: van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016,
    https://arxiv.org/abs/1606.05328
    """

    composes_exactly = True

    def __init__(
        self, filters: int, kernel: int = 3, *, layer_norm: bool = True, depth: int = 1, gate: Gate | None = None
    ) -> None:
        super().__init__()
        self.vertical_norm = ChannelLayerNorm(filters) if layer_norm else None
        self.horizontal_norm = ChannelLayerNorm(filters) if layer_norm else None
        self.vertical = RowConv2d(filters, 2 * filters, kernel, include=True)
        self.link = MaskedConv2d(2 * filters, 2 * filters, 1, "B")
        self.horizontal = LeftConv2d(filters, 2 * filters, kernel, include=True)
        self.expand = MaskedConv2d(filters, filters, 1, "B")
        nn.init.zeros_(self.expand.bias)
        self.expand.weight.data.mul_(depth**-0.5)
        self.gate = Gate() if gate is None else gate
        self.vertical_context: MaskedConv2d | None = None
        self.horizontal_context: MaskedConv2d | None = None

    def condition(self, channels: int, *, one_hot: int = 0) -> None:
        """Give the block a context of so many channels, adding nothing at first; other weights stay as they are."""
        outputs = self.link.out_channels
        self.vertical_context = MaskedConv2d(channels, outputs, 1, "B", one_hot=one_hot)
        self.horizontal_context = MaskedConv2d(channels, outputs, 1, "B", one_hot=one_hot)
        for parameter in (*self.vertical_context.parameters(), *self.horizontal_context.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, v: Tensor, h: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Both stacks, (B, filters, H, W) each → the same shapes."""
        above = self.vertical(v if self.vertical_norm is None else self.vertical_norm(v))
        above = above if self.vertical_context is None else above.add_(self.vertical_context(context))
        known = self.link(above)
        known = known if self.horizontal_context is None else known.add_(self.horizontal_context(context))
        left = self.horizontal(h if self.horizontal_norm is None else self.horizontal_norm(h))
        return self.gate(above), self.expand(self.gate(left.add_(known))).add_(h)

    def start(self, batch: int, width: int, context: Tensor | None = None) -> GatedCache:
        """A fresh cache for a walk over `batch` images."""
        lines = None if context is None else context.permute(0, 2, 3, 1)
        return GatedCache(self.vertical.start(batch, width), self.horizontal.start(batch, width), lines)

    def step_row(self, v: Tensor, cache: GatedCache) -> Tensor:
        """The vertical stack at the next row, (B, W, filters) → the same shape; the horizontal one will need it."""
        above = self.vertical.step_row(v if self.vertical_norm is None else self.vertical_norm.step(v), cache.vertical)
        if (added := self._step_context(cache)) is None:
            cache.link = self.link.pointwise(above)
        else:
            above = above + added[0]
            cache.link = self.link.pointwise(above) + added[1]
        return self.gate(above, -1)

    def _step_context(self, cache: GatedCache) -> tuple[Tensor, Tensor] | None:
        """What the context adds to the gates of the next row; taken once where it is the same in all rows."""
        if self.vertical_context is None or self.horizontal_context is None or cache.context is None:
            return None
        if cache.added is None or cache.context.shape[1] > 1:
            line = cache.context[:, cache.row]
            cache.added = self.vertical_context.pointwise(line), self.horizontal_context.pointwise(line)
            cache.row += 1
        return cache.added

    def step(self, h: Tensor, cache: GatedCache, column: int) -> Tensor:
        """The horizontal stack at the next pixel of that row, (B, filters) → the same shape."""
        normalised = h if self.horizontal_norm is None else self.horizontal_norm.step(h)
        left = self.horizontal.step(normalised, cache.horizontal, column)
        assert cache.link is not None
        return h + self.expand.pointwise(self.gate(left + cache.link[:, column]))


@dataclass
class GatedCache:
    """What one block remembers during a walk."""

    vertical: RowCache
    horizontal: LeftCache
    context: Tensor | None = None  # (B, H or 1, W or 1, D)
    added: tuple[Tensor, Tensor] | None = (
        None  # what it adds to both gates in the row at hand, (B, W or 1, 2 · filters)
    )
    row: int = 0  # of the context, to come
    link: Tensor | None = None  # what the vertical stack tells each pixel of the row, (B, W, 2 · filters)
