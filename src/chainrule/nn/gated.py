"""The gated block: two stacks, one that knows all rows above, one that knows the pixels to the left."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from chainrule.nn.conv import MaskedConv2d
from chainrule.nn.norm import ChannelLayerNorm
from chainrule.nn.stacks import LeftCache, LeftConv2d, RowCache, RowConv2d


def gate(x: Tensor, dim: int = 1) -> Tensor:
    """tanh(a) · σ(b) of the two halves of the channels: equation 2 of the paper.

    >>> import torch
    >>> gate(torch.tensor([[0.0, 30.0, 5.0, 30.0]])).round().tolist()
    [[0.0, 1.0]]
    """
    a, b = x.chunk(2, dim)
    return a.tanh() * b.sigmoid()


class GatedBlock(nn.Module):
    """One layer of a gated PixelCNN: Figure 2 of the paper.

        v' = gate(u),   u = W_v ⊛ v + V_v c
        h' = h + W₁ gate(W_h ⊛ h + W_vh u + V_h c)

    The vertical stack v sees rows above through k × k kernels, the horizontal stack h the pixels to the left, and what
    the vertical stack knows. Nothing flows from h to v, so v may look to the right. c is what the model is conditioned
    on (equations 4 and 5): features of each pixel, or the same for all.

    Args:
        filters: channels of each stack.
        kernel: odd side.
        layer_norm: normalise over the channels of a pixel in front of both convolutions.
        depth: blocks in the stack; the last convolution starts smaller by its square root.
        context: channels of c; 0 for none.

    Reference: van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016,
    https://arxiv.org/abs/1606.05328
    """

    def __init__(
        self, filters: int, kernel: int = 3, *, layer_norm: bool = True, depth: int = 1, context: int = 0
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
        self.vertical_context = MaskedConv2d(context, 2 * filters, 1, "B") if context else None
        self.horizontal_context = MaskedConv2d(context, 2 * filters, 1, "B") if context else None

    def forward(self, v: Tensor, h: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Both stacks, (B, filters, H, W) each, and c, (B, context, H or 1, W or 1) → both, of the same shapes."""
        above = self.vertical(v if self.vertical_norm is None else self.vertical_norm(v))
        left = self.horizontal(h if self.horizontal_norm is None else self.horizontal_norm(h))
        if self.vertical_context is not None and self.horizontal_context is not None:
            above, left = above + self.vertical_context(context), left + self.horizontal_context(context)
        return gate(above), h + self.expand(gate(left + self.link(above)))

    def start(self, batch: int, width: int, context: Tensor | None = None) -> GatedCache:
        """A fresh cache for a walk over `batch` images; what the context adds to the gates is computed here, once."""
        cache = GatedCache(self.vertical.start(batch, width), self.horizontal.start(batch))
        if self.vertical_context is not None and self.horizontal_context is not None:
            layers = (self.vertical_context, self.horizontal_context)
            cache.context = [layer(context).permute(0, 2, 3, 1) for layer in layers]
        return cache

    def step_row(self, v: Tensor, cache: GatedCache) -> Tensor:
        """The vertical stack at the next row, (B, W, filters) → the same shape; the horizontal one will need it."""
        above = self.vertical.step_row(v if self.vertical_norm is None else self.vertical_norm.step(v), cache.vertical)
        if cache.context is not None:
            vertical, horizontal = (part[:, min(cache.row, part.shape[1] - 1)] for part in cache.context)
            above = above + vertical
            cache.link = horizontal + self.link.pointwise(above)
        else:
            cache.link = self.link.pointwise(above)
        cache.row += 1
        return gate(above, -1)

    def step(self, h: Tensor, cache: GatedCache, column: int) -> Tensor:
        """The horizontal stack at the next pixel of that row, (B, filters) → the same shape."""
        normalised = h if self.horizontal_norm is None else self.horizontal_norm.step(h)
        left = self.horizontal.step(normalised, cache.horizontal, column)
        assert cache.link is not None
        return h + self.expand.pointwise(gate(left + cache.link[:, column]))


@dataclass
class GatedCache:
    """What one block remembers during a walk."""

    vertical: RowCache
    horizontal: LeftCache
    context: list[Tensor] | None = None  # what it adds to both gates, (B, H or 1, W or 1, 2 · filters) each
    row: int = 0
    link: Tensor | None = None  # what the vertical stack tells each pixel of the row, (B, W, 2 · filters)
