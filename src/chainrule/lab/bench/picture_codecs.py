"""Archives of a folder of pictures beside the image codecs in use: PNG, WebP, JPEG XL, from and to pixels in memory.

Each codec gets each picture as a file of its own; and all in one where that makes sense: an archive for ours, a mosaic
for the others if all pictures have one shape, and one stream for xz. Every codec must give back what it was given.
"""

from __future__ import annotations

import importlib
import io
import lzma
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chainrule import codec
from chainrule.data.listing import list_folder
from chainrule.data.pictures import read_pixels
from chainrule.errors import CodecError, DataError
from chainrule.lab.bench.codec import mosaic
from chainrule.lab.bench.measuring import clocked, peak_megabytes

Code = tuple[str, Callable[[np.ndarray], bytes], Callable[[bytes], np.ndarray]]
MOST_SIDE = 16383
"""Pixels of a mosaic's side that WebP takes."""


def bench_pictures(
    folder: Path, models: Sequence[Any] | None = None, most: int | None = None
) -> Iterator[dict[str, Any]]:
    """Compress the pictures of a folder by every codec, and back.

    Args:
        folder: of pictures; palettes become colours, and gray with alpha becomes RGBA, for all codecs alike.
        models: those of the archive; by default the shipped ones.
        most: take the first so many pictures.

    Yields:
        A row for each codec and way: files, bytes, bits a sub-pixel, MB/s of raw pixels in and out, and the most
        memory (MB) that this process has taken so far; ours come first.

    Raises:
        DataError: the folder holds no pictures, or one that cannot be used.
        CodecError: a codec did not give back what it was given.
    """
    paths = list_folder(folder).pictures[:most]
    if not paths:
        raise DataError(f"the folder {folder} holds no pictures: name one that does")
    pictures = [_pixels(path) for path in paths]

    def pack(chosen: list[np.ndarray]) -> bytes:
        return codec.compress(chosen, None if models is None else list(models))

    def unpack(blob: bytes) -> list[np.ndarray]:
        found: list[np.ndarray] = codec.decompress(blob, None if models is None else list(models))
        return found

    yield _row("chainrule", "all in one", [pictures], pack, unpack, _all_same)
    yield _row("chainrule", "each", [[picture] for picture in pictures], pack, unpack, _all_same)
    for name, encode, decode in _codecs():
        yield _row(name, "each", pictures, encode, decode, _same)
    if len({picture.shape for picture in pictures}) == 1 and len(pictures) > 1:
        stack = np.stack([picture if picture.ndim == 3 else picture[..., None] for picture in pictures])
        sheet = mosaic(stack) if stack.shape[3] > 1 else mosaic(stack)[..., 0]
        if max(sheet.shape[:2]) <= MOST_SIDE:
            for name, encode, decode in _codecs():
                yield _row(name, "mosaic", [sheet], encode, decode, _same, sum(p.size for p in pictures))
    stream = b"".join(picture.tobytes() for picture in pictures)
    preset = lzma.PRESET_EXTREME | 9
    yield _row("xz -9e", "all in one", [stream], partial(lzma.compress, preset=preset), lzma.decompress, bytes.__eq__)


def _row(
    name: str,
    way: str,
    things: Sequence[Any],
    encode: Callable[[Any], bytes],
    decode: Callable[[bytes], Any],
    same: Callable[[Any, Any], bool],
    raw: int | None = None,
) -> dict[str, Any]:
    packing, packed = clocked(lambda: [encode(thing) for thing in things])
    unpacking, back = clocked(lambda: [decode(data) for data in packed])
    if not all(same(a, b) for a, b in zip(things, back, strict=True)):
        raise CodecError(f"{name} did not give back what it was given: it cannot be compared")
    raw = raw or sum(_size(thing) for thing in things)
    total = sum(map(len, packed))
    return {
        "codec": name,
        "files": way,
        "bytes": total,
        "bits_per_subpixel": 8 * total / raw,
        "in_megabytes_per_second": raw / packing / 1e6,
        "out_megabytes_per_second": raw / unpacking / 1e6,
        "peak_megabytes": peak_megabytes(),
    }


def _size(thing: Any) -> int:
    """Raw bytes."""
    return sum(map(_size, thing)) if isinstance(thing, list) else thing.size if hasattr(thing, "size") else len(thing)


def _same(given: np.ndarray, back: np.ndarray) -> bool:
    """Whether a codec gave a picture back; WebP makes colours of gray, and drops an alpha plane that hides nothing."""
    if given.ndim == 2 and back.ndim == 3:
        given = given[..., None].repeat(3, 2)
    if given.ndim == 3 and given.shape[2] == 4 and back.shape[2] == 3:
        return bool((given[..., 3] == 255).all()) and np.array_equal(given[..., :3], back)
    return np.array_equal(given, back)


def _all_same(given: list[np.ndarray], back: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(given, back, strict=True))


def _pixels(path: Path) -> np.ndarray:
    """A picture as (H, W), (H, W, 3) or (H, W, 4) uint8."""
    pixels = read_pixels(path, alpha=True).pixels
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _codecs() -> Iterator[Code]:
    """PNG and WebP by Pillow; JPEG XL where imagecodecs is installed."""
    yield "PNG, optimised", partial(_packed, form="PNG", optimize=True), _unpacked
    yield "WebP, lossless", partial(_packed, form="WEBP", lossless=True, exact=True, method=6, quality=75), _unpacked
    try:
        ic: Any = importlib.import_module("imagecodecs")
    except ImportError:
        return
    for effort in (7, 9):
        encode = partial(ic.jpegxl_encode, lossless=True, effort=effort, numthreads=0)
        yield f"JPEG XL, effort {effort}", encode, ic.jpegxl_decode


def _packed(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def _unpacked(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)
