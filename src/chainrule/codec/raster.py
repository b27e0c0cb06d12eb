"""A picture as PNG knows pictures: samples, a palette, what is transparent; and the PNG files that hold one.

Samples stay as they are stored: an index into a palette, a gray of 2 bits, a colour below alpha 0. Pillow filters and
unfilters rows; it is never asked to convert anything.

Reference: Portable Network Graphics (PNG) Specification, third edition, https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chainrule.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB, INDEX, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
"""Colour types of PNG."""
CHANNELS = {GRAY: 1, RGB: 3, INDEX: 1, GRAY_ALPHA: 2, RGBA: 4}
MODES = {RGB: "RGB", GRAY_ALPHA: "LA", RGBA: "RGBA"}
BESIDE = (b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"bKGD", b"pHYs", b"eXIf")
"""Chunks of a PNG file that say how its picture is to be shown; they are kept, others (texts, times) are not."""
MOST_PIXELS = 89_478_485
"""Of one picture: where Pillow begins to speak of decompression bombs."""
MOST_BESIDE = 2**20


@dataclass(frozen=True)
class Raster:
    """A picture of one byte a sample.

    Args:
        width, height: in pixels.
        depth: bits of a sample: 8, and of gray pictures and indices also 1, 2, 4.
        color: PNG's colour type.
        palette: of indices, 3 bytes an entry.
        transparency: the body of PNG's tRNS chunk.
        beside: whole chunks of a PNG file that are kept with the picture.
        samples: (H, W, C) uint8; None where they are not at hand.
        stream: the compressed rows of the PNG file that it came from.
        interlaced: whether they are interlaced.
    """

    width: int
    height: int
    depth: int
    color: int
    palette: bytes = b""
    transparency: bytes = b""
    beside: bytes = b""
    samples: Any = field(default=None, compare=False, repr=False)
    stream: bytes | None = field(default=None, compare=False, repr=False)
    interlaced: bool = field(default=False, compare=False)

    @property
    def channels(self) -> int:
        """Samples of a pixel."""
        return CHANNELS[self.color]

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.width * self.height

    @property
    def sound(self) -> bool:
        """Whether there can be such a picture."""
        color = self.color in CHANNELS and self.depth in ((1, 2, 4, 8) if self.color in (GRAY, INDEX) else (8,))
        entries, keys = len(self.palette), len(self.transparency)
        size = min(self.width, self.height) >= 1 and self.width * self.height <= MOST_PIXELS
        if not color or not size or entries % 3 or entries > 768 or len(self.beside) > MOST_BESIDE:
            return False
        fits = {GRAY: (0, 2), RGB: (0, 6), GRAY_ALPHA: (0,), RGBA: (0,)}.get(self.color, range(entries // 3 + 1))
        return keys in fits and (self.color != INDEX or 3 <= entries <= 3 << self.depth)

    def same(self, other: Raster) -> bool:
        """Whether another picture has the same samples, and the same palette and transparency."""
        return self == other and np.array_equal(self.samples, other.samples)


def of_array(array: np.ndarray) -> Raster:
    """Pixels (H, W) or (H, W, C) uint8, C from 1 to 4, as a picture."""
    samples = np.ascontiguousarray(array if array.ndim == 3 else array[..., None])
    height, width, channels = samples.shape
    return Raster(width, height, 8, {1: GRAY, 2: GRAY_ALPHA, 3: RGB, 4: RGBA}[channels], samples=samples)


# ------------------------------------------------------------------------------------------------------------ PNG files


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(raster: Raster, stream: bytes, interlaced: bool = False) -> bytes:
    """The PNG file of a picture whose compressed rows are at hand."""
    head = struct.pack(">IIBBBBB", raster.width, raster.height, raster.depth, raster.color, 0, 0, interlaced)
    parts = [SIGNATURE, chunk(b"IHDR", head)]
    before, after = _ordered(raster.beside)
    parts.append(before)
    if raster.palette:
        parts.append(chunk(b"PLTE", raster.palette))
    if raster.transparency:
        parts.append(chunk(b"tRNS", raster.transparency))
    return b"".join([*parts, after, chunk(b"IDAT", stream), chunk(b"IEND", b"")])


def _ordered(beside: bytes) -> tuple[bytes, bytes]:
    """The kept chunks that stand before a palette, and those that stand behind it."""
    parts, place = (bytearray(), bytearray()), 0
    while place < len(beside):
        end = place + 12 + struct.unpack_from(">I", beside, place)[0]
        parts[beside[place + 4 : place + 8] in (b"bKGD", b"pHYs", b"eXIf")].extend(beside[place:end])
        place = end
    return bytes(parts[0]), bytes(parts[1])


def beside_is_sound(beside: bytes) -> bool:
    """Whether these bytes are whole chunks of the kinds that are kept, each at most once."""
    place, left = 0, set(BESIDE)
    while place < len(beside):
        if place + 12 > len(beside):
            return False
        end = place + 12 + struct.unpack_from(">I", beside, place)[0]
        whole = (
            end <= len(beside) and zlib.crc32(beside[place + 4 : end - 4]).to_bytes(4, "big") == beside[end - 4 : end]
        )
        kind = beside[place + 4 : place + 8]
        if not whole or kind not in left:
            return False
        left.remove(kind)
        place = end
    return True


def parse_png(data: bytes, path: Path) -> Raster | None:
    """The picture of a PNG file, without its samples, but with their compressed rows.

    None if it is animated or has more than 8 bits a channel: no raster holds that.

    Raises:
        DataError: it is damaged or too large.
    """
    damaged = DataError(f"{path} does not decode as an image (a damaged PNG file): replace or remove it")
    place, found, stream, beside = len(SIGNATURE), dict[bytes, bytes](), [], []
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 12 + length
        kind, body = data[place + 4 : place + 8], data[place + 8 : end - 4]
        if end > len(data) or zlib.crc32(data[place + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise damaged
        if kind == b"IDAT":
            stream.append(body)
        elif kind in BESIDE and kind not in found:
            beside.append(data[place:end])
        found.setdefault(kind, body)
        place = end
        if kind == b"IEND":
            break
    if len(found.get(b"IHDR", b"")) != 13 or not stream or b"IEND" not in found:
        raise damaged
    width, height, depth, color, compression, filtering, interlaced = struct.unpack(">IIBBBBB", found[b"IHDR"])
    frames = struct.unpack(">I", found[b"acTL"][:4])[0] if len(found.get(b"acTL", b"")) == 8 else 1
    if depth > 8 or frames > 1:
        return None
    kept = b"".join(beside)
    palette = found.get(b"PLTE", b"") if color == INDEX else b""
    keys = found.get(b"tRNS", b"") if color in (GRAY, RGB, INDEX) else b""
    raster = Raster(
        width, height, depth, color, palette, keys, kept, stream=b"".join(stream), interlaced=bool(interlaced)
    )
    if width * height > MOST_PIXELS:
        raise DataError(f"{path} has {width * height:,} pixels, more than the {MOST_PIXELS:,} that fit: cut it up")
    if not raster.sound or compression or filtering or interlaced > 1:
        raise damaged
    return raster


def unpack_rows(raster: Raster, stream: bytes, interlaced: bool) -> np.ndarray:
    """Compressed rows of a PNG file → samples (H, W, C); raises whatever Pillow does if they are damaged.

    Pillow would spread grays of few bits over the byte: they are read as indices, which have the same rows.
    """
    low = raster.color in (GRAY, INDEX)
    color, palette = (INDEX, bytes(3 << raster.depth)) if low else (raster.color, b"")
    file = png_of(Raster(raster.width, raster.height, raster.depth, color, palette), stream, interlaced)
    with Image.open(io.BytesIO(file)) as image:
        if image.size != (raster.width, raster.height) or image.mode != MODES.get(color, "P"):
            raise ValueError("another picture")
        image.load()
        samples = np.array(image)
    return samples.reshape(raster.height, raster.width, raster.channels)


def pack_rows(raster: Raster, optimize: bool) -> bytes:
    """Samples → the compressed rows of a PNG file."""
    file = io.BytesIO()
    if raster.color in (GRAY, INDEX) and raster.depth < 8:
        image, options = Image.fromarray(raster.samples[..., 0]), {"bits": raster.depth}
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette(bytes(3 << raster.depth))
    else:
        image, options = _image(raster.samples), {}
    image.save(file, "PNG", optimize=optimize, **options)
    data, place, stream = file.getvalue(), len(SIGNATURE), []
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        if data[place + 4 : place + 8] == b"IDAT":
            stream.append(data[place + 8 : place + 8 + length])
        place += 12 + length
    return b"".join(stream)


def _image(samples: np.ndarray) -> Image.Image:
    """Samples (H, W, C) as Pillow's picture of so many channels."""
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
