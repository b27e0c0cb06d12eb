"""One picture to bytes and back: by the codecs that everybody has, and the part of it that a model codes.

The smallest wins: plain samples, PNG's compressed rows (those of the file itself, or better ones), lossless WebP, and
the file's bytes where a picture could not be written back. WebP takes strips of large pictures, so that memory stays
bounded; of its container only the VP8L stream is kept.

Reference: WebP Lossless Bitstream Specification, https://developers.google.com/speed/webp/docs/webp_lossless_bitstream_specification
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from chainrule.codec import varints
from chainrule.codec.picture_files import PictureFile
from chainrule.codec.raster import CHANNELS, GRAY, GRAY_ALPHA, INDEX, RGBA, Raster, pack_rows, unpack_rows
from chainrule.codec.values import Mapping, distinct, looked_up, stored_values, to_levels
from chainrule.errors import CodecError
from chainrule.unpacking import inflate

BYTES, DEFLATED, PLAIN, ROWS, INTERLACED, WEBP = range(6)
"""Coders of a picture: the file's bytes, the same deflated; samples; PNG's rows, the same interlaced; VP8L strips."""
MODEL = 8
"""Model k of an archive is the coder 8 + k."""
NAMES = {BYTES: "file", DEFLATED: "file, deflated", PLAIN: "samples", ROWS: "PNG", INTERLACED: "PNG", WEBP: "WebP"}
STRIP = 2**22
"""Pixels of a strip of WebP, about."""
MOST_DEFLATED = 2**24
"""Bytes of a file that is deflated."""
WIDEST = 16383
"""Pixels of a side that WebP takes."""
SMALL, SLOW = 64, 2**18
"""WebP is not tried below the first; above the second, a colour PNG's rows are not packed again: WebP is better."""
DAMAGED = "the archive is damaged: a picture cannot be decoded"

Coded = tuple[int, bytes]
"""A coder and its payload."""


def fallback(given: PictureFile) -> Coded:
    """The smallest of what needs no model."""
    if given.raster is not None:
        found = of_raster(given.raster)
        if not given.content or len(found[1]) <= len(given.content):
            return found
    packed = zlib.compress(given.content, 9) if len(given.content) <= MOST_DEFLATED else given.content
    return (DEFLATED, packed) if len(packed) < len(given.content) else (BYTES, given.content)


def of_raster(raster: Raster) -> Coded:
    """The smallest of what needs no model, of a picture."""
    found: list[Coded] = []
    if raster.stream is not None:
        found.append((INTERLACED if raster.interlaced else ROWS, raster.stream))
    colors = raster.channels >= 3
    if not (colors and raster.pixels > SLOW and (raster.stream is not None or raster.width <= WIDEST)):
        found.append((ROWS, pack_rows(raster, True)))
    if raster.pixels >= SMALL and raster.width <= WIDEST:
        found.append((WEBP, b"".join(_strips(raster))))
    if raster.samples.size <= min((len(payload) for _, payload in found), default=raster.samples.size):
        found.insert(0, (PLAIN, raster.samples.tobytes()))
    return min(found, key=lambda coded: len(coded[1]))


def decode(raster: Raster, coder: int, payload: bytes) -> Raster:
    """A picture without samples, with them.

    Raises:
        CodecError: the payload is not what such a picture's can be.
    """
    try:
        if coder == PLAIN:
            samples = np.frombuffer(payload, np.uint8).reshape(raster.height, raster.width, raster.channels)
        elif coder in (ROWS, INTERLACED):
            samples = unpack_rows(raster, payload, coder == INTERLACED)
        elif coder == WEBP:
            samples = _from_strips(raster, payload)
        else:
            raise ValueError
        return replace(raster, samples=samples)
    # damaged bytes can fail in any way that Pillow's decoders can
    except Exception:
        raise CodecError(DAMAGED) from None


def content_of(coder: int, payload: bytes, size: int) -> bytes:
    """The bytes of a file, `size` of them.

    Raises:
        CodecError: the payload is not that of such a file.
    """
    try:
        content = payload if coder == BYTES else inflate(payload, size)
    except ValueError:
        raise CodecError(DAMAGED) from None
    if len(content) != size:
        raise CodecError(DAMAGED)
    return content


# ----------------------------------------------------------------------------------------------------------------- WebP


