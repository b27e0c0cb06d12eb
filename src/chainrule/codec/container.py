"""The `.crz` container: a header, perhaps a model, chunks, an end; docs/format.md is its specification.

Every byte is under a checksum, every size is checked before anything is read or allocated for it, and what is missing
is noticed: the end marker counts chunks and events and seals the order of all checksums.
"""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from chainrule.codec.members import Images, Malformed, built, check, packed, require, unpacked
from chainrule.errors import CodecError

MAGIC = b"\x89CRZ\r\n\x1a\n"
VERSION = 1

MOST_HEADER = 2**26
"""Bytes of the header, packed and unpacked: enough for a million file names."""
MOST_NAMES, MOST_MEMBERS, MOST_CONFIG = 2**20, 2**12, 2**20
"""File names and members of an archive, and bytes of an embedded model's config.json."""
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
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


@dataclass
class Header:
    """What an archive says about itself.

    Args:
        arithmetic: version of the exact arithmetic.
        fingerprint, probe: of the exact model, 32 bytes each, in hexadecimal.
        model: the model's class, for people.
        shape, levels: of one event.
        count: events in all.
        members: what the events came from, in order; see docs/format.md.
        embedded: whether the model follows.
    """

    arithmetic: int
    fingerprint: str
    probe: str
    model: str
    shape: list
    levels: int
    count: int
    members: list
    embedded: bool

    @property
    def dims(self) -> int:
        """Entries of an event."""
        return math.prod(self.shape)

    def pack(self) -> bytes:
        """As the archive holds it: packed JSON."""
        given = {**vars(self), "members": [packed(member) for member in self.members]}
        return zlib.compress(json.dumps(given, separators=(",", ":")).encode(), 9)

    @classmethod
    def unpack(cls, stored: bytes) -> Header:
        """Read and check, before anything is made of it.

        Raises:
            CodecError: no writer writes it, or it names files that may not be.
        """
        try:
            inflater = zlib.decompressobj()
            text = inflater.decompress(stored, MOST_HEADER + 1)
            require(inflater.eof and not inflater.unused_data and len(text) <= MOST_HEADER)
            require(text.count(b'"') <= 2 * (MOST_NAMES + 32 * MOST_MEMBERS))
            bare = STRING.sub(b"", text)  # what is left are the brackets and commas that make lists and objects
            require(bare.count(b"{") + bare.count(b"[") <= 4 * MOST_MEMBERS + 8 and bare.count(b",") <= 2 * MOST_NAMES)
            header = built(cls, json.loads(text))
            header.members = [unpacked(member) for member in header.members]
            header._check()
            unsafe = check(header.members, tuple(header.shape), header.levels, header.count)
        except (zlib.error, ValueError, Malformed, RecursionError):
            raise CodecError("the archive's header cannot be read: the file is damaged") from None
        if unsafe:
            raise CodecError(f"the archive holds files that may not be, {unsafe}: it is refused")
        return header

    def _check(self) -> None:
        require(1 <= len(self.shape) <= 8 and all(type(side) is int and 1 <= side < 2**32 for side in self.shape))
        require(self.dims < 2**32 and 2 <= self.levels <= 2**16)
        require(all(0 <= number < 2**48 for number in (self.arithmetic, self.count)))
        require(all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in (self.fingerprint, self.probe)))
        require(bool(re.fullmatch(r"[A-Za-z]\w{0,63}", self.model, re.ASCII)))
        require(len(self.members) <= MOST_MEMBERS)
        require(sum(len(member.names) for member in self.members if isinstance(member, Images)) <= MOST_NAMES)


class Writer:
    """Writes an archive to a stream, front to back; nothing is written twice."""

    def __init__(self, stream: BinaryIO, header: Header, model: tuple[bytes, bytes] | None = None) -> None:
        self.stream, self.header = stream, header
        self.chunks = self.events = self.size = 0
        stored = header.pack()
        Header.unpack(stored)  # what we write, we must be able to read
        self._seal = b""
        self._emit(PREFIX.pack(MAGIC, VERSION, len(stored)), stored)
        if model is not None:
            config, weights = model
            if len(config) > MOST_CONFIG or len(weights) > MOST_MODEL:
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
        stored = CRC.pack(crc)
        self.stream.write(stored)
        self.size += CRC.size
        return stored

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
        stored = self._read(length)
        self._seal = self._check(prefix, stored)
        self.header = Header.unpack(stored)
        self.model: tuple[bytes, bytes] | None = None
        if self.header.embedded:
            start = self._read(MODEL.size)
            tag, config_length, weights_length = MODEL.unpack(start)
            if tag != b"M" or config_length > MOST_CONFIG:
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
        stored = self._read(CRC.size)
        if stored != CRC.pack(crc):
            raise CodecError("the archive is damaged: a checksum is wrong")
        return stored

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
