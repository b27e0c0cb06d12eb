"""The eight ways to lay a picture: as it is, transposed, mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

AS_IT_IS = 0
TRANSPOSED, ROWS_REVERSED, COLUMNS_REVERSED = 1, 2, 4
"""Parts of an orientation, done in this order."""
ORIENTATIONS = 8


def laid(x: Tensor, orientation: int) -> Tensor:
    """Pictures (N, C, H, W) in an orientation, (N, C, W, H) if it transposes.

    >>> import torch
    >>> laid(torch.arange(6).view(1, 1, 2, 3), TRANSPOSED | ROWS_REVERSED).tolist()
    [[[[2, 5], [1, 4], [0, 3]]]]
    """
    if orientation == AS_IT_IS:
        return x
    x = x.transpose(-2, -1) if orientation & TRANSPOSED else x
    return x.flip(_reversed(orientation)).contiguous()


def laid_back(x: Tensor, orientation: int) -> Tensor:
    """What `laid` was given."""
    if orientation == AS_IT_IS:
        return x
    x = x.transpose(-2, -1) if orientation & TRANSPOSED else x
    return x.flip(_reversed(orientation, back=True)).contiguous()


def _reversed(orientation: int, *, back: bool = False) -> list[int]:
    """The axes to reverse once the picture has been transposed, if it is."""
    rows, columns = (-1, -2) if back and orientation & TRANSPOSED else (-2, -1)
    return [axis for axis, part in ((rows, ROWS_REVERSED), (columns, COLUMNS_REVERSED)) if orientation & part]
