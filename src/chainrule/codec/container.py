"""The `.crz` container: a header, perhaps a model, chunks, an end; docs/format.md is its specification.

Every byte is under a checksum, every size is checked before anything is read or allocated for it, and what is missing
is noticed: the end marker counts chunks and events and seals the order of all checksums.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from chainrule.errors import CodecError

MAGIC = b"\x89CRZ\r\n\x1a\n"
VERSION = 1

MOST_HEADER = 2**26
"""Bytes of the header, packed, and four times as many unpacked: enough for a million file names."""
MOST_MODEL = 2**32 - 1
MOST_EVENTS = 2000
"""Events of a chunk."""
WORST_BYTES = 4
"""No entry takes more: 24 bits, and the coder's words."""

PREFIX = struct.Struct("<8sHI")
MODEL = struct.Struct("<cII")
CHUNK = struct.Struct("<cII32s")
END = struct.Struct("<cIQ")
CRC = struct.Struct("<I")


@dataclass
class Header:
    """What an archive says about itself.

    Args:
        arithmetic: version of the exact arithmetic.
        fingerprint, probe: of the exact model, 32 bytes each.
        model: the model's class, for people.
        shape, levels: of one event.
        count: events in all.
        members: what the events came from, in order; see docs/format.md.
        embedded: whether the model follows.
    """

    arithmetic: int
    fingerprint: bytes
    probe: bytes
    model: str
    shape: tuple[int, ...]
    levels: int
    count: int
    members: list[dict[str, Any]] = field(default_factory=list)
    embedded: bool = False

    @property
    def dims(self) -> int:
        """Entries of an event."""
        dims = 1
        for side in self.shape:
            dims *= side
        return dims

    def pack(self) -> bytes:
        """As the archive holds it: packed JSON."""
        fields = {
            **self.__dict__,
            "fingerprint": self.fingerprint.hex(),
            "probe": self.probe.hex(),
            "shape": list(self.shape),
        }
        return zlib.compress(json.dumps(fields, separators=(",", ":")).encode(), 9)

    @classmethod
    def unpack(cls, packed: bytes) -> Header:
        """Read and check. Raises `CodecError` for anything that no writer writes."""
        try:
            inflater = zlib.decompressobj()
            text = inflater.decompress(packed, 4 * MOST_HEADER)
            if not inflater.eof or inflater.unused_data:
                raise ValueError
            fields = json.loads(text)
            fields["fingerprint"], fields["probe"] = (
                bytes.fromhex(fields["fingerprint"]),
                bytes.fromhex(fields["probe"]),
            )
            fields["shape"] = tuple(fields["shape"])
            header = cls(**fields)
            header._check()
        except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise CodecError("the archive's header cannot be read: the file is damaged") from None
        return header

    def _check(self) -> None:
        whole = [self.arithmetic, self.count, self.levels, *self.shape]
        sane = (
            all(type(number) is int and 0 <= number < 2**48 for number in whole)
            and 2 <= self.levels <= 2**16
            and 1 <= len(self.shape) <= 8
            and min(self.shape) >= 1
            and self.dims < 2**32
            and len(self.fingerprint) == len(self.probe) == 32
            and isinstance(self.model, str)
            and type(self.embedded) is bool
            and isinstance(self.members, list)
            and all(isinstance(member, dict) for member in self.members)
        )
        if not sane:
            raise ValueError("not a header")


