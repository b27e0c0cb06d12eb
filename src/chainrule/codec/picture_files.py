"""Picture files to rasters and back: the same samples, palette and transparency, in the format of the file.

PNG files are taken apart, others are read by Pillow. What Pillow would not write back as it is (a GIF's, say) is stored
as the file's own bytes, and so are animations, pictures of 16 bits, and JPEGs, whose pixels cannot return as a JPEG.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chainrule.codec.raster import (
    GRAY,
    GRAY_ALPHA,
    INDEX,
    MOST_PIXELS,
    RGB,
    RGBA,
    SIGNATURE,
    Raster,
    pack_rows,
    parse_png,
    png_of,
    unpack_rows,
)
from chainrule.data.reading import opened
from chainrule.errors import DataError

FORMS = range(8)
FILE, PNG, BMP, TIFF, WEBP, GIF, ARRAY, ARRAY_WITH_AXIS = FORMS
"""What a picture comes back as: the file's bytes, a file of this format, an array (H, W, C), or (H, W, 1)."""
WRITERS = {BMP: "BMP", TIFF: "TIFF", WEBP: "WEBP", GIF: "GIF"}
BY_MODE = {"1": GRAY, "L": GRAY, "LA": GRAY_ALPHA, "P": INDEX, "RGB": RGB, "RGBA": RGBA}


@dataclass
class PictureFile:
    """A file: its bytes, and the picture in it, if it can be written back from that."""

    content: bytes
    raster: Raster | None = None
    form: int = FILE

    def same(self, other: PictureFile) -> bool:
        """Whether another file is as good as this one: the same picture of the same format, or the same bytes."""
        if self.raster is None or other.raster is None:
            return self.content == other.content
        return self.form == other.form and self.raster.same(other.raster)


def read_file(path: Path) -> PictureFile:
    """Read a picture file; everything in it is looked at.

    Raises:
        DataError: it cannot be read, is damaged, or too large.
    """
    with opened(path) as file:
        content = file.read()
    try:
        raster = parse_png(content, path) if content.startswith(SIGNATURE) else None
        if raster is not None:
            samples = unpack_rows(raster, raster.stream or b"", raster.interlaced)
            return PictureFile(content, _with(raster, samples), PNG)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _by_pillow(content, path)
    except DataError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(f"{path} has more than the {MOST_PIXELS:,} pixels that fit: cut it up") from None
    # a damaged picture can fail in any way that Pillow's many decoders can
    except Exception as error:
        raise DataError(f"{path} does not decode as an image ({type(error).__name__}): replace or remove it") from None


def _with(raster: Raster, samples: np.ndarray) -> Raster:
    return Raster(**{**vars(raster), "samples": samples})


def _by_pillow(content: bytes, path: Path) -> PictureFile:
    with Image.open(io.BytesIO(content)) as image:
        form = {name: form for form, name in WRITERS.items()}.get(image.format or "", FILE)
        # an MPO is a camera's JPEG that carries a second view or a preview behind the picture
        if image.format in ("JPEG", "MPO"):
            return PictureFile(content)
        depths = getattr(image, "tag_v2", {}).get(258, ())  # Pillow quietly halves the depth of 16-bit colour
        if (
            getattr(image, "n_frames", 1) > 1
            or max([*depths, 8]) > 8
            or image.mode.startswith("I")
            or image.mode == "F"
        ):
            image.load()
            return PictureFile(content)
        shown_otherwise = image.getexif().get(0x0112, 1) != 1 or "icc_profile" in image.info
        raster = of_image(image)
    if raster is None or form == FILE or shown_otherwise:
        return PictureFile(content)
    try:
        back = of_image(Image.open(io.BytesIO(written(raster, form))))
    except (OSError, ValueError, TypeError):  # whatever Pillow says of what a format cannot hold
        back = None
    same = back is not None and raster.same(back)
    return PictureFile(content, raster, form) if same else PictureFile(content)


def of_image(image: Image.Image) -> Raster | None:
    """Pillow's picture as a raster; None for modes that PNG does not have."""
    image.load()
    if image.mode not in BY_MODE:
        return None
    color, samples = BY_MODE[image.mode], np.array(image).astype(np.uint8)
    palette = bytes(image.getpalette("RGB") or ()) if color == INDEX else b""
    key: Any = image.info.get("transparency", b"")
    if isinstance(key, int) and color == INDEX:
        key = b"\xff" * key + b"\0"
    elif not isinstance(key, bytes) or color != INDEX:
        key = None if key else b""
    if key is None:
        return None
    height, width = samples.shape[:2]
    depth = 1 if image.mode == "1" else 8
    raster = Raster(width, height, depth, color, palette, key, samples=samples.reshape(height, width, -1))
    return raster if raster.sound else None


def to_image(raster: Raster) -> Image.Image:
    """A raster that `of_image` made, as Pillow's picture."""
    samples = raster.samples
    if raster.color == INDEX:
        image = Image.frombytes("P", (raster.width, raster.height), samples.tobytes())
        image.putpalette(raster.palette)
        return image
    return Image.fromarray(
        samples[..., 0].astype(bool)
        if raster.depth == 1
        else np.squeeze(samples, 2)
        if raster.channels == 1
        else samples
    )


def written(raster: Raster, form: int) -> bytes:
    """A raster as a file of a format."""
    if form not in WRITERS:
        raise ValueError("no format of files")
    file, options = io.BytesIO(), dict[str, Any]()
    if raster.transparency:
        key = raster.transparency
        single = key[:-1] == b"\xff" * (len(key) - 1) and key[-1] == 0
        options["transparency"] = len(key) - 1 if single else key
    if form == WEBP:
        options |= {"lossless": True, "exact": True}
    to_image(raster).save(file, WRITERS[form], **options)
    return file.getvalue()


def file_of(raster: Raster, form: int, stream: bytes | None = None, interlaced: bool = False) -> bytes:
    """The file of a picture; `stream` are the compressed rows of a PNG, where they are at hand."""
    if form == PNG:
        return png_of(raster, pack_rows(raster, False) if stream is None else stream, interlaced)
    return written(raster, form)
