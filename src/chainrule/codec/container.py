"""The `.crz` container: a header, models, chunks, an end; docs/format.md is its specification.

Every byte is under a checksum, every size is checked before anything is read or allocated for it, and what is missing
is noticed: the members say how much there must be, and the end seals the order of all checksums.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from chainrule.codec.members import (
    MOST_MEMBERS,
    MOST_NAMES,
    Array,
    Malformed,
    Member,
    built,
    check,
    packed,
    require,
    unpacked,
)
from chainrule.errors import CodecError
from chainrule.unpacking import inflate

MAGIC = b"\x89CRZ\r\n\x1a\n"
VERSION = 2

MOST_HEADER = 2**26
"""Bytes of the header, packed and unpacked: enough for a million file names."""
MOST_MODELS, MOST_SELF, MOST_CONFIG, MOST_WEIGHTS = 64, 2**12, 2**20, 2**32 - 1
"""Models of an archive; bytes of what one is known by, packed and unpacked, of its config.json and of its weights."""
MOST_EVENTS = 2000
"""Events or pictures of a chunk."""
WORST_BYTES = 4
"""No entry takes more with a model: 24 bits, and the coder's words."""

PREFIX = struct.Struct("<8sHI")
MODEL = struct.Struct("<cIII")
CHUNK = struct.Struct("<cII32s")
CRC = struct.Struct("<I")
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
USUAL = b'[{"kind":"array","name":"","key":"","count":1,"dtype":"|u1","layout":"NHWC","shape":[3,28,28],"levels":256,'
USUAL += b'"values":"pixels"},{"kind":"kept"},{"kind":"list","count":1}{"kind":"pictures","names":["1.png","2.png"]}]'
"""What a header usually says: the preset dictionary of its compression."""
USUAL_MODEL = b'","model":"PixelCNNMADE","shape":[3,28,28],"levels":4}{"arithmetic":1,"fingerprint":"","probe":"",'
USUAL_MODEL += b'"model":"LogisticPixelCNN","shape":[3,null,null],"levels":256}'
"""The same of what an archive says of a model."""


def deflated(given: Any, usual: bytes) -> bytes:
    """JSON as the archive holds it: deflated, with what it usually says as a preset dictionary."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=usual)
    text = json.dumps(given, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return packer.compress(text) + packer.flush()


def account_of(known: Known) -> bytes:
    """What a model's block says of it."""
    return deflated(asdict(known), USUAL_MODEL)


def pack_header(members: list[Member]) -> bytes:
    """A header as the archive holds it."""
    return deflated([packed(member) for member in members], USUAL)


def unpack_header(stored: bytes) -> list[Member]:
    """Read and check a header, before anything is made of it.

    Raises:
        CodecError: no writer writes it, or it names files that may not be.
    """
    try:
        text = inflate(stored, MOST_HEADER, USUAL)
        require(text.count(b'"') <= 2 * (MOST_NAMES + 32 * MOST_MEMBERS))
        bare = STRING.sub(b"", text)  # what is left are the brackets and commas that make lists and objects
        require(bare.count(b"{") + bare.count(b"[") <= 4 * MOST_MEMBERS + 8 and bare.count(b",") <= 2 * MOST_NAMES)
        given = json.loads(text)
        require(type(given) is list and len(given) <= MOST_MEMBERS)
        members = [unpacked(member) for member in given]
        unsafe = check(members)
    except (ValueError, Malformed, RecursionError):
        raise CodecError("the archive's header cannot be read: the file is damaged") from None
    if unsafe:
        raise CodecError(f"the archive holds files that may not be, {unsafe}: it is refused")
    return members


@dataclass(frozen=True)
class Known:
    """What an exact model is known by.

    Args:
        arithmetic: version of the exact arithmetic.
        fingerprint, probe: 32 bytes each, in hexadecimal.
        model: its class, for people.
        shape, levels: of its events; a side may be None, for any.
    """

    arithmetic: int
    fingerprint: str
    probe: str
    model: str
    shape: list
    levels: int

    @classmethod
    def read(cls, stored: bytes) -> Known:
        """Read and check what `account_of` wrote.

        Raises:
            CodecError: no writer writes it.
        """
        try:
            text = inflate(stored, MOST_SELF, USUAL_MODEL)
            require(text.count(b"[") == 1 and text.count(b"{") == 1)
            known: Known = built(cls, json.loads(text))
            sides = known.shape[1:] if known.shape[1:] != [None, None] else []
            require(
                1 <= len(known.shape) <= 8 and all(type(s) is int and 1 <= s < 2**32 for s in known.shape[:1] + sides)
            )
            require(2 <= known.levels <= 2**16 and 0 <= known.arithmetic < 2**48)
            require(all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in (known.fingerprint, known.probe)))
            require(bool(re.fullmatch(r"[A-Za-z]\w{0,63}", known.model, re.ASCII)))
        except (ValueError, Malformed, RecursionError):
            raise CodecError("the archive's account of a model cannot be read: the file is damaged") from None
        return known


