"""The border between pictures and events: NHWC and NCHW, image files and arrays; `levels` has the bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

from chainrule.atomic import as_path, replacing
from chainrule.data.levels import grid_of, quantise
from chainrule.data.reading import opened
from chainrule.errors import DataError

SHOWN = (1, 3, 4)
"""Channels that pictures have: gray, colours, colours with alpha."""
LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".webp")


class Picture(NamedTuple):
    """A decoded image file: pixels (H, W, C) uint8, and what was found on the way; C is 1 or 3, or 4 with alpha."""

    pixels: np.ndarray
    bilevel: bool = False  # one bit a pixel, spread to 0 and 255
    palette: bool = False  # colours came from a palette
    opaque_alpha: bool = False  # had an alpha channel that hid nothing; it was dropped

    @property
    def shows_gray(self) -> bool:
        """Whether it is a gray picture: of one channel, or with a palette of grays."""
        return self.pixels.shape[2] == 1 or (self.palette and bool((self.pixels == self.pixels[..., :1]).all()))


def to_nchw(images: np.ndarray) -> torch.Tensor:
    """(N, H, W) or (N, H, W, C) array → contiguous (N, C, H, W) tensor of the same type.

    Raises:
        DataError: it has another number of axes.

    >>> to_nchw(np.zeros((5, 28, 20, 3), np.uint8)).shape
    torch.Size([5, 3, 28, 20])
    """
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise DataError(f"images of shape {images.shape} were given: they must be (N, H, W) or (N, H, W, C)")
    return torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))


def to_nhwc(x: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) tensor → contiguous (N, H, W, C) array of the same type.

    Raises:
        DataError: it has another number of axes.

    >>> to_nhwc(torch.zeros(5, 3, 28, 20, dtype=torch.uint8)).shape
    (5, 28, 20, 3)
    """
    if x.ndim != 4:
        raise DataError(f"a tensor of shape {tuple(x.shape)} was given: images must be (N, C, H, W)")
    return np.array(x.detach().cpu().permute(0, 2, 3, 1).numpy(), order="C")


def read_pixels(path: str | os.PathLike, *, alpha: bool = False) -> Picture:
    """Decode one image file, upright as its EXIF orientation says: gray stays one channel, a palette becomes RGB.

    With `alpha`, a picture that is transparent anywhere becomes RGBA, with the colours that lie hidden as they are.

    Raises:
        DataError: it is missing, does not decode, is animated, has more than 8 bits a channel, a colour space other
            than gray or RGB, or an alpha channel that hides something and is not asked for.
    """
    path = as_path(path)
    with opened(path) as file:
        head = file.read(32)
        file.seek(0)
        try:
            with Image.open(file) as image:
                return _decoded(image, head, path, alpha)
        except DataError:
            raise
        # a damaged picture can fail in any way that Pillow's many decoders can
        except Exception as error:
            raise DataError(
                f"{path} does not decode as an image ({type(error).__name__}): replace or remove it"
            ) from None


def _decoded(image: Image.Image, head: bytes, path: Path, alpha: bool) -> Picture:
    # an MPO is a camera's JPEG that carries a second view or a preview behind the picture
    if (frames := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":
        raise DataError(f"{path} is animated or has several pages ({frames} frames): give single pictures")
    # Pillow quietly halves the depth of 16-bit colour, so ask the file: a PNG says it at byte 24, a TIFF in a tag
    depths = [head[24]] if image.format == "PNG" else list(getattr(image, "tag_v2", {}).get(258, ()))
    if image.format == "PNG" and head[24] < 8 and image.mode == "L" and "transparency" in image.info:
        # Pillow spreads gray of 2 and 4 bits over the bytes, but not the key that says which gray is transparent
        image.info["transparency"] = (image.info["transparency"] % 2 ** head[24]) * 255 // (2 ** head[24] - 1)
    if max([*depths, 8]) > 8 or image.mode.startswith("I") or image.mode == "F":
        raise DataError(f"{path} has more than 8 bits a channel: convert it to 8 bits first")
    bilevel, palette = image.mode == "1", image.mode in ("P", "PA")
    has_alpha = "transparency" in image.info or image.mode in ("LA", "PA", "RGBA")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise DataError(f"{path} is in the colour space {image.mode}: convert it to RGB or gray first")
    image = ImageOps.exif_transpose(image)
    gray = image.mode in ("1", "L", "LA")
    if has_alpha:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            if alpha:
                return Picture(np.array(image), False, palette)
            raise DataError(
                f"{path} is partly transparent: put it on a background first, since there is no alpha channel"
            )
    pixels = np.array(image.convert("L" if gray else "RGB"))
    return Picture(pixels[..., None] if gray else pixels, bilevel, palette, has_alpha)


def is_lossless(path: str | os.PathLike) -> bool:
    """Whether a path ends in the suffix of a format that keeps every pixel."""
    return Path(path).suffix.lower() in LOSSLESS


class Event(NamedTuple):
    """A picture as a model sees it: levels (C, H, W) uint8, its own bytes (C, H, W), and what was lost between them."""

    levels: np.ndarray
    pixels: np.ndarray
    notes: tuple[str, ...]


def read_event(
    path: str | os.PathLike, levels: int, shape: tuple[int | None, ...], pixel_values: Sequence[int] | None = None
) -> Event:
    """Read one picture as an event of a model with so many levels and this shape, (C, H, W).

    Exact where a level is shown as each of its bytes (a picture that `write_image` wrote), else quantised, which is one
    of the notes. A gray picture fits three channels, a colour picture without colour fits one, and any fits four, with
    alpha. Nothing is ever resized; a shape (C, None, None) takes any size.

    Raises:
        DataError: `read_pixels` refuses it, or it has another size.
    """
    channels, height, width = _image_shape(shape)
    pixels = read_pixels(path, alpha=channels == 4).pixels
    if height is not None and pixels.shape[:2] != (height, width):
        found = f"{pixels.shape[1]}×{pixels.shape[0]}"
        raise DataError(f"{path} is {found} pixels: the model takes {width}×{height} (width × height), so resize it")
    if channels >= 3 > pixels.shape[2]:
        pixels = pixels.repeat(3, axis=2)
    if channels == 4 and pixels.shape[2] == 3:
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], 2)
    if channels == 1 and pixels.shape[2] == 3:
        if (pixels != pixels[..., :1]).any():
            raise DataError(f"{path} is in colour and the model takes gray pictures: convert it first")
        pixels = pixels[..., :1]
    pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    values, exact = quantise(pixels, levels, pixel_values)
    notes = () if exact else (f"The pixels of {path} were quantised to the model's {levels} levels.",)
    return Event(values, pixels, notes)


