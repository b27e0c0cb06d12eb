"""What an archive holds, as its header says it: one schema, checked once, when the header is read.

A member is a list of pictures with names, an array of events that a model codes, an array or a list of pictures without
names, or an array of anything else, kept as it is. `values` says how the stored values of an array of events map to
levels of a model.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, get_type_hints

import numpy as np

from chainrule.codec import names
from chainrule.codec.values import is_mapping, stored_values, to_levels

MOST_NAMES, MOST_MEMBERS = 2**20, 2**12
PIECE = 2**24
"""Bytes of a kept array that are coded together."""


class Malformed(Exception):
    """What no writer writes."""


def require(fine: bool) -> None:
    if not fine:
        raise Malformed


def built(cls: Any, given: Any) -> Any:
    """A dataclass from what JSON gave: all of its fields, each of its type, and no others.

    Raises:
        Malformed: it is otherwise.
    """
    hints = get_type_hints(cls)
    known = {field.name: hints[field.name] for field in fields(cls)}
    require(type(given) is dict and given.keys() == known.keys())
    for name, hint in known.items():
        require(hint is Any or type(given[name]) is hint)
    return cls(**given)


@dataclass(frozen=True)
class Pictures:
    """Pictures of any size and kind, or files stored as they are, with a name each."""

    kind: ClassVar[str] = "pictures"
    names: list

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.names)

    def check(self) -> None:
        """Raise Malformed if no writer writes it."""
        require(len(self.names) <= MOST_NAMES and all(type(name) is str and name for name in self.names))


@dataclass(frozen=True)
class Loose:
    """Pictures of any size without names: arrays that were in memory."""

    kind: ClassVar[str] = "list"
    count: int

    @property
    def names(self) -> list[str]:
        """Those of the files that they can be unpacked to."""
        return [f"{number:06}.png" for number in range(1, self.count + 1)]

    def check(self) -> None:
        """Raise Malformed if no writer writes it."""
        require(0 <= self.count <= MOST_NAMES)


@dataclass(frozen=True)
class Array:
    """An array of events: levels of a model; or, where its values are "pixels", of pictures."""

    kind: ClassVar[str] = "array"
    name: str  # of its file; "" for an array that never had one
    key: str  # its own name in an .npz file; "" if the file holds nothing else
    count: int
    dtype: str
    layout: str  # "events" (N, *shape); images: "NHWC", "NHW" for one channel, "flat" (N, C·H·W); one: "HWC", "HW"
    shape: list  # of an event
    levels: int
    values: Any  # a Mapping, or "pixels"

    @property
    def pixels(self) -> bool:
        """Whether its images are coded as pictures are."""
        return bool(self.values == "pixels")

    @property
    def single(self) -> bool:
        """Whether it is one picture, without an axis for their number."""
        return self.layout in ("HWC", "HW")

    @property
    def dims(self) -> int:
        """Entries of an event."""
        return math.prod(self.shape)

    def check(self) -> None:
        """Raise Malformed if no writer writes it."""
        require(1 <= len(self.shape) <= 8 and all(type(side) is int and 1 <= side < 2**32 for side in self.shape))
        require(self.dims < 2**32 and 2 <= self.levels <= 2**16 and 0 <= self.count < 2**48)
        image = len(self.shape) == 3
        layouts = {"NHWC", "flat", *(["NHW"] * (self.shape[0] == 1))} if image else {"events"}
        single = {"HWC", *(["HW"] * (self.shape[0] == 1))} if self.pixels and self.count == 1 else set()
        require(self.layout in layouts | single)
        require(bool(re.fullmatch(r"[<>|][ui][1248]", self.dtype)))
        if self.pixels:
            require(image and self.shape[0] <= 4 and self.dtype == "|u1" and self.levels == 256)
            return
        require(is_mapping(self.values, self.levels))
        require(int(stored_values(self.values, self.levels)[-1]) <= np.iinfo(self.dtype).max)

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        shape = tuple(self.shape)
        each = {"events": shape, "HWC": (*shape[1:], shape[0]), "HW": shape[1:], "flat": (self.dims,)}
        return each[self.layout] if self.single else (self.count, *each[self.layout.removeprefix("N")])

    def events(self, block: np.ndarray) -> np.ndarray:
        """Some of the array → events (n, *shape), levels; of pictures their pixels."""
        block = (
            block.transpose(0, 3, 1, 2) if self.layout in ("NHWC", "HWC") else block.reshape(len(block), *self.shape)
        )
        return block if self.pixels else to_levels(block, self.values, self.levels)

    def restored(self, x: np.ndarray) -> np.ndarray:
        """Events (n, *shape) → the array's own values, layout and type."""
        x = x.transpose(0, 2, 3, 1) if self.layout in ("NHWC", "HWC") else x
        x = x.reshape(len(x), -1) if self.layout == "flat" else x[:, 0] if self.layout in ("NHW", "HW") else x
        x = x if self.pixels else stored_values(self.values, self.levels)[x]
        return np.ascontiguousarray(x.astype(self.dtype))


@dataclass(frozen=True)
class Kept:
    """An array that no model codes (labels, say), as it is, in pieces of 2^24 bytes."""

    kind: ClassVar[str] = "kept"
    name: str
    key: str
    dtype: str
    shape: list

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def count(self) -> int:
        """Pieces."""
        return -(-self.size // PIECE)

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return tuple(self.shape)

    def check(self) -> None:
        """Raise Malformed if no writer writes it."""
        require(bool(re.fullmatch(r"[<>|][biufcSU]\d{1,6}", self.dtype)))
        require(len(self.shape) <= 32 and all(type(side) is int and 0 <= side < 2**48 for side in self.shape))
        try:
            require(self.size < 2**48)
        except (TypeError, ValueError):
            raise Malformed from None


Member = Array | Pictures | Loose | Kept
KINDS = {cls.kind: cls for cls in (Array, Pictures, Loose, Kept)}


def packed(member: Member) -> dict[str, Any]:
    """A member as the header holds it."""
    return {"kind": member.kind, **asdict(member)}


def unpacked(given: Any) -> Member:
    """A member of what JSON gave.

    Raises:
        Malformed: it is not one.
    """
    require(type(given) is dict and type(given.get("kind")) is str and given["kind"] in KINDS)
    return built(KINDS[given["kind"]], {name: value for name, value in given.items() if name != "kind"})


def check(members: list[Member]) -> str | None:
    """Check that an archive may hold these; returns what is wrong with its names, if anything, as part of a sentence.

    Raises:
        Malformed: no writer writes them.
    """
    for member in members:
        member.check()
    require(len(members) == 1 or all(isinstance(m, Pictures) or getattr(m, "name", "") for m in members))
    require(sum(member.count for member in members if isinstance(member, Pictures)) <= MOST_NAMES)
    keys = [(member.name, member.key) for member in members if isinstance(member, Array | Kept) and member.key]
    require(len(set(keys)) == len(keys) and all(name and names.is_safe(key) for name, key in keys))
    return names.problem(name for name in files_of(members) if name)


def files_of(members: list[Member]) -> list[str]:
    """The file of every member, once; "" for an array that has none."""
    files: list[str] = []
    boxes: dict[str, None] = {}
    for member in members:
        if isinstance(member, Pictures | Loose):
            files += member.names
        elif member.key:
            boxes[member.name] = None
        else:
            files.append(member.name)
    return [*files, *boxes]
