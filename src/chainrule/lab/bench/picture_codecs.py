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
from chainrule.codec.model_blocks import usual_models
from chainrule.data.listing import list_folder
from chainrule.data.pictures import read_pixels
from chainrule.errors import CodecError, DataError
from chainrule.fixedpoint import exact
from chainrule.lab.bench.codec import mosaic
from chainrule.lab.bench.measuring import clocked, memory_of

Code = tuple[str, Callable[[Any], bytes], Callable[[bytes], Any]]
Pixels = np.ndarray
MOST_SIDE = 16383
"""Pixels of a mosaic's side that WebP takes."""


def read_folder(folder: Path, most: int | None = None) -> list[Pixels]:
    """The pictures of a folder, or the first so many: (H, W), (H, W, 3) or (H, W, 4) uint8.

    Palettes become colours, and gray with alpha becomes RGBA, for all codecs alike.

    Raises:
        DataError: there are none, or one cannot be used.
    """
    paths = list_folder(folder).pictures[:most]
    if not paths:
        raise DataError(f"the folder {folder} holds no pictures: name one that does")
    pixels = (read_pixels(path, alpha=True).pixels for path in paths)
    return [np.ascontiguousarray(x[..., 0] if x.shape[2] == 1 else x) for x in pixels]


def bench_pictures(pictures: list[Pixels], models: Sequence[Any] | None = None) -> Iterator[dict[str, Any]]:
    """Compress pictures by every codec, and back.

    Args:
        pictures: as `read_folder` gives them.
        models: those of our archives; by default the shipped ones.

    Yields:
        A row for each codec, ours first. `bytes` and `bits_per_subpixel`: of all pictures, each a file of its own.
        `bits_all_in_one`: the same of one archive, mosaic or stream of all; None where there is none. `MB/s_in` and
        `MB/s_out`: 10⁶ bytes of raw pixels packed and unpacked a second, of one archive for ours and xz, of single
        files for the others. `memory_MB`: 10⁶ bytes that this took, beyond what the process had; None where the system
        does not say.

    Raises:
        CodecError: a codec did not give back what it was given.
    """
    chosen = [exact(model) for model in (usual_models() if models is None else models)]
    raw = sum(picture.size for picture in pictures)
    singles = [[picture] for picture in pictures]
    named = None if models is None else chosen or None  # the shipped ones enter an archive only where they pay
    ours = partial(codec.compress, second=named), partial(codec.decompress, second=named)
    together = _measured("chainrule", [pictures], *ours)
    each = together if len(pictures) == 1 else _measured("chainrule", singles, *ours)
    yield _row("chainrule", raw, each, together, together)
    sheet = _sheet(pictures)
    for name, encode, decode in _codecs():
        each = _measured(name, pictures, encode, decode)
        yield _row(name, raw, each, each if sheet is None else _measured(name, [sheet], encode, decode), each, sheet)
    stream = b"".join(picture.tobytes() for picture in pictures)
    xz = _measured("xz -9e", [stream], partial(lzma.compress, preset=lzma.PRESET_EXTREME | 9), lzma.decompress)
    yield _row("xz -9e", raw, None, xz, xz)


Measured = tuple[int, float, float, float | None]
"""Bytes, seconds to pack and to unpack, memory."""


def _measured(
    name: str, things: Sequence[Any], encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]
) -> Measured:
    def both() -> tuple[int, float, float]:
        packing, packed = clocked(lambda: [encode(thing) for thing in things])
        unpacking, back = clocked(lambda: [decode(data) for data in packed])
        if not all(_same(a, b) for a, b in zip(things, back, strict=True)):
            raise CodecError(f"{name} did not give back what it was given: it cannot be compared")
        return sum(map(len, packed)), packing, unpacking

    memory, found = memory_of(both)
    return *found, memory


def _row(
    name: str, raw: int, each: Measured | None, together: Measured, timed: Measured, sheet: Pixels | None = None
) -> dict[str, Any]:
    whole = each is None or together is not each or sheet is not None
    return {
        "codec": name,
        "bytes": together[0] if each is None else each[0],
        "bits_per_subpixel": None if each is None else 8 * each[0] / raw,
        "bits_all_in_one": 8 * together[0] / raw if whole else None,
        "MB/s_in": raw / timed[1] / 1e6,
        "MB/s_out": raw / timed[2] / 1e6,
        "memory_MB": timed[3],
    }


def _sheet(pictures: list[Pixels]) -> Pixels | None:
    """A mosaic of pictures of one shape; None if they differ, there is one only, or it would be too large."""
    if len({picture.shape for picture in pictures}) > 1 or len(pictures) == 1:
        return None
    stack = np.stack([picture if picture.ndim == 3 else picture[..., None] for picture in pictures])
    sheet = mosaic(stack)
    return None if max(sheet.shape[:2]) > MOST_SIDE else sheet if sheet.shape[2] > 1 else sheet[..., 0]


def _same(given: Any, back: Any) -> bool:
    """Whether a codec gave back what it got; WebP makes colours of gray, and drops an alpha plane of 255 alone."""
    if isinstance(given, bytes):
        return bool(given == back)
    if isinstance(given, list):
        return all(np.array_equal(a, b) for a, b in zip(given, back, strict=True))
    if given.ndim == 2 and back.ndim == 3:
        given = given[..., None].repeat(3, 2)
    if given.ndim == 3 and given.shape[2] == 4 and back.shape[2] == 3:
        return bool((given[..., 3] == 255).all()) and np.array_equal(given[..., :3], back)
    return np.array_equal(given, back)


def _codecs() -> Iterator[Code]:
    """PNG and WebP by Pillow; JPEG XL where imagecodecs is installed."""
    yield "PNG, optimised", partial(_packed, form="PNG", optimize=True), _unpacked
    yield "WebP, lossless", partial(_packed, form="WEBP", lossless=True, exact=True, method=6, quality=100), _unpacked
    try:
        ic: Any = importlib.import_module("imagecodecs")
    except ImportError:
        return
    for effort in (7, 9):
        encode = partial(ic.jpegxl_encode, lossless=True, effort=effort, numthreads=0)
        yield f"JPEG XL, effort {effort}", encode, ic.jpegxl_decode


def _packed(pixels: Pixels, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def _unpacked(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)
