"""Pictures of mixed sizes: a split that no single tensor holds, and the crops that a model is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from chainrule.data.orientations import ORIENTATIONS, laid
from chainrule.errors import DataError


class Pictures:
    """Events of one number of channels and of any height and width.

    Args:
        pictures: uint8 or int16 tensors (C, H, W), with the same C.

    Raises:
        DataError: there are none, one is empty, or they differ in their channels.

    >>> pictures = Pictures([torch.zeros(3, 5, 7, dtype=torch.uint8), torch.ones(3, 4, 9, dtype=torch.uint8)])
    >>> pictures.shape, len(pictures), pictures.numel(), pictures[1].shape
    ((2, 3, None, None), 2, 213, torch.Size([3, 4, 9]))
    """

    def __init__(self, pictures: Sequence[Tensor]) -> None:
        self.pictures = list(pictures)
        if not self.pictures:
            raise DataError("there are no pictures: give at least one")
        if any(picture.ndim != 3 for picture in self.pictures) or len({len(picture) for picture in self.pictures}) > 1:
            raise DataError("pictures of mixed sizes must be (C, H, W) with the same number of channels C")
        if any(0 in picture.shape for picture in self.pictures):
            raise DataError("a picture has no pixels: leave it out")
        self.dtype, self.ndim = self.pictures[0].dtype, 4
        self._sizes = np.array([picture.shape[1:] for picture in self.pictures])

    @property
    def shape(self) -> tuple[int, int, None, None]:
        """Of all together, (N, C, None, None): height and width are each picture's own."""
        return len(self.pictures), len(self.pictures[0]), None, None

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.pictures)

    def __getitem__(self, rows: int | slice) -> Tensor | Pictures:  # type: ignore[override]
        return Pictures(self.pictures[rows]) if isinstance(rows, slice) else self.pictures[rows]

    def numel(self) -> int:
        """Entries of all pictures together."""
        return sum(picture.numel() for picture in self.pictures)

    def to(self, device: torch.device | str) -> Pictures:
        """The same on a device."""
        return Pictures([picture.to(device) for picture in self.pictures])

    def range(self) -> tuple[int, int]:
        """The least and the greatest value."""
        ends = [torch.aminmax(picture) for picture in self.pictures if picture.numel()]
        return int(min(low for low, _ in ends)), int(max(high for _, high in ends))

    def bytes(self) -> Iterator[bytes]:
        """What tells these pictures from others: the size and the values of each."""
        for picture in self.pictures:
            yield f"{tuple(picture.shape)}".encode()
            yield np.asarray(picture.cpu(), "u1" if picture.dtype == torch.uint8 else "<i2", order="C").tobytes()

    def pieces(self, side: int) -> Tensor:
        """The row of each picture as many times as crops cover it, so that pixels are trained on about alike: int64.

        Each counts alike where a model is measured. Drawn one by one, small pictures would take most of the training.

        >>> pictures = Pictures([torch.zeros(1, 4, 40, dtype=torch.uint8), torch.zeros(1, 9, 9, dtype=torch.uint8)])
        >>> pictures.pieces(16).tolist()
        [0, 0, 0, 1]
        """
        times = np.prod(-(-self._sizes // side), axis=1)
        return torch.from_numpy(np.repeat(np.arange(len(times)), times))

    def fitting(self, rows: Tensor, side: int) -> Tensor:
        """The rows that `crops` takes crops of: these, or others where a picture is too small, int64."""
        fits: np.ndarray = np.all(self._sizes >= self._crop_size(rows, side), axis=1)
        large = np.flatnonzero(fits)
        return torch.tensor([row if fits[row] else int(large[row % len(large)]) for row in rows.tolist()])

    def _crop_size(self, rows: Tensor, side: int) -> tuple[int, int]:
        height, width = self.pictures[int(rows[0])].shape[1:]
        return min(side, height), min(side, width)

    def crops(self, rows: Tensor, side: int, *, turned: bool = False) -> Tensor:
        """Random crops, one of each row's picture, by PyTorch's generator: (B, C, height, width).

        The first row's picture settles their size, at most `side` in both directions. A later row whose picture is
        smaller than that is taken from another, large enough picture, so that a batch has one size and every size has
        its batches. With `turned` a batch is laid in one of eight ways, drawn at random.

        >>> torch.manual_seed(0).initial_seed()
        0
        >>> Pictures([torch.zeros(1, 4, 40, dtype=torch.uint8)]).crops(torch.tensor([0, 0]), 16).shape
        torch.Size([2, 1, 4, 16])
        """
        height, width = self._crop_size(rows, side)
        chosen = self.fitting(rows, side).tolist()
        corners = torch.rand(len(chosen), 2).tolist()
        found = []
        for row, (down, right) in zip(chosen, corners, strict=True):
            picture = self.pictures[row]
            top, left = int(down * (picture.shape[1] - height + 1)), int(right * (picture.shape[2] - width + 1))
            found.append(picture[:, top : top + height, left : left + width])
        x = torch.stack(found)
        return laid(x, int(torch.randint(ORIENTATIONS, ()))) if turned else x