def _heights(raster: Raster) -> Iterator[tuple[int, int]]:
    """First row and height of each strip."""
    rows = min(max(1, STRIP // raster.width), WIDEST)
    for top in range(0, raster.height, rows):
        yield top, min(rows, raster.height - top)


def _strips(raster: Raster) -> Iterator[bytes]:
    """VP8L streams of strips, each after its length."""
    for top, height in _heights(raster):
        file = io.BytesIO()
        part = raster.samples[top : top + height]
        # two channels, gray and alpha, go in as colours whose parts are equal
        shape = {1: (0, 0, 0), 2: (0, 0, 0, 1), 3: (0, 1, 2), 4: (0, 1, 2, 3)}[part.shape[2]]
        image = Image.fromarray(np.ascontiguousarray(part[..., shape]))
        image.save(file, "WEBP", lossless=True, exact=True, method=4, quality=20)
        data = file.getvalue()
        if data[12:16] != b"VP8L":
            raise CodecError("this WebP library writes what archives do not hold: update Pillow")
        (size,) = struct.unpack_from("<I", data, 16)
        yield varints.pack([size]) + data[20 : 20 + size]


def _from_strips(raster: Raster, payload: bytes) -> np.ndarray:
    samples = np.empty((raster.height, raster.width, raster.channels), np.uint8)
    place = 0
    for top, height in _heights(raster):
        (size,), place = varints.take(payload, 1, place)
        stream, place = payload[place : place + size], place + size
        bits = int.from_bytes(stream[1:5], "little")  # 14 bits of width − 1, 14 of height − 1: before Pillow allocates
        if (
            len(stream) != size
            or stream[:1] != b"\x2f"
            or (bits % 2**14 + 1, (bits >> 14) % 2**14 + 1)
            != (
                raster.width,
                height,
            )
        ):
            raise ValueError
        body = b"VP8L" + struct.pack("<I", size) + stream + b"\0" * (size % 2)
        file = b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
        with Image.open(io.BytesIO(file), formats=["WEBP"]) as image:
            part = np.array(image.convert("RGBA" if raster.channels in (2, 4) else "RGB"))
        samples[top : top + height] = part[..., (0, 3)] if raster.channels == 2 else part[..., : raster.channels]
    if place != len(payload):
        raise ValueError
    return samples


# --------------------------------------------------------------------------------------------------------------- models


def planes(raster: Raster, channels: int, levels: int, mapping: Mapping) -> np.ndarray | None:
    """What a model of so many channels codes of a picture: levels (C, H, W) uint8; None if it does not fit.

    A model may take all channels, or those of the colours, without alpha. Grays of few bits are spread over the byte.
    For indices it takes the colours that they stand for, if these give the indices back.
    """
    samples = spread(raster)
    if samples is None or not takes(raster, channels) or levels > 256:
        return None
    values = np.ascontiguousarray(samples[..., :channels].transpose(2, 0, 1))
    if len(np.setdiff1d(distinct(values), stored_values(mapping, levels))):
        return None
    return to_levels(values, mapping, levels)


def takes(raster: Raster, channels: int) -> bool:
    """Whether a model of so many channels can code a picture's colours."""
    has = {INDEX: 1 if _is_gray(raster.palette) else 3}.get(raster.color, CHANNELS[raster.color])
    return channels == has or (raster.color in (GRAY_ALPHA, RGBA) and channels == has - 1)


def _is_gray(palette: bytes) -> bool:
    return palette[::3] == palette[1::3] == palette[2::3]


def spread(raster: Raster) -> np.ndarray | None:
    """The bytes (H, W, C) that samples stand for; None if they could not be found again."""
    if raster.color == INDEX:
        colors = np.frombuffer(raster.palette, np.uint8).reshape(-1, 3)
        first = np.unique(colors, axis=0, return_index=True)[1]  # the index that a colour is decoded to
        found = np.isin(distinct(raster.samples), first).all()
        return colors[raster.samples[..., 0]] if found else None
    return raster.samples if raster.depth == 8 else raster.samples * (255 // (2**raster.depth - 1))


def without_alpha(raster: Raster, channels: int) -> Raster | None:
    """The alpha plane, as a gray picture, where a model of so many channels leaves it; None if there is none left."""
    if raster.color in (GRAY_ALPHA, RGBA) and channels < raster.channels:
        left = None if raster.samples is None else np.ascontiguousarray(raster.samples[..., channels:])
        return Raster(raster.width, raster.height, 8, GRAY, samples=left)
    return None


def from_planes(raster: Raster, x: np.ndarray, mapping: Mapping, levels: int, alpha: Raster | None) -> Raster:
    """A picture whose planes (C, H, W) a model has decoded.

    Raises:
        CodecError: there is no such picture.
    """
    values = looked_up(stored_values(mapping, levels).astype(np.uint8), x.astype(np.uint8)).transpose(1, 2, 0)
    if raster.color == INDEX:
        colors = np.frombuffer(raster.palette, np.uint8).reshape(-1, 3)[:, : values.shape[2]]
        digits = [1, 256, 65536][: values.shape[2]]
        keys, wanted = colors.astype(np.int64) @ digits, values.astype(np.int64) @ digits
        order = np.argsort(keys, kind="stable")
        found = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
        if not np.array_equal(keys[found], wanted):
            raise CodecError(DAMAGED)
        return replace(raster, samples=found.astype(np.uint8)[..., None])
    if raster.depth < 8:
        values = values // (255 // (2**raster.depth - 1))
    elif alpha is not None:
        values = np.concatenate([values, alpha.samples], 2)
    return replace(raster, samples=np.ascontiguousarray(values))