class Writer:
    """Writes an archive to a stream, front to back; nothing is written twice."""

    def __init__(self, stream: BinaryIO, header: Header, model: tuple[bytes, bytes] | None = None) -> None:
        self.stream, self.header = stream, header
        self.chunks = self.events = self.size = 0
        packed = header.pack()
        if len(packed) > MOST_HEADER:
            raise CodecError("there are too many file names for one archive: make several")
        self._seal = b""
        self._emit(PREFIX.pack(MAGIC, VERSION, len(packed)), packed)
        if model is not None:
            config, weights = model
            if max(len(config), len(weights)) > MOST_MODEL:
                raise CodecError("the model is too large to be embedded")
            self._emit(MODEL.pack(b"M", len(config), len(weights)), config, weights)

    def _emit(self, *parts: bytes) -> None:
        crc = 0
        for part in parts:
            crc = zlib.crc32(part, crc)
            self.stream.write(part)
            self.size += len(part)
        self._seal += self._crc(crc)

    def _crc(self, crc: int) -> bytes:
        """Write a checksum; gives it back as written."""
        packed = CRC.pack(crc)
        self.stream.write(packed)
        self.size += CRC.size
        return packed

    def chunk(self, count: int, digest: bytes, payload: bytes) -> None:
        """Append a chunk of `count` events whose levels have this SHA-256."""
        self._emit(CHUNK.pack(b"C", len(payload), count, digest), payload)
        self.chunks += 1
        self.events += count

    def end(self) -> None:
        """Append the end marker."""
        end = END.pack(b"E", self.chunks, self.events)
        self.stream.write(end)
        self.size += len(end)
        self._crc(zlib.crc32(self._seal + end))


@dataclass
class Chunk:
    """One chunk as read, its checksum found right."""

    count: int
    digest: bytes
    payload: bytes


class Reader:
    """Reads an archive from a stream, front to back. Everything that is wrong is a `CodecError`."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.chunks = self.events = self.size = 0
        prefix = self._read(PREFIX.size)
        magic, version, length = PREFIX.unpack(prefix)
        if magic != MAGIC:
            raise CodecError("this is no .crz archive, or its first bytes were damaged")
        if version != VERSION:
            raise CodecError(
                f"the archive has format version {version}, this program reads {VERSION}: update chainrule"
            )
        if length > MOST_HEADER:
            raise CodecError("the archive's header claims an impossible size: the file is damaged")
        packed = self._read(length)
        self._seal = self._check(prefix, packed)
        self.header = Header.unpack(packed)
        self.model: tuple[bytes, bytes] | None = None
        if self.header.embedded:
            start = self._read(MODEL.size)
            tag, config_length, weights_length = MODEL.unpack(start)
            if tag != b"M" or config_length > MOST_HEADER:
                raise CodecError("the archive's embedded model is damaged")
            config, weights = self._read(config_length), self._read(weights_length)
            self._seal += self._check(start, config, weights)
            self.model = config, weights

    def _read(self, length: int) -> bytes:
        """Exactly so many bytes, piece by piece, so that a false length never makes us ask for memory."""
        pieces, left = [], length
        while left:
            piece = self.stream.read(min(left, 2**20))
            if not piece:
                raise CodecError("the archive is truncated: its end is missing")
            pieces.append(piece)
            left -= len(piece)
        self.size += length
        return b"".join(pieces)

    def _check(self, *parts: bytes) -> bytes:
        crc = 0
        for part in parts:
            crc = zlib.crc32(part, crc)
        packed = self._read(CRC.size)
        if packed != CRC.pack(crc):
            raise CodecError("the archive is damaged: a checksum is wrong")
        return packed

    def next(self) -> Chunk | None:
        """The next chunk; None after the last, once the end is found to be right."""
        tag = self._read(1)
        if tag == b"E":
            self._end(tag)
            return None
        if tag != b"C":
            raise CodecError("the archive is damaged: there is neither a chunk nor the end where one should be")
        start = tag + self._read(CHUNK.size - 1)
        _, length, count, digest = CHUNK.unpack(start)
        possible = 1 <= count <= MOST_EVENTS and self.events + count <= self.header.count
        if not possible or length % 4 or length > count * self.header.dims * WORST_BYTES + 64:
            raise CodecError("the archive is damaged: a chunk claims an impossible size")
        payload = self._read(length)
        self._seal += self._check(start, payload)
        self.chunks += 1
        self.events += count
        return Chunk(count, digest, payload)

    def _end(self, tag: bytes) -> None:
        end = tag + self._read(END.size - 1)
        if self._read(CRC.size) != CRC.pack(zlib.crc32(self._seal + end)):
            raise CodecError("the archive is damaged: its last checksum is wrong")
        _, chunks, events = END.unpack(end)
        if (chunks, events) != (self.chunks, self.events) or events != self.header.count:
            raise CodecError("the archive is damaged: its end does not count what it holds")
        if self.stream.read(1):
            raise CodecError("the archive is followed by bytes that are not its own: cut them off")
