"""A linear layer with connections left out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedLinear(nn.Module):
    """`y = (mask ∘ W) x + b`.

    The weight itself is never written to: the mask is applied where the weight is used, so that optimisers, averages
    and checkpoints see an ordinary parameter. Initial weights are scaled by the connections each output really has.

    Args:
        mask: booleans of shape (O, I).
        one_hot: if the input is one-hot vectors side by side, their length; otherwise 0.

    >>> layer = MaskedLinear(torch.tensor([[True, False]]))
    >>> bool((layer(torch.tensor([[0.0, 5.0]])) == layer.bias).all())
    True
    """

    mask: Tensor

    def __init__(self, mask: Tensor, *, one_hot: int = 0) -> None:
        super().__init__()
        self.one_hot = one_hot
        self.register_buffer("mask", mask, persistent=False)
        self.weight = nn.Parameter(torch.empty(mask.shape))
        self.bias = nn.Parameter(torch.zeros(mask.shape[0]))
        fan_in = mask.sum(1, keepdim=True).clamp(min=1)
        with torch.no_grad():
            self.weight.uniform_(-1, 1).mul_(math.sqrt(2.0) / fan_in.sqrt())

    def masked_weight(self) -> Tensor:
        """The weight that is multiplied, shape (O, I)."""
        return self.weight * self.mask

    def prepare(self) -> PreparedLinear:
        """The layer as a walk uses it, part by part, masked once and for all."""
        return PreparedLinear(self.masked_weight(), self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) → (..., O)."""
        return F.linear(x, self.masked_weight(), self.bias)


@dataclass
class PreparedLinear:
    """Masked weight (O, I) and bias (O,) of a layer that is computed in parts."""

    weight: Tensor
    bias: Tensor

    def part(self, x: Tensor, outputs: slice) -> Tensor:
        """Some outputs from the first inputs, which are all that they see: (B, I' ≤ I) → (B, O')."""
        return F.linear(x, self.weight[outputs, : x.shape[1]], self.bias[outputs])

    def columns(self) -> Tensor:
        """What each input adds to the outputs when it is 1, shape (I, O)."""
        return self.weight.T.contiguous()