class Writer:
    """Writes an archive to a stream, front to back; nothing is written twice."""

    def __init__(self, stream: BinaryIO, members: list[Member]) -> None:
        self.stream = stream
        self.models = self.chunks = self.size = 0
        stored = pack_header(members)
        unpack_header(stored)  # what we write, we must be able to read
        self._seal = b""
        self._emit(PREFIX.pack(MAGIC, VERSION, len(stored)), stored)

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

    def model(self, known: Known, inside: tuple[bytes, bytes] | None = None) -> int:
        """Append a model, perhaps with its two files; returns the number by which chunks refer to it."""
        account, (config, weights) = account_of(known), inside or (b"", b"")
        if len(config) > MOST_CONFIG or len(weights) > MOST_WEIGHTS:
            raise CodecError("the model is too large to be embedded: leave --embed-model out")
        if self.models == MOST_MODELS:
            raise CodecError(f"an archive has at most {MOST_MODELS} models: give fewer")
        self._emit(MODEL.pack(b"M", len(account), len(config), len(weights)), account, config, weights)
        self.models += 1
        return self.models - 1

    def chunk(self, count: int, digest: bytes, payload: bytes) -> None:
        """Append a chunk: so many events, pictures or pieces of the member at hand, and their SHA-256."""
        if len(payload) >= 2**32:
            raise CodecError("a picture is too large for an archive: leave it out")
        self._emit(CHUNK.pack(b"C", len(payload), count, digest), payload)
        self.chunks += 1

    def end(self) -> None:
        """Append the end marker."""
        self.stream.write(b"E")
        self.size += 1
        self._crc(zlib.crc32(self._seal + b"E"))


@dataclass
class Chunk:
    """One chunk as read, its checksum found right: `count` of the member's, from the one numbered `start`."""

    member: Member
    start: int
    count: int
    digest: bytes
    payload: bytes


class Reader:
    """Reads an archive from a stream, front to back. Everything that is wrong is a `CodecError`."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.chunks = self.size = self.place = self.done = 0  # the member at hand, and how much of it there was
        self.models: list[tuple[Known, tuple[bytes, bytes] | None]] = []
        magic = self._read_most(len(MAGIC))
        if not magic or not MAGIC.startswith(magic):
            raise CodecError("this is no .crz archive, or its first bytes were damaged")
        prefix = magic + self._read(PREFIX.size - len(magic))
        _, version, length = PREFIX.unpack(prefix)
        if version != VERSION:
            raise CodecError(
                f"the archive has format version {version}, this program reads {VERSION}: use the chainrule of its time"
            )
        if length > MOST_HEADER:
            raise CodecError("the archive's header claims an impossible size: the file is damaged")
        stored = self._read(length)
        self._seal = self._check(prefix, stored)
        self.members = unpack_header(stored)

    def _read(self, length: int) -> bytes:
        """Exactly so many bytes."""
        found = self._read_most(length)
        if len(found) < length:
            raise CodecError("the archive is truncated: its end is missing")
        return found

    def _read_most(self, length: int) -> bytes:
        """So many bytes, or all that are left; piece by piece, so that a false length never makes us ask for memory."""
        pieces, left = [], length
        while left and (piece := self.stream.read(min(left, 2**20))):
            pieces.append(piece)
            left -= len(piece)
        self.size += length - left
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
        while (tag := self._read(1)) == b"M":
            self._model(tag)
        while self.place < len(self.members) and self.done == self.members[self.place].count:
            self.place, self.done = self.place + 1, 0
        if tag == b"E":
            self._end(tag)
            return None
        if tag != b"C":
            raise CodecError("the archive is damaged: there is neither a chunk nor the end where one should be")
        start = tag + self._read(CHUNK.size - 1)
        _, length, count, digest = CHUNK.unpack(start)
        member: Any = self.members[self.place] if self.place < len(self.members) else None
        possible = member is not None and 1 <= count <= min(MOST_EVENTS, member.count - self.done)
        if possible and isinstance(member, Array) and not member.pixels:
            possible = length <= count * (member.dims + 4) * WORST_BYTES + 64
        if not possible:
            raise CodecError("the archive is damaged: a chunk claims an impossible size")
        payload = self._read(length)
        self._seal += self._check(start, payload)
        self.chunks += 1
        self.done += count
        return Chunk(member, self.done - count, count, digest, payload)

    def _model(self, tag: bytes) -> None:
        start = tag + self._read(MODEL.size - 1)
        _, length, config_length, weights_length = MODEL.unpack(start)
        if length > MOST_SELF or config_length > MOST_CONFIG or len(self.models) == MOST_MODELS:
            raise CodecError("the archive's account of a model cannot be read: the file is damaged")
        account, config, weights = self._read(length), self._read(config_length), self._read(weights_length)
        self._seal += self._check(start, account, config, weights)
        self.models.append((Known.read(account), (config, weights) if config or weights else None))

    def _end(self, tag: bytes) -> None:
        if self._read(CRC.size) != CRC.pack(zlib.crc32(self._seal + tag)):
            raise CodecError("the archive is damaged: its last checksum is wrong")
        if self.place < len(self.members):
            raise CodecError("the archive is damaged: it does not hold all that its header names")
        if self.stream.read(1):
            raise CodecError("the archive is followed by bytes that are not its own: cut them off")
