"""What an archive holds, as its header says it: one schema, checked once, when the header is read.

An archive's events come from *members*: an array each, or a list of pictures. A member's values are levels as they
stand ("levels"), bytes on the levels' grid ("scaled"), or the model's own pixel values, listed; a value that is none of
these is refused, never rounded. Labels and other small arrays that came with images are kept beside them.
"""

from __future__ import annotations

import base64
import math
import re
import zlib
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, get_type_hints

import numpy as np

from chainrule.codec import names
from chainrule.data.levels import checked_values
from chainrule.data.pictures import is_lossless
from chainrule.errors import DataError

Mapping = str | list[int]
MOST_KEPT = 2**24
"""Bytes of a small array that is kept beside images."""


class Malformed(Exception):
    """What no writer writes."""


def require(fine: bool) -> None:
    if not fine:
        raise Malformed


def built(cls: Any, given: Any) -> Any:
    """A dataclass of what JSON gave: every field there and of its type, and no other.

    Raises:
        Malformed: it is not so.
    """
    hints = get_type_hints(cls)
    known = {field.name: hints[field.name] for field in fields(cls)}
    require(type(given) is dict and given.keys() == known.keys())
    for name, hint in known.items():
        require(hint is Any or type(given[name]) is hint)
    return cls(**given)


@dataclass(frozen=True)
class Array:
    """An array of events: it takes the next `count` of the archive's."""

    kind: ClassVar[str] = "array"
    name: str  # of its file; "" for an array that never had one
    key: str  # its own name in an .npz file; "" if the file holds nothing else
    count: int
    dtype: str
    layout: str  # "events" (N, *shape); of images "NHWC", "NHW" for one channel, or "flat", (N, C·H·W)
    values: Any  # a Mapping

    def check(self, shape: tuple[int, ...], levels: int) -> None:
        """Raise Malformed unless events of this shape can be such an array."""
        image = len(shape) == 3
        layouts = {"NHWC", "flat", *(["NHW"] if shape[0] == 1 else [])} if image else {"events"}
        require(0 <= self.count < 2**48 and self.layout in layouts and is_mapping(self.values, levels))
        require(bool(re.fullmatch(r"[<>|][ui][1248]", self.dtype)))
        require(int(stored_values(self.values, levels)[-1]) <= np.iinfo(self.dtype).max)

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the whole array, for events of this shape."""
        each = {"events": shape, "NHWC": (*shape[1:], shape[0]), "NHW": shape[1:], "flat": (math.prod(shape),)}
        return (self.count, *each[self.layout])

    def events(self, block: np.ndarray, shape: tuple[int, ...], levels: int) -> np.ndarray:
        """Some of the array → events (n, *shape), levels."""
        block = block.transpose(0, 3, 1, 2) if self.layout == "NHWC" else block.reshape(len(block), *shape)
        return to_levels(block, self.values, levels)

    def restored(self, x: np.ndarray, levels: int) -> np.ndarray:
        """Events (n, *shape) → the array's own values, layout and type."""
        x = x.transpose(0, 2, 3, 1) if self.layout == "NHWC" else x
        x = x.reshape(len(x), -1) if self.layout == "flat" else x[:, 0] if self.layout == "NHW" else x
        return np.ascontiguousarray(stored_values(self.values, levels)[x].astype(self.dtype))


@dataclass(frozen=True)
class Images:
    """Pictures: an event each, and a name each."""

    kind: ClassVar[str] = "images"
    names: list
    values: Any  # a Mapping

    @property
    def count(self) -> int:
        """Events that it takes."""
        return len(self.names)

    def check(self, shape: tuple[int, ...], levels: int) -> None:
        """Raise Malformed unless events of this shape can be such pictures."""
        require(len(shape) == 3 and shape[0] in (1, 3) and is_mapping(self.values, levels) and self.values != "levels")
        require(all(type(name) is str and is_lossless(name) for name in self.names))


