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
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def step(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The last position's query, (B, heads, d), keys and values up to it, (B, heads, n, d) → (B, heads, d)."""
        return F.scaled_dot_product_attention(q[:, :, None], k, v)[:, :, 0]


@dataclass
class AttentionCache:
    """Keys and values of the positions so far: (B, heads, S, d), of which `length` are filled."""

    keys: Tensor
    values: Tensor
    length: int = 0


class AttentionBlock(nn.Module):
    """Attention, then a layer for each position by itself, each added to the stream from behind a layer norm.

    Args:
        filters: channels of the stream.
        heads: of attention; they share the channels.
        layer_norm: normalise in front of both parts.
        depth: blocks in the stack; what a part adds starts smaller by its square root.
    """

    composes_exactly = True

    def __init__(self, filters: int, heads: int, *, layer_norm: bool = True, depth: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.first = ChannelLayerNorm(filters) if layer_norm else None
        self.project = MaskedConv2d(filters, 3 * filters, 1, "B")
        self.attention = CausalAttention()
        self.gather = MaskedConv2d(filters, filters, 1, "B")
        self.second = ChannelLayerNorm(filters) if layer_norm else None
        self.widen = MaskedConv2d(filters, 4 * filters, 1, "B")
        self.narrow = MaskedConv2d(4 * filters, filters, 1, "B")
        for layer in (self.gather, self.narrow):
            nn.init.zeros_(layer.bias)
            layer.weight.data.mul_((2 * depth) ** -0.5)

    def condition(self, channels: int, *, one_hot: int = 0) -> None:
        """Make room for a context, (B, channels), which adds nothing at first."""
        self.context = MaskedConv2d(channels, 4 * self.project.in_channels, 1, "B", one_hot=one_hot)
        nn.init.zeros_(self.context.weight)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The stream at all positions, (B, S, filters) → the same shape."""
        queries = self._split(self._normed(self.first, x))  # three of (B, heads, S, d)
        x = x + self.gather.pointwise(self.attention(*queries).transpose(1, 2).flatten(2))
        return x + self._wide(x, None if context is None else context[:, None])

    def start(self, batch: int, length: int) -> AttentionCache:
        """A fresh cache for a walk over so many positions."""
        filters = self.project.in_channels
        shape = batch, self.heads, length, filters // self.heads
        bias = self.project.bias
        keys, values = (torch.zeros(shape, dtype=bias.dtype, device=bias.device) for _ in range(2))
        return AttentionCache(keys, values)

    def step(self, x: Tensor, cache: AttentionCache, context: Tensor | None = None) -> Tensor:
        """The stream at the next position, (B, filters) → the same shape, equal to `forward` there."""
        q, k, v = (part[:, :, 0] for part in self._split(self._normed(self.first, x)[:, None]))
        cache.keys[:, :, cache.length], cache.values[:, :, cache.length] = k, v
        cache.length += 1
        known = slice(None, cache.length)
        found = self.attention.step(q, cache.keys[:, :, known], cache.values[:, :, known])
        x = x + self.gather.pointwise(found.flatten(1))
        return x + self._wide(x, context)

    def _normed(self, norm: ChannelLayerNorm | None, x: Tensor) -> Tensor:
        return x if norm is None else norm.step(x)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = self.project.pointwise(x).unflatten(-1, (3, self.heads, -1))  # (B, S, 3, heads, d)
        return parts.permute(2, 0, 3, 1, 4).unbind(0)

    def _wide(self, x: Tensor, context: Tensor | None) -> Tensor:
        h = self.widen.pointwise(self._normed(self.second, x))
        if context is not None:
            h = h + self.context.pointwise(context)
        return self.narrow.pointwise(F.relu(h))
