"""Convolutions that see to all sides: for what a model is conditioned on, never for what it models."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class FullConv2d(nn.Conv2d):
    """A convolution without a mask, of the same height and width as its input.

    >>> import torch
    >>> FullConv2d(2, 3, 5)(torch.zeros(1, 2, 4, 6)).shape
    torch.Size([1, 3, 4, 6])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, one_hot: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)
        self.one_hot = one_hot  # if the input is one-hot vectors side by side, their length


class ImageEncoder(nn.Module):
    """Features of a whole image for a context: a 7×7 convolution and residual 3×3 convolutions.

    Args:
        in_channels: of the image.
        filters: of the features.
        blocks: residual blocks, each x + W relu(x).
        one_hot: if the image is one-hot vectors side by side, their length; otherwise 0.
    """

    composes_exactly = True

    def __init__(self, in_channels: int, filters: int, blocks: int = 2, *, one_hot: int = 0) -> None:
        super().__init__()
        self.input = FullConv2d(in_channels, filters, 7, one_hot=one_hot)
        self.blocks = nn.ModuleList(FullConv2d(filters, filters, 3) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, filters, H, W)."""
        h = self.input(x)
        for block in self.blocks:
            h = h + block(F.relu(h))
        return h