@dataclass(frozen=True)
class Kept:
    """A small array that is no event (labels, say), as it is; it lies beside others in an .npz file."""

    kind: ClassVar[str] = "kept"
    name: str
    key: str
    dtype: str
    shape: list
    data: str  # its bytes, packed by zlib, in base 64
    count: ClassVar[int] = 0

    @classmethod
    def of(cls, name: str, key: str, array: np.ndarray) -> Kept:
        """An array as such a member."""
        data = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
        return cls(name, key, array.dtype.str, list(array.shape), data)

    def check(self, shape: tuple[int, ...], levels: int) -> None:
        """Raise Malformed unless it is whole."""
        require(bool(self.name and self.key and re.fullmatch(r"[<>|][biufSU]\d{1,6}", self.dtype)))
        require(len(self.shape) <= 8 and all(type(side) is int and 0 <= side < 2**32 for side in self.shape))
        self.array()

    def array(self) -> np.ndarray:
        """The array.

        Raises:
            Malformed: its bytes are not those of such an array.
        """
        try:
            dtype = np.dtype(self.dtype)
            size = math.prod(self.shape) * dtype.itemsize
            require(size <= MOST_KEPT)
            inflater = zlib.decompressobj()
            raw = inflater.decompress(base64.b64decode(self.data, validate=True), size + 1)
            require(len(raw) == size and inflater.eof)
            return np.frombuffer(raw, dtype).reshape(self.shape)
        except (ValueError, TypeError, zlib.error):
            raise Malformed from None


Member = Array | Images | Kept
KINDS = {cls.kind: cls for cls in (Array, Images, Kept)}


def packed(member: Member) -> dict[str, Any]:
    """A member as the header holds it."""
    return {"kind": member.kind, **asdict(member)}


def unpacked(given: Any) -> Member:
    """A member of what JSON gave.

    Raises:
        Malformed: it is none.
    """
    require(type(given) is dict and type(given.get("kind")) is str and given["kind"] in KINDS)
    return built(KINDS[given["kind"]], {name: value for name, value in given.items() if name != "kind"})


def check(members: list[Member], shape: tuple[int, ...], levels: int, count: int) -> str | None:
    """Whether an archive may hold these: what is wrong with its names, if anything is, as a part of a sentence.

    Raises:
        Malformed: no writer writes them.
    """
    for member in members:
        member.check(shape, levels)
    require(sum(member.count for member in members) == count)
    require(len(members) == 1 or all(isinstance(member, Images) or member.name for member in members))
    keys = [(member.name, member.key) for member in members if not isinstance(member, Images) and member.key]
    require(len(set(keys)) == len(keys) and all(name and names.is_safe(key) for name, key in keys))
    return names.problem(name for name in files_of(members) if name)


def files_of(members: list[Member]) -> list[str]:
    """The file of every member, once; "" for an array that has none."""
    files: list[str] = []
    boxes: dict[str, None] = {}
    for member in members:
        if isinstance(member, Images):
            files += member.names
        elif member.key:
            boxes[member.name] = None
        else:
            files.append(member.name)
    return [*files, *boxes]


# ---------------------------------------------------------------------------------------------------------- the values


def stored_values(mapping: Mapping, levels: int) -> np.ndarray:
    """The stored value of each level, int64 (levels,).

    >>> stored_values("scaled", 4).tolist(), stored_values([0, 128, 255], 3).tolist()
    ([0, 85, 170, 255], [0, 128, 255])
    """
    if not isinstance(mapping, str):
        return np.array(mapping, np.int64)
    return np.arange(levels) if mapping == "levels" else np.arange(levels) * 255 // (levels - 1)


def is_mapping(values: Any, levels: int) -> bool:
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
    return table[values]


def distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values of an array of integers, sorted; bytes are counted, which is quicker than sorting them."""
    if values.dtype == np.uint8:
        return np.bincount(values.reshape(-1), minlength=256).nonzero()[0]
    return np.unique(values)
