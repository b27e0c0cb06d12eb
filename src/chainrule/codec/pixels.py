"""What went into an archive, and how its stored values are levels: arrays and pictures in, the same ones out.

An archive's events come from *members*: an array each, or a list of pictures. A member's values are levels as they
stand ("levels"), bytes on the levels' grid ("scaled"), or the model's own pixel values, listed; a value that is none of
these is refused, never rounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.codec.container import Header
from chainrule.data.levels import checked_values, listed
from chainrule.errors import CodecError, DataError

DTYPES = re.compile(r"[<>|][ui][1248]")
MAPPINGS = ("levels", "scaled")
Mapping = str | list[int]


def stored_values(mapping: Mapping, levels: int) -> np.ndarray:
    """The stored value of each level, int64 (levels,).

    >>> stored_values("scaled", 4).tolist(), stored_values([0, 128, 255], 3).tolist()
    ([0, 85, 170, 255], [0, 128, 255])
    """
    if not isinstance(mapping, str):
        return np.array(mapping, np.int64)
    return np.arange(levels) if mapping == "levels" else np.arange(levels) * 255 // (levels - 1)


def is_mapping(values: Any, levels: int) -> bool:
    """Whether an archive's `values` can be understood: one of `MAPPINGS`, or a list of one byte for each level.

    >>> is_mapping([0, 128, 255], 3), is_mapping([0, 255, 128], 3), is_mapping("scaled", 300)
    (True, False, False)
    """
    if isinstance(values, list):
        try:
            return len(checked_values(values, levels)) == levels
        except DataError:
            return False
    return values == "levels" or (values == "scaled" and levels <= 256)


def picture_mapping(pixel_values: Sequence[int] | None) -> Mapping:
    """How the pictures of a model with these pixel values are stored."""
    return "scaled" if pixel_values is None else list(pixel_values)


def array_member(
    name: str,
    array: np.ndarray,
    shape: tuple[int, ...],
    levels: int,
    key: str | None = None,
    pixel_values: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Describe an array, (N, H, W, C), (N, H, W) or (N, *shape), for a model of that shape and so many levels.

    Args:
        name: the file that it came from; "" for none.
        key: its name inside of an .npz file.
        pixel_values: the model's.

    Raises:
        DataError: it does not fit the model.
    """
    what = name or "the array"
    if array.dtype.kind not in "ui":
        raise DataError(f"{what} holds {array.dtype} values: convert it to integers")
    wanted = (*shape[1:], shape[0]) if len(shape) == 3 else shape
    squeezed = len(shape) == 3 and shape[0] == 1 and array.shape[1:] == shape[1:]
    if array.ndim < 1 or (array.shape[1:] != wanted and not squeezed):
        text = ", ".join(map(str, wanted))
        raise DataError(f"{what} has shape {array.shape}: this model takes (N, {text})")
    member = {
        "kind": "array",
        "name": name,
        "count": len(array),
        "dtype": array.dtype.str,
        "squeezed": squeezed,
        "values": _mapping(what, array, levels, pixel_values),
    }
    return member if key is None else {**member, "key": key}


