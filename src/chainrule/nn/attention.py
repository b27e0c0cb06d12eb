"""Causal self-attention: over a whole sequence at once, or one position at a time with cached keys and values.

    a_ij = exp(q_i · k_j / √d) / Σ_{l≤i} exp(q_i · k_l / √d),    y_i = Σ_{j≤i} a_ij v_j

References: Vaswani et al., Attention Is All You Need, 2017, equation 1, https://arxiv.org/abs/1706.03762;
Xiong et al., On Layer Normalization in the Transformer Architecture, 2020, https://arxiv.org/abs/2002.04745 (the norm
in front of each part of a block)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.errors import ModelError
from chainrule.nn.conv import MaskedConv2d
from chainrule.nn.norm import ChannelLayerNorm


class CausalAttention(nn.Module):
    """What attention computes of queries, keys and values. It has no parameters of its own.

    >>> attention, x = CausalAttention(), torch.randn(1, 2, 5, 4)
    >>> bool(torch.allclose(attention(x, x, x)[:, :, 3], attention.step(x[:, :, 3], x[:, :, :4], x[:, :, :4])))
    True
    """

    composes_exactly = True

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries, keys and values of all positions, each (B, heads, S, d) → the same shape."""
        return F.scaled_dot_product_attention(q, k, v, is_causal=True) + unsound(q)

    def step(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The last position's query, (B, heads, d), keys and values up to it, (B, heads, n, d) → (B, heads, d)."""
        return F.scaled_dot_product_attention(q[:, :, None], k, v)[:, :, 0] + unsound(q)


def unsound(q: Tensor) -> Tensor:
    """Zero, or NaN where a query is not finite, which PyTorch's attention would make zero: (..., d) → (..., 1)."""
    return q.detach().sum(-1, keepdim=True) * 0.0


@dataclass
class AttentionCache:
    """Keys and values of the positions so far: (B, heads, S, d), of which `length` are filled."""

    keys: Tensor
    values: Tensor
    length: int = 0


def fixed(size: tuple[int | None, ...]) -> tuple[int, int]:
    """The height and width of the images, whose rows and columns each have a learnt vector.

    Raises:
        ModelError: they are not fixed.
    """
    height, width = size
    if height is None or width is None:
        raise ModelError("attention learns a vector for each row and column: give the shape a height and a width")
    return height, width


def every_place(row: nn.Embedding, column: nn.Embedding) -> Tensor:
    """The vector of each pixel's place, the sum of its row's and its column's, in raster order: (H · W, n)."""
    return (row.weight[:, None] + column.weight).flatten(0, 1)


class AttentionLayer(nn.Module):
    """Attention to all positions so far, after a layer norm; its output is to be added to the stream.

    Args:
        filters: channels of the stream.
        heads: of attention.
        width: channels of all heads together; None for those of the stream.
        layer_norm: normalise first.
        size: height and width of images whose pixels are the positions, in raster order; queries, keys and values then
            each have vectors of their own for rows and columns. None if the stream itself knows the positions.
    """

    composes_exactly = True

    def __init__(
        self,
        filters: int,
        heads: int,
        width: int | None = None,
        *,
        layer_norm: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        width = filters if width is None else width
        self.heads, self.width = heads, width
        self.norm = ChannelLayerNorm(filters) if layer_norm else None
        self.project = MaskedConv2d(filters, 3 * width, 1, "B")
        self.attention = CausalAttention()
        self.gather = MaskedConv2d(width, filters, 1, "B")
        nn.init.zeros_(self.gather.bias)
        self.size = size
        if size is not None:
            self.row_input, self.column_input = (nn.Embedding(n, 3 * width) for n in size)
            for table in self.places():
                nn.init.normal_(table.weight, std=0.5)

    def places(self) -> list[nn.Embedding]:
        """The vectors of rows and columns; none without a size."""
        return [] if self.size is None else [self.row_input, self.column_input]

    def forward(self, x: Tensor) -> Tensor:
        """The stream at all positions, (B, S, filters) → what is to be added, of the same shape."""
        h = self._projected(x)
        if self.size is not None:
            h = h + every_place(self.row_input, self.column_input)
        q, k, v = h.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, S, d)
        return self.gather.pointwise(self.attention(q, k, v).transpose(1, 2).flatten(2))

    def start(self, batch: int, length: int) -> AttentionCache:
        """A fresh cache for a walk over so many positions."""
        shape = batch, self.heads, length, self.width // self.heads
        bias = self.project.bias
        keys, values = (torch.zeros(shape, dtype=bias.dtype, device=bias.device) for _ in range(2))
        return AttentionCache(keys, values)

    def step(self, x: Tensor, cache: AttentionCache) -> Tensor:
        """The stream at the next position, (B, filters) → the same shape, equal to `forward` there."""
        h = self._projected(x)
        if self.size is not None:
            row, column = divmod(cache.length, self.size[1])
            h = h + (self.row_input.weight[row] + self.column_input.weight[column])
        q, k, v = h.unflatten(-1, (3, self.heads, -1)).unbind(1)
        cache.keys[:, :, cache.length], cache.values[:, :, cache.length] = k, v
        cache.length += 1
        known = slice(None, cache.length)
        found = self.attention.step(q, cache.keys[:, :, known], cache.values[:, :, known])
        return self.gather.pointwise(found.flatten(1))

    def _projected(self, x: Tensor) -> Tensor:
        return self.project.pointwise(x if self.norm is None else self.norm.step(x))


class AttentionBlock(nn.Module):
    """Attention, then a layer at each position alone; both follow a layer norm and are added to the stream.

    Args:
        filters: channels of the stream.
        heads: of attention; they share the channels.
        layer_norm: normalise before both parts.
        depth: blocks in the stack; what a part adds starts smaller by its square root.
    """

    composes_exactly = True

    def __init__(self, filters: int, heads: int, *, layer_norm: bool = True, depth: int = 1) -> None:
        super().__init__()
        self.look = AttentionLayer(filters, heads, layer_norm=layer_norm)
        self.norm = ChannelLayerNorm(filters) if layer_norm else None
        self.widen = MaskedConv2d(filters, 4 * filters, 1, "B")
        self.narrow = MaskedConv2d(4 * filters, filters, 1, "B")
        self.context: MaskedConv2d | None = None
        nn.init.zeros_(self.narrow.bias)
        for layer in (self.look.gather, self.narrow):
            layer.weight.data.mul_((2 * depth) ** -0.5)

    def condition(self, channels: int, *, one_hot: int = 0) -> None:
        """Make room for a context, (B, channels), which adds nothing at first."""
        self.context = MaskedConv2d(channels, self.widen.out_channels, 1, "B", one_hot=one_hot)
        for parameter in self.context.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The stream at all positions, (B, S, filters) → the same shape."""
        x = x + self.look(x)
        return x + self._wide(x, None if context is None else context[:, None])

    def start(self, batch: int, length: int) -> AttentionCache:
        """A fresh cache for a walk over so many positions."""
        return self.look.start(batch, length)

    def step(self, x: Tensor, cache: AttentionCache, context: Tensor | None = None) -> Tensor:
        """The stream at the next position, (B, filters) → the same shape, equal to `forward` there."""
        x = x + self.look.step(x, cache)
        return x + self._wide(x, context)

    def _wide(self, x: Tensor, context: Tensor | None) -> Tensor:
        h = self.widen.pointwise(x if self.norm is None else self.norm.step(x))
        if context is not None and self.context is not None:
            h = h + self.context.pointwise(context)
        return self.narrow.pointwise(F.relu(h))
