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
        include: whether the pixel's own row is seen too. It is not in the first layer, whose input are the pixels
            themselves: its output at row i knows rows before i. All later layers may see their own row of that.

    >>> conv = RowConv2d(1, 1, 3, include=False)
    >>> x = torch.zeros(1, 1, 2, 2); x[..., 1, :] = 9.0
    >>> bool((conv(x) == conv.bias.view(1, 1, 1, 1)).all())     # nothing looks down or sideways
    True
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, include: bool) -> None:
        super().__init__()
        self.in_channels, self.kernel, self.reach, self.include = in_channels, kernel, kernel // 2, include
        self.rows = self.reach + include
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, self.rows, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        bound = 1.0 / math.sqrt(in_channels * self.rows * kernel)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, out_channels, H, W)."""
        side = self.kernel // 2
        padded = F.pad(x, (side, side, self.reach, 0))
        return F.conv2d(padded if self.include else padded[:, :, :-1], self.weight, self.bias)

    def start(self, batch: int, width: int) -> RowCache:
        """A fresh cache for a walk over `batch` images, row by row."""
        return RowCache(self.weight.new_zeros(batch, self.rows, width + 2 * (self.kernel // 2), self.in_channels))

    def step_row(self, x: Tensor, cache: RowCache) -> Tensor:
        """The output at the next row of the walk, equal to `forward` there.

        Args:
            x: this layer's input at that row, (B, W, in_channels); without `include`, at the row before it.
            cache: what `start` gave.

        Returns:
            Shape (B, W, out_channels).
        """
        side = self.kernel // 2
        cache.rows = cache.rows.roll(-1, 1)
        cache.rows[:, -1, side : side + x.shape[1]] = x
        windows = cache.rows.unfold(2, self.kernel, 1)  # (B, rows, W, in, kernel)
        windows = windows.permute(0, 2, 3, 1, 4).flatten(2)
        return F.linear(windows, self.weight.flatten(1), self.bias)


class RowCache:
    """The rows that a `RowConv2d` still reaches, with a border: (B, rows, W + 2 · border, in_channels)."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows


class LeftConv2d(nn.Module):
    """The horizontal stack's convolution: sees pixels to the left in its own row, and the pixel itself if told to.

    Args:
        in_channels, out_channels: as in `torch.nn.Conv2d`.
        kernel: the odd side of the kernel whose left half this is.
        include: whether the pixel itself is seen; it is not in the first layer.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, include: bool) -> None:
        super().__init__()
        self.in_channels, self.reach, self.include = in_channels, kernel // 2, include
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

    def start(self, batch: int) -> LeftCache:
        """A fresh cache for a walk over `batch` images, pixel by pixel."""
        return LeftCache(self.weight.new_zeros(batch, self.taps, self.in_channels))

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
        if column == 0:
            cache.taps = torch.zeros_like(cache.taps)
        if column or self.include:
            cache.taps = cache.taps.roll(-1, 1)
            cache.taps[:, -1] = x
        return F.linear(cache.taps.transpose(1, 2).flatten(1), self.weight.flatten(1), self.bias)


class LeftCache:
    """The pixels that a `LeftConv2d` still reaches, (B, taps, in_channels)."""

    def __init__(self, taps: Tensor) -> None:
        self.taps = taps
