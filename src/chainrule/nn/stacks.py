"""Convolutions of a gated PixelCNN's two stacks: over rows above, and to the left. No tap is masked."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RowConv2d(nn.Module):
    """The vertical stack's convolution: sees whole stretches of rows above, so also to the right of a pixel.

    Args:
        in_channels, out_channels: as in `torch.nn.Conv2d`.
        kernel: the odd width; the kernel reaches kernel // 2 rows up.
        include: whether the pixel's own row is seen too. It is not in the first layer, whose input is the pixels
            themselves: its output at row i knows rows before i. All later layers may see their own row of that output.
        one_hot: if the input is one-hot vectors side by side, their length; otherwise 0.

    >>> conv = RowConv2d(1, 1, 3, include=False)
    >>> x = torch.zeros(1, 1, 2, 2); x[..., 1, :] = 9.0
    >>> bool((conv(x) == conv.bias.view(1, 1, 1, 1)).all())     # nothing looks down or sideways
    True
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, include: bool, one_hot: int = 0) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.one_hot = in_channels, out_channels, one_hot
        self.kernel, self.reach, self.include = kernel, kernel // 2, include
        self.rows = self.reach + include
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, self.rows, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        bound = 1.0 / math.sqrt(in_channels * self.rows * kernel)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, out_channels, H, W)."""
        padded = F.pad(x, (self.reach, self.reach, self.reach, 0))
        return F.conv2d(padded if self.include else padded[:, :, :-1], self.weight, self.bias)

    def matrix_and_bias(self) -> tuple[Tensor, Tensor]:
        """The taps side by side in raster order, (out_channels, taps · in_channels), and the bias."""
        return self.weight.permute(0, 2, 3, 1).flatten(1), self.bias

    def start(self, batch: int, width: int) -> RowCache:
        """A fresh cache for a walk over `batch` images, row by row."""
        return RowCache(self, batch, width)

    def step_row(self, x: Tensor, cache: RowCache) -> Tensor:
        """The output at the next row of the walk, equal to `forward` there.

        Args:
            x: this layer's input at that row, (B, W, in_channels); without `include`, at the row before it.
            cache: what `start` gave.

        Returns:
            Shape (B, W, out_channels).
        """
        return cache.output(x)


class RowCache:
    """The rows that a `RowConv2d` still reaches, with a border: (B, rows, W + 2 · border, in_channels)."""

    def __init__(self, conv: RowConv2d, batch: int, width: int) -> None:
        matrix, bias = conv.matrix_and_bias()
        self.weight, self.bias = matrix.detach().T.contiguous(), bias.detach()
        self.kernel, self.border = conv.kernel, conv.reach
        self.rows = self.weight.new_zeros(batch, conv.rows, width + 2 * conv.reach, conv.in_channels)

    def output(self, x: Tensor) -> Tensor:
        """Take in a row (B, W, in_channels), forget the oldest, and give the convolution there, (B, W, out)."""
        batch, width, _ = x.shape
        if self.rows.shape[1] > 1:
            self.rows[:, :-1] = self.rows[:, 1:].clone()
        self.rows[:, -1, self.border : self.border + width] = x
        windows = self.rows.unfold(2, self.kernel, 1)  # (B, rows, W, in, kernel)
        windows = windows.permute(0, 2, 1, 4, 3).reshape(batch * width, -1)
        return torch.addmm(self.bias, windows, self.weight).view(batch, width, -1)


class LeftConv2d(nn.Module):
    """The horizontal stack's convolution: sees pixels to the left in its own row, and the pixel itself if told to.

    Args:
        in_channels, out_channels: as in `torch.nn.Conv2d`.
        kernel: the odd side of the kernel whose left half this is.
        include: whether the pixel itself is seen; it is not in the first layer.
        one_hot: if the input is one-hot vectors side by side, their length; otherwise 0.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, include: bool, one_hot: int = 0) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.one_hot = in_channels, out_channels, one_hot
        self.reach, self.include = kernel // 2, include
        self.taps = self.reach + include
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1, self.taps))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        bound = 1.0 / math.sqrt(in_channels * max(self.taps, 1))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, out_channels, H, W)."""
        padded = F.pad(x, (self.reach, 0, 0, 0))
        return F.conv2d(padded if self.include else padded[..., :-1], self.weight, self.bias)

    def matrix_and_bias(self) -> tuple[Tensor, Tensor]:
        """The taps side by side from left to right, (out_channels, taps · in_channels), and the bias."""
        return self.weight.permute(0, 2, 3, 1).flatten(1), self.bias

    def start(self, batch: int, width: int) -> LeftCache:
        """A fresh cache for a walk over `batch` images, pixel by pixel."""
        return LeftCache(self, batch, width)

    def step(self, x: Tensor, cache: LeftCache, column: int) -> Tensor:
        """The output at the next pixel of the walk, equal to `forward` there.

        Args:
            x: this layer's input at that pixel, (B, in_channels); without `include`, at the pixel before it (which is
                not looked at in the first column).
            cache: what `start` gave.
            column: the pixel's column.

        Returns:
            Shape (B, out_channels).
        """
        return cache.output(x, column)


class LeftCache:
    """One row of a `LeftConv2d`'s input, with a border: (B, border + W, in_channels).

    No row need be forgotten: what is read was written in the same row, or is the border.
    """

    def __init__(self, conv: LeftConv2d, batch: int, width: int) -> None:
        matrix, bias = conv.matrix_and_bias()
        self.weight, self.bias = matrix.detach().T.contiguous(), bias.detach()
        self.taps, self.include = conv.taps, conv.include
        self.row = self.weight.new_zeros(batch, conv.reach + width, conv.in_channels)

    def output(self, x: Tensor, column: int) -> Tensor:
        """Take in the newest pixel that is seen from `column`, (B, in), and give the convolution there, (B, out)."""
        if column or self.include:
            self.row[:, column + self.taps - 1] = x
        return torch.addmm(self.bias, self.row[:, column : column + self.taps].flatten(1), self.weight)
