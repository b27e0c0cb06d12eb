"""Wavefronts: all pixels of a picture that can be computed at once, because what they need is known.

A masked network whose first kernel has radius r = 3 knows all it needs for pixel (i, j) once the row above is done up
to column j + r. So the pixels with equal t = j + 4i, a front, go together, and a picture of H × W takes W + 4 (H − 1)
steps in the place of H · W. A front of a picture narrower than 4 may be empty.

In skewed coordinates, in which pixel (i, j) lies in column t of row i, every tap of a kernel lies in an earlier column
(or in the same one, with type B: the pixel itself). So a layer need remember only its last few columns, whatever the
picture's size.

Reference: wavefront parallel processing as in video codecs, Chi et al., Parallel Scalability and Efficiency of HEVC
Parallelization Approaches, 2012, https://doi.org/10.1109/TCSVT.2012.2223056
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

LAG = 4
"""Columns by which a row's front is behind that of the row above: one more than the first kernel's radius."""


class Fronts:
    """The fronts of a picture in turn, or of several of one size side by side.

    >>> [rows.tolist() for rows, columns in Fronts(2, 5)]
    [[0], [0], [0], [0], [0, 1], [1], [1], [1], [1]]
    """

    def __init__(self, height: int, width: int, pictures: int = 1) -> None:
        self.height, self.width, self.pictures = height, width, pictures

    def __len__(self) -> int:
        return self.width + LAG * (self.height - 1)

    def __getitem__(self, t: int) -> tuple[Tensor, Tensor]:
        """Rows and columns of the pixels of front t, from the highest down."""
        if not 0 <= t < len(self):
            raise IndexError(t)
        first, end = self.rows(t)
        rows = torch.arange(first, end)
        return rows, t - LAG * rows

    def rows(self, t: int) -> tuple[int, int]:
        """The first row of front t, and the one after its last."""
        return max(0, -((self.width - 1 - t) // LAG)), min(self.height, t // LAG + 1)


class FrontCache:
    """What a masked convolution remembers during a walk over fronts: its input's last columns, skewed, in a ring.

    It replaces a `WindowCache`, with a front in place of a column and its pixels in place of a batch.

    Args:
        conv: the layer; its matrix and bias are used, so that an exact layer's walk is exact.
        fronts: of the picture.
    """

    def __init__(self, conv: Any, fronts: Fronts) -> None:
        self.fronts, radius = fronts, conv.radius
        matrix, bias = conv.matrix_and_bias()
        self.matrix, self.bias = matrix.detach(), bias.detach()
        self.taps = [(int(i) - radius, int(j) - radius) for i, j in conv.mask.nonzero()]
        self.border, self.columns = radius, (LAG + 1) * radius + 1
        size = fronts.height + radius, self.columns, fronts.pictures, conv.in_channels
        self.ring = torch.zeros(size, dtype=matrix.dtype, device=matrix.device)

    def next_row(self) -> None:
        """Do nothing: a front begins no row."""

    def write(self, x: Tensor, t: int) -> None:
        """Remember the layer's input at the pixels of front t, (pixels · pictures, in); zeros lie around them."""
        first, end = self.fronts.rows(t)
        self.ring[:, t % self.columns] = 0
        pixels = x.view(end - first, self.fronts.pictures, x.shape[-1])
        self.ring[self.border + first : self.border + end, t % self.columns] = pixels

    def output(self, t: int) -> Tensor:
        """The convolution at the pixels of front t, (pixels · pictures, out)."""
        first, end = self.fronts.rows(t)
        parts = []
        for down, right in self.taps:
            rows = slice(self.border + first + down, self.border + end + down)
            parts.append(self.ring[rows, (t + right + LAG * down) % self.columns])
        window = torch.cat(parts, -1) if parts else self.ring[first:end, 0, :, :0]
        return F.linear(window.flatten(0, 1), self.matrix, self.bias)
