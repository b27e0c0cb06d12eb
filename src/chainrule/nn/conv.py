"""Masked convolution: over a whole image at once, or pixel by pixel with a cache."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.masks import MaskType, kernel_mask
from chainrule.nn import passes
from chainrule.nn.fronts import FrontCache, Fronts


class MaskedConv2d(nn.Module):
    """A convolution whose output at a pixel sees only earlier pixels (type B: and the pixel itself).

    The kernel is stored cropped to the rows that the mask leaves: a 7×7 type-A kernel as 4×7, a 3×3 type-B kernel as
    2×3. The rows below the centre are never stored and never multiplied.

    Args:
        in_channels, out_channels: as in `torch.nn.Conv2d`.
        kernel: the odd side of the full kernel.
        mask_type: "A" (centre left out) or "B".
        one_hot: if the input is one-hot vectors side by side, their length; otherwise 0. Exact mode needs to know.

    Raises:
        ValueError: `kernel` is not odd.

    Reference: van den Oord et al., Pixel Recurrent Neural Networks, 2016, section 3.4, https://arxiv.org/abs/1601.06759

    >>> conv = MaskedConv2d(1, 1, 3, "A")
    >>> x = torch.zeros(1, 1, 2, 2); x[..., 1, 1] = 9.0
    >>> bool((conv(x) == conv.bias.view(1, 1, 1, 1)).all())     # no pixel sees the last one
    True
    """

    mask: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, mask_type: MaskType, *, one_hot: int = 0
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.one_hot = in_channels, out_channels, one_hot
        self.kernel, self.radius, self.mask_type = kernel, kernel // 2, mask_type
        mask = kernel_mask(kernel, mask_type)
        self.register_buffer("mask", mask, persistent=False)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *mask.shape))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        # PyTorch's default for convolutions, with the fan-in that the mask leaves.
        bound = 1.0 / math.sqrt(in_channels * max(int(mask.sum()), 1))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, out_channels, H, W)."""
        if self.kernel == 1 and self.mask_type == "B":
            return F.conv2d(x, self.weight, self.bias)
        padded = F.pad(x, (self.radius, self.radius, self.radius, 0))
        return F.conv2d(padded, self.weight * self.mask, self.bias)

    def activated(self, x: Tensor) -> Tensor:
        """`forward` of relu(x); `x` may be overwritten."""
        y = passes.of(self, "activated")(self, x)
        return self(x.relu_()) if y is None else y

    def pointwise(self, x: Tensor) -> Tensor:
        """A 1×1 convolution of type B at single pixels: (..., in_channels) → (..., out_channels)."""
        return F.linear(x, self.weight[:, :, 0, 0], self.bias)

    def matrix_and_bias(self) -> tuple[Tensor, Tensor]:
        """The connected taps side by side in raster order, (out_channels, taps · in_channels), and the bias."""
        return tap_matrix(self.weight, self.mask), self.bias

    def start(self, batch: int, width: int) -> WindowCache:
        """A fresh cache for a walk over `batch` images in raster order."""
        return WindowCache((self.weight * self.mask).detach(), self.bias.detach(), self.mask, batch, width)

    def start_fronts(self, fronts: Fronts) -> FrontCache:
        """A fresh cache for a walk over the fronts of one picture, for `step` and `remember`."""
        return FrontCache(self, fronts)

    def step(self, x: Tensor | None, cache: WindowCache | FrontCache, column: int) -> Tensor:
        """The output at the next pixel of the walk, equal to `forward` there.

        Args:
            x: this layer's input at the pixel, shape (B, in_channels). With type A it is not used: the value is not
                known yet, and is handed over by `remember` once it is.
            cache: what `start` gave, or `start_fronts`: the pixels of a front then stand in the place of a batch.
            column: the pixel's column; its row is the cache's. With fronts, the number of the front.

        Returns:
            Shape (B, out_channels).
        """
        if column == 0:
            cache.next_row()
        if self.mask_type == "B":
            assert x is not None
            self.remember(x, cache, column)
        return cache.output(column)

    def remember(self, x: Tensor, cache: WindowCache | FrontCache, column: int) -> None:
        """Hand over this layer's input at `column`, (B, in_channels); with type A, once the pixel is known."""
        cache.write(x, column)


def tap_matrix(weight: Tensor, mask: Tensor) -> Tensor:
    """A kernel's connected taps side by side in raster order: (O, I, rows, columns) → (O, taps · I)."""
    taps = [weight[:, :, i, j] for i, j in mask.nonzero().tolist()]
    return torch.cat(taps or [weight[:, :0, 0, 0]], 1)


class WindowCache:
    """What one masked convolution remembers during a walk: the rows that its kernel still reaches.

    All rows above the current one contribute to the outputs of the current row in one product, taken when the row
    begins; a step adds the few taps to its left (and its centre). The cache belongs to the walk, never to the layer, so
    that several walks may share one model.

    Args:
        weight: masked, (out, in, radius + 1, kernel), with its bias (out,).
        mask: of the kernel.
        batch, width: of the images.
    """

    def __init__(self, weight: Tensor, bias: Tensor, mask: Tensor, batch: int, width: int) -> None:
        outputs, self.channels, rows, self.kernel = weight.shape
        self.radius, self.width, self.bias = rows - 1, width, bias
        self.taps = int(mask[-1].sum())  # of the centre's row: left neighbours, and the centre with type B
        # (taps * in, out): rows of taps, channels innermost, as the window below lies in memory.
        self.above_weight = weight[:, :, :-1].permute(2, 3, 1, 0).reshape(-1, outputs).contiguous()
        self.row_weight = weight[:, :, -1, : self.taps].permute(2, 1, 0).reshape(-1, outputs).contiguous()
        self.rows = weight.new_zeros(batch, rows, width + 2 * self.radius, self.channels)
        self.above: Tensor | None = None  # (B, width, out)
        self.started = False

    def next_row(self) -> None:
        """Move on to the next row: the oldest row is forgotten, the row above is complete."""
        batch = self.rows.shape[0]
        if self.started and self.radius:
            self.rows[:, :-1] = self.rows[:, 1:].clone()
            self.rows[:, -1].zero_()
        self.started = True
        if self.radius:
            windows = self.rows[:, :-1].unfold(2, self.kernel, 1)  # (B, radius, width, in, kernel)
            windows = windows.permute(0, 2, 1, 4, 3).reshape(batch * self.width, -1)
            self.above = torch.addmm(self.bias, windows, self.above_weight).view(batch, self.width, -1)

    def write(self, x: Tensor, column: int) -> None:
        """Remember the layer's input at `column` of the current row, shape (B, in)."""
        self.rows[:, -1, column + self.radius] = x

    def output(self, column: int) -> Tensor:
        """The convolution at `column` of the current row, shape (B, out)."""
        start = self.bias if self.above is None else self.above[:, column]
        if not self.taps:
            return start.expand(self.rows.shape[0], -1)
        window = self.rows[:, -1, column : column + self.taps].flatten(1)  # a view: the taps lie side by side
        return torch.addmm(start, window, self.row_weight)