def _mapping(what: str, array: np.ndarray, levels: int, pixel_values: Sequence[int] | None) -> Mapping:
    """Which mapping all values of an array fit, piece by piece, so that it need not be in memory."""
    possible: list[Mapping] = list(MAPPINGS) if levels <= 256 else ["levels"]
    if pixel_values is not None:
        possible.append(list(pixel_values))
    step = max(1, 2**24 // max(array[:1].size, 1))
    odd = None
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


def array_blocks(
    array: np.ndarray, member: dict[str, Any], shape: tuple[int, ...], levels: int, size: int
) -> Iterator[np.ndarray]:
    """An array's events in blocks of up to `size`: levels (n, *shape), uint8 or int32."""
    for start in range(0, len(array), size):
        block = np.asarray(array[start : start + size])
        if len(shape) == 3:
            block = (block[..., None] if member["squeezed"] else block).transpose(0, 3, 1, 2)
        yield to_levels(block, member["values"], levels)


def to_levels(values: np.ndarray, mapping: Mapping, levels: int) -> np.ndarray:
    """Stored values → levels, uint8 or int32. Raises `DataError` for a value that no level has."""
    stored = stored_values(mapping, levels)
    unknown = np.setdiff1d(distinct(values), stored)
    if len(unknown):
        raise DataError(f"the value {unknown[0]} is no level of the model: nothing is rounded")
    table = np.zeros(int(stored[-1]) + 1, np.uint8 if levels <= 256 else np.int32)
    table[stored] = np.arange(levels)
    return table[values]


def distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values of an array of integers, sorted; bytes are counted, which is quicker than sorting them."""
    if values.dtype == np.uint8:
        return np.bincount(values.reshape(-1), minlength=256).nonzero()[0]
    return np.unique(values)


def restored(x: np.ndarray, member: dict[str, Any], levels: int) -> np.ndarray:
    """Events (n, *shape) in levels → the array's own values, layout and type."""
    if x.ndim == 4:
        x = x.transpose(0, 2, 3, 1)
    if member["squeezed"]:
        x = x[..., 0]
    return np.ascontiguousarray(stored_values(member["values"], levels)[x].astype(member["dtype"]))


def checked_members(header: Header) -> list[dict[str, Any]]:
    """An archive's members, if all is well with them; a CodecError otherwise: no name leads out of the folder."""
    names: set[str] = set()
    count = 0
    for member in header.members:
        values: Any = member.get("values")
        kind = member.get("kind")
        known = is_mapping(values, header.levels)
        if kind == "array" and known:
            name, key, dtype = member.get("name"), member.get("key"), member.get("dtype")
            fine = type(member.get("count")) is int and member["count"] >= 0 and type(member.get("squeezed")) is bool
            fine &= isinstance(dtype, str) and bool(DTYPES.fullmatch(dtype))
            fine &= isinstance(name, str) and ("key" not in member or isinstance(key, str))
            fine &= not member.get("squeezed") or (len(header.shape) == 3 and header.shape[0] == 1)
            if not fine or int(stored_values(values, header.levels)[-1]) > np.iinfo(str(dtype)).max:
                raise CodecError("the archive describes an array that cannot be: the file is damaged")
            if name != "" or "key" in member or len(header.members) > 1:
                _take(f"{name}/{key}" if "key" in member else name, names)
            count += member["count"]
        elif kind == "images" and known and values != "levels" and isinstance(member.get("names"), list):
            if len(header.shape) != 3 or header.shape[0] not in (1, 3):
                raise CodecError("the archive names pictures, but its events are none: the file is damaged")
            for name in member["names"]:
                _take(name, names)
            count += len(member["names"])
        else:
            raise CodecError("the archive holds something that this program does not know: update chainrule")
    if count != header.count:
        raise CodecError("the archive's files do not add up to its images: the file is damaged")
    parents = {name[:end] for name in names for end in (match.start() for match in re.finditer("/", name))}
    if clash := parents & names:
        raise CodecError(f"the archive names {min(clash)!r} both as a file and as a folder: it is refused")
    return header.members


def _take(name: Any, names: set[str]) -> None:
    """Add a name to those of the archive, or refuse it."""
    if not isinstance(name, str) or not is_safe(name):
        raise CodecError(f"the archive holds the file name {str(name)[:80]!r}, which leads elsewhere: it is refused")
    if name in names:
        raise CodecError(f"the archive holds the file name {name[:80]!r} twice: it is refused")
    names.add(name)


def is_safe(name: str) -> bool:
    """Whether a file name is relative, stays below its folder, and means the same on every system.

    >>> is_safe("digits/7.png"), is_safe("../7.png"), is_safe("/etc/passwd"), is_safe("C:7.png")
    (True, False, False, False)
    """
    parts = name.split("/")
    return (
        0 < len(name) <= 4096
        and all(part not in ("", ".", "..") and len(part.encode("utf-8", "replace")) <= 255 for part in parts)
        and not any(character in '\\:*?"<>|' or ord(character) < 32 or ord(character) == 127 for character in name)
        and not any(0xD800 <= ord(character) < 0xE000 for character in name)
        and not any(part != part.rstrip(" .") for part in parts)
    )
