"""Chunks of every kind of member, to bytes and back."""

from __future__ import annotations

import hashlib
import lzma
import zlib
from collections.abc import Iterator

import numpy as np
import torch

from chainrule.codec import varints
from chainrule.codec.container import Chunk
from chainrule.codec.event_coding import Encoding, decode_events, digest_of
from chainrule.codec.members import PIECE, Array, Kept, Loose, Pictures
from chainrule.codec.model_blocks import Packing, Unpacking
from chainrule.codec.picture_chunks import Mapper, Unpacked, decode_pictures
from chainrule.codec.picture_coding import DAMAGED
from chainrule.codec.picture_files import ARRAY, ARRAY_WITH_AXIS
from chainrule.errors import CodecError
from chainrule.unpacking import inflate, unxz

Coded = tuple[int, bytes, bytes]
"""What `Writer.chunk` takes: a count, a SHA-256, a payload."""

PLAIN, DEFLATED, XZ = range(3)
"""How a piece of a kept array is coded."""


def encode_events(packing: Packing, place: int, x: np.ndarray) -> Coded:
    """Events (N, *shape) of the model at a place of the list."""
    model = packing.models[place]
    events = torch.from_numpy(x)
    model = model.sized(*x.shape[2:]) if model.any_size else model
    encoding = Encoding(model, events)
    payload = varints.pack([packing.number(place)]) + encoding.words()
    return len(x), digest_of(events, model.levels), payload


def encode_piece(raw: bytes) -> Coded:
    """A piece of a kept array: the smallest of its bytes, deflated, and xz's."""
    tries = [(PLAIN, raw), (DEFLATED, zlib.compress(raw, 9)), (XZ, lzma.compress(raw, preset=6))]
    coder, payload = min(tries, key=lambda tried: len(tried[1]))
    return 1, hashlib.sha256(raw).digest(), bytes([coder]) + payload


def pieces_of(array: np.ndarray) -> Iterator[bytes]:
    """The bytes of an array in C order, piece by piece."""
    width = max(1, PIECE // max(array.dtype.itemsize, 1))
    if PIECE % max(array.dtype.itemsize, 1):  # words of an odd length
        raw = np.ascontiguousarray(array).tobytes()
        yield from (raw[start : start + PIECE] for start in range(0, len(raw), PIECE))
        return
    flat = array.reshape(-1)
    for start in range(0, len(flat), width):
        yield np.ascontiguousarray(flat[start : start + width]).tobytes()


def decode_chunk(chunk: Chunk, models: Unpacking, mapper: Mapper = map) -> bytes | list[Unpacked]:
    """What a chunk adds to its member: bytes of an array, or pictures, found to be those that were packed.

    Raises:
        CodecError: they are not.
    """
    member = chunk.member
    if isinstance(member, Kept):
        return _piece(chunk, min(PIECE, member.size - chunk.start * PIECE))
    if isinstance(member, Array) and not member.pixels:
        return _events(chunk, member, models)
    found = decode_pictures(chunk.payload, chunk.count, chunk.digest, models, mapper)
    for picture in found:
        loose = picture.record.form in (ARRAY, ARRAY_WITH_AXIS)
        if loose == isinstance(member, Pictures):
            raise CodecError(DAMAGED)
        if isinstance(member, Array):
            assert picture.raster is not None
            if picture.raster.samples.transpose(2, 0, 1).shape != tuple(member.shape):
                raise CodecError(DAMAGED)
    if isinstance(member, Array):
        samples = np.stack([picture.raster.samples for picture in found if picture.raster])
        return member.restored(samples.transpose(0, 3, 1, 2)).tobytes()
    assert isinstance(member, Pictures | Loose)
    return found


def _events(chunk: Chunk, member: Array, models: Unpacking) -> bytes:
    try:
        (number,), place = varints.take(chunk.payload, 1, 0)
    except ValueError:
        raise CodecError(DAMAGED) from None
    model = models[number]
    if not model.takes(tuple(member.shape), member.levels):
        raise CodecError("the archive is damaged: it names a model of other events")
    sized = model.sized(*member.shape[1:]) if model.any_size else model
    x = decode_events(sized, chunk.payload[place:], chunk.count)
    if digest_of(x, model.levels) != chunk.digest:
        raise CodecError("the archive is damaged: a chunk's images are not those that were encoded")
    return member.restored(x.numpy()).tobytes()


def _piece(chunk: Chunk, size: int) -> bytes:
    coder, stored = chunk.payload[:1], chunk.payload[1:]
    try:
        if coder == bytes([XZ]):
            raw = unxz(stored, size)
        elif coder == bytes([DEFLATED]):
            raw = inflate(stored, size)
        elif coder == bytes([PLAIN]):
            raw = stored
        else:
            raise ValueError
    except ValueError:
        raise CodecError(DAMAGED) from None
    if chunk.count != 1 or len(raw) != size or hashlib.sha256(raw).digest() != chunk.digest:
        raise CodecError(DAMAGED)
    return raw