def read_image(
    path: str | os.PathLike, levels: int, shape: tuple[int | None, ...], pixel_values: Sequence[int] | None = None
) -> np.ndarray:
    """The levels of `read_event`: (C, H, W) uint8 with values in [0, levels).

    Raises:
        DataError: as `read_event`.
    """
    return read_event(path, levels, shape, pixel_values).levels


def write_image(
    x: np.ndarray | torch.Tensor, levels: int, path: str | os.PathLike, pixel_values: Sequence[int] | None = None
) -> None:
    """Write one event (C, H, W) with values in [0, levels), C = 1, 3 or 4, as a lossless picture.

    `read_image` gives it back exactly.

    Raises:
        DataError: values are out of range, the shape is no picture's, there are more than 256 levels, or the path does
            not end in a lossless format's suffix.
    """
    grid, x = grid_of(levels, pixel_values), _checked(x, levels)
    _image_shape(x.shape)
    _save(grid[x.transpose(1, 2, 0)], as_path(path))


def save_grid(
    x: np.ndarray | torch.Tensor,
    levels: int,
    path: str | os.PathLike,
    columns: int = 10,
    scale: int = 3,
    gap: int = 2,
    pixel_values: Sequence[int] | None = None,
) -> None:
    """Write events (N, C, H, W) as one picture: rows of `columns`, each pixel `scale` wide, `gap` gray pixels between.

    `sheet_note` says what a picture cannot show: channels other than 1, 3 or 4 stand side by side in gray, and more
    than 256 levels are shown by their highest 8 bits.

    Raises:
        DataError: values are out of range, there are none, or the path does not end in a lossless format's suffix.
    """
    x = _checked(x, levels)
    if min(columns, scale) < 1 or gap < 0 or len(x) == 0 or x.ndim != 4:
        raise DataError(f"a grid of events {x.shape} with {columns} columns at scale {scale} cannot be drawn")
    if x.shape[1] not in SHOWN:
        x = np.concatenate([x[:, channel : channel + 1] for channel in range(x.shape[1])], axis=3)
    shown = grid_of(levels, pixel_values)[x] if levels <= 256 else (x.astype(np.int64) * 256 // levels).astype(np.uint8)
    images = shown.transpose(0, 2, 3, 1).repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, channels = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 128, np.uint8)
    sheet[..., 3:] = 255
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    _save(sheet, as_path(path))


def sheet_note(shape: tuple[int | None, ...], levels: int) -> str | None:
    """What one must know to read a sheet of `save_grid`; None if it shows the images as they are.

    >>> sheet_note((5, 8, 8), 4)
    'On sheets of samples the 5 channels of an image stand side by side, in gray.'
    """
    if shape[0] not in SHOWN:
        return f"On sheets of samples the {shape[0]} channels of an image stand side by side, in gray."
    return f"Sheets of samples show the highest 8 bits of {levels:,} levels." if levels > 256 else None


def _image_shape(shape: tuple[int | None, ...]) -> tuple[int, int | None, int | None]:
    if len(shape) != 3 or shape[0] not in SHOWN:
        raise DataError(f"events of shape {tuple(shape)} are no pictures: pictures are (C, H, W) with C = 1, 3 or 4")
    return shape  # type: ignore[return-value]


def _checked(x: np.ndarray | torch.Tensor, levels: int) -> np.ndarray:
    x = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    if x.dtype.kind not in "ui":
        raise DataError(f"values of type {x.dtype} and shape {x.shape} were to be drawn: they must be integers")
    if x.size and (x.min() < 0 or x.max() >= levels):
        raise DataError(
            f"values from {x.min()} to {x.max()} were to be drawn: with {levels} levels they must lie in range"
        )
    return x


def _save(pixels: np.ndarray, path: Path) -> None:
    if not is_lossless(path):
        raise DataError(f"{path} does not name a lossless picture format: end it in {', '.join(LOSSLESS)}")
    with replacing(path) as temporary:
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(temporary, lossless=True)  # for WebP
