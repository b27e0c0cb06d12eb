"""Between the bytes of pictures and levels.

A level v of L is shown as the byte v · 255 // (L − 1), the *scaled grid*, or, where pictures have as many values as
there are levels but not those, as the v-th of these *pixel values*. Either way nothing is lost. Other bytes are
quantised, v ↦ v · L // 256.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from chainrule.errors import DataError

FEW = 16
"""Pictures of at most so many different values have a level for each of them, unless told otherwise."""


class Leveled(NamedTuple):
    """Bytes made levels: (…) uint8, how many levels there are, their pixel values (None: the grid), and a sentence."""

    values: np.ndarray
    levels: int
    pixel_values: tuple[int, ...] | None
    note: str


def grid_of(levels: int, pixel_values: Sequence[int] | None = None) -> np.ndarray:
    """The bytes that the levels are shown as, (levels,) uint8. Raises `DataError` unless 2 ≤ levels ≤ 256.

    >>> grid_of(4)
    array([  0,  85, 170, 255], dtype=uint8)
    >>> grid_of(3, (0, 128, 255))
    array([  0, 128, 255], dtype=uint8)
    """
    if not 2 <= levels <= 256:
        raise DataError(f"pictures of 8 bits cannot show {levels} levels: choose from 2 to 256")
    if pixel_values is not None:
        return np.array(checked_values(pixel_values, levels), np.uint8)
    return (np.arange(levels) * 255 // (levels - 1)).astype(np.uint8)


def checked_values(pixel_values: Sequence[int], levels: int) -> tuple[int, ...]:
    """Pixel values as a tuple. Raises `DataError` unless they are `levels` ascending bytes."""
    found = tuple(pixel_values)
    fine = all(type(value) is int and 0 <= value <= 255 for value in found)
    if not fine or len(found) != levels or list(found) != sorted(set(found)):
        raise DataError(f"the pixel values {found} are not {levels} ascending bytes, one for each level")
    return found


def quantise(pixels: np.ndarray, levels: int, pixel_values: Sequence[int] | None = None) -> tuple[np.ndarray, bool]:
    """Bytes → levels, and whether that was exact: each byte was one that a level is shown as. Raises `DataError`.

    Otherwise v ↦ v · levels // 256 for the scaled grid, and the nearest of given pixel values.

    >>> quantise(np.array([0, 85, 255], np.uint8), levels=4)
    (array([0, 1, 3], dtype=uint8), True)
    >>> quantise(np.array([0, 84, 255], np.uint8), levels=4)
    (array([0, 1, 3], dtype=uint8), False)
    >>> quantise(np.array([0, 9, 11], np.uint8), 3, pixel_values=(0, 10, 255))
    (array([0, 1, 1], dtype=uint8), False)
    """
    grid = grid_of(levels, pixel_values)
    if levels == 256:
        return pixels, True
    data = bytearray(pixels.tobytes())  # translated as bytes: as indices they would take eight times the memory
    exact = not data.translate(None, grid.tobytes())
    if pixel_values is not None:
        table = np.abs(np.arange(256)[:, None] - grid.astype(int)).argmin(1)
    else:
        table = np.arange(256) * levels // 256
    if exact:
        table[grid] = np.arange(levels)
    values = np.frombuffer(data.translate(table.astype(np.uint8).tobytes()), np.uint8)
    return values.reshape(pixels.shape), exact


def leveled(
    pixels: np.ndarray, what: str, levels: int | None = None, pixel_values: Sequence[int] | None = None
) -> Leveled:
    """Bytes of one's own → levels.

    Args:
        pixels: uint8, of any shape.
        what: what they are, as the subject of an error's sentence.
        levels: how many; None for as many as there are values, up to `FEW`, and else 256.
        pixel_values: what a trained model's levels stand for; other bytes are refused then.

    Raises:
        DataError: all of them would become one level, though they differ, or are none of the given pixel values.

    >>> found = leveled(np.array([0, 128, 255, 128], np.uint8), "x.npy")
    >>> found.values.tolist(), found.levels, found.pixel_values
    ([0, 1, 2, 1], 3, (0, 128, 255))
    """
    distinct = np.bincount(pixels.reshape(-1), minlength=256).nonzero()[0].tolist()
    if pixel_values is not None:
        pixel_values = checked_values(pixel_values, levels or len(pixel_values))
        if other := sorted(set(distinct) - set(pixel_values)):
            raise DataError(f"{what} holds the value {other[0]}: the model's levels are {listed(pixel_values)}")
        values, _ = quantise(pixels, len(pixel_values), pixel_values)
        return Leveled(values, len(pixel_values), pixel_values, f"The pixel values are {listed(pixel_values)}.")
    hint = ""
    if levels is None:
        few = 2 <= len(distinct) <= FEW
        levels, hint = (len(distinct), "; --levels 256 would keep all bytes apart") if few else (256, "")
    if levels == 256:
        return Leveled(pixels, 256, None, "The pixels are taken as they stand, 8 bits a channel.")
    values, exact = quantise(pixels, levels)
    if exact:
        return Leveled(values, levels, None, f"Every pixel is one of the {levels} levels scaled to 0…255{hint}.")
    if len(distinct) == levels:
        own = tuple(distinct)
        note = f"The pixels have {levels} values ({listed(own)}), which are the levels{hint}."
        return Leveled(quantise(pixels, levels, own)[0], levels, own, note)
    if values.min() == values.max() and len(distinct) > 1:
        raise DataError(
            f"{what} has values from {distinct[0]} to {distinct[-1]}, all of which {levels} levels make one: ask for "
            f"more levels, or for {len(distinct)}, to have one for each value"
        )
    note = f"The 8-bit pixels were quantised to {levels} levels (v · {levels} // 256)."
    return Leveled(values, levels, None, note)


def listed(values: Sequence[int]) -> str:
    """Values for a person, the middle left out where there are many.

    >>> listed(range(9))
    '0, 1, 2, … 8'
    """
    return ", ".join(map(str, values)) if len(values) <= 5 else f"{', '.join(map(str, values[:3]))}, … {values[-1]}"
