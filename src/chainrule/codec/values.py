"""How stored values map to levels: as they are, as bytes on the levels' grid, or as a model's own list of pixel values.

A value that is none of these is refused, never rounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chainrule.data.levels import checked_values, listed
from chainrule.errors import DataError

Mapping = str | list[int]

PIECE = 2**20
"""Bytes that are counted at a time."""


def stored_values(mapping: Mapping, levels: int) -> np.ndarray:
    """The stored value of each level, int64 (levels,).

    >>> stored_values("scaled", 4).tolist(), stored_values([0, 128, 255], 3).tolist()
    ([0, 85, 170, 255], [0, 128, 255])
    """
    if not isinstance(mapping, str):
        return np.array(mapping, np.int64)
    return np.arange(levels) if mapping == "levels" else np.arange(levels) * 255 // (levels - 1)


def is_mapping(values: object, levels: int) -> bool:
    """Whether an archive's `values` can be understood: levels, scaled, or a list of one byte for each level.

    >>> is_mapping([0, 128, 255], 3), is_mapping([0, 255, 128], 3), is_mapping("scaled", 300)
    (True, False, False)
    """
    if type(values) is list:
        try:
            return len(checked_values(values, levels)) == levels
        except DataError:
            return False
    return values == "levels" or (values == "scaled" and levels <= 256)


def to_levels(values: np.ndarray, mapping: Mapping, levels: int) -> np.ndarray:
    """Stored values → levels, uint8 or int32.

    Raises:
        DataError: there is a value that no level has.
    """
    stored = stored_values(mapping, levels)
    unknown = np.setdiff1d(distinct(values), stored)
    if len(unknown):
        raise DataError(f"the value {unknown[0]} is no level of the model: nothing is rounded")
    table = np.zeros(int(stored[-1]) + 1, np.uint8 if levels <= 256 else np.int32)
    table[stored] = np.arange(levels)
    return looked_up(table, values)


def looked_up(table: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`table[places]`; bytes are translated as bytes, without memory for indices of eight bytes each."""
    if (table.dtype, places.dtype) != (np.uint8, np.uint8):
        return table[places]
    whole = np.zeros(256, np.uint8)
    whole[: len(table)] = table
    return np.frombuffer(bytearray(places.tobytes().translate(whole.tobytes())), np.uint8).reshape(places.shape)


def distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values of an array of integers, sorted; bytes are counted, which is quicker than sorting them."""
    if values.dtype == np.uint8:
        flat, counts = values.reshape(-1), np.zeros(256, np.int64)
        for start in range(0, len(flat), PIECE):
            counts += np.bincount(flat[start : start + PIECE], minlength=256)
        return counts.nonzero()[0]
    return np.unique(values)


def mapping_of(what: str, array: np.ndarray, levels: int, pixel_values: Sequence[int] | None) -> Mapping:
    """Which mapping all values of an array fit, piece by piece, so that it need not be in memory.

    Raises:
        DataError: none does; `what` is the subject of its sentence.
    """
    possible: list[Mapping] = ["levels", "scaled"] if levels <= 256 else ["levels"]
    if pixel_values is not None:
        possible.append(list(pixel_values))
    step = max(1, 2**24 // max(array[:1].size, 1))
    for start in range(0, len(array), step):
        values = distinct(array[start : start + step])
        for mapping in list(possible):
            unknown = np.setdiff1d(values, stored_values(mapping, levels))
            if len(unknown):
                possible.remove(mapping)
                odd = unknown[0]
        if not possible:
            grid = " or on the grid v · 255 // (levels - 1)" if levels <= 256 else ""
            grid += f" or its pixel values ({listed(pixel_values)})" if pixel_values is not None else ""
            raise DataError(
                f"{what} holds the value {odd}, for which the model has no level: values must be levels from 0 to "
                f"{levels - 1}{grid}; nothing is rounded"
            )
    return possible[0]
