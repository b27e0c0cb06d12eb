"""The pictures of a folder → arrays, one a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chainrule.data.levels import Leveled, leveled
from chainrule.data.listing import NAMED, list_folder
from chainrule.data.pictures import Picture, read_pixels
from chainrule.errors import DataError


def read_folder(
    folder: Path, levels: int | None, pixel_values: Sequence[int] | None = None, *, any_size: bool = False
) -> tuple[dict[str, np.ndarray], Leveled, list[str]]:
    """Read every picture below a folder, in the order of their paths.

    Returns:
        The splits (N, H, W, C) uint8, under "train" and, where there are subfolders named so, "validation" and "test";
        of pictures of mixed sizes, or if `any_size` is asked for, arrays (N,) of objects, each (H, W, C). Then what
        `leveled` found of all pixels together, and sentences about the files, also those that were left out.

    Raises:
        DataError: the folder holds no pictures, or any that cannot be used; all are looked at first.
    """
    listing = list_folder(folder)
    found = listing.by_split()
    paths = [path for split in found.values() for path in split]
    pictures = _read(paths, folder)

    notes = [listing.note] if listing.note else []
    if all(picture.shows_gray for picture in pictures):  # a palette of grays is how some programs store gray pictures
        pictures = [picture._replace(pixels=picture.pixels[..., :1]) for picture in pictures]
    has_alpha = [picture.pixels.shape[2] == 4 for picture in pictures]
    gray = sum(picture.pixels.shape[2] == 1 for picture in pictures)
    channels = 4 if any(has_alpha) else 1 if gray == len(pictures) else 3
    if n := sum(picture.palette for picture in pictures):
        notes.append(f"{_pictures(n)} had a palette and became {('gray', 'RGB', 'RGBA')[channels // 2]}.")
    if n := sum(picture.opaque_alpha for picture in pictures):
        what = "was dropped" if channels < 4 else "was kept, as others are transparent"
        notes.append(f"{_pictures(n)} had a fully opaque alpha channel, which {what}.")
    if 0 < gray < len(pictures):
        notes.append(f"{gray:,} of {_pictures(len(pictures))} were gray and became RGB like the others.")
    if channels == 4 and not all(has_alpha):
        notes.append(f"{len(pictures) - sum(has_alpha):,} of {_pictures(len(pictures))} became opaque RGBA.")
    pixels = [_with_channels(picture.pixels, channels) for picture in pictures]
    if levels is None and all(picture.bilevel for picture in pictures):
        levels = 2
    result = leveled(np.concatenate([part.ravel() for part in pixels]), str(folder), levels, pixel_values)
    pieces = np.split(result.values, np.cumsum([part.size for part in pixels])[:-1])
    values = np.empty(len(pixels), object)
    values[:] = [piece.reshape(part.shape) for piece, part in zip(pieces, pixels, strict=True)]
    sizes = Counter(f"{part.shape[1]}×{part.shape[0]}" for part in pixels)
    if len(sizes) == 1 and not any_size:
        values = np.stack(list(values))
    elif len(sizes) > 1:
        (usual, most), *_ = sizes.most_common(1)
        notes.append(f"They have {len(sizes):,} sizes (width × height), {usual} the most frequent ({most:,}).")
    ends = np.cumsum([len(split) for split in found.values()])
    return dict(zip(found, np.split(values, ends[:-1]), strict=True)), result, notes


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """A picture with more channels: gray repeated, an opaque alpha channel added."""
    height, width, has = pixels.shape
    if channels == 4 and has < 4:
        opaque = np.full((height, width, 1), 255, np.uint8)
        return np.concatenate([np.broadcast_to(pixels, (height, width, 3)), opaque], 2)
    return np.broadcast_to(pixels, (height, width, channels))


def _read(paths: list[Path], folder: Path) -> list[Picture]:
    """Every picture, or one sentence that names those that cannot be used, and why."""
    pictures, refusals = [], []
    for path in paths:
        try:
            pictures.append(read_pixels(path, alpha=True))
        except DataError as error:
            refusals.append((path, str(error)))
    if len(refusals) == 1:
        raise DataError(refusals[0][1])
    if refusals:
        reasons = [
            f"{path.relative_to(folder)} {message.removeprefix(f'{path} ').rpartition(': ')[0]}"
            for path, message in refusals[:NAMED]
        ]
        more = f", and {len(refusals) - NAMED:,} more" if len(refusals) > NAMED else ""
        raise DataError(
            f"{len(refusals):,} of {_pictures(len(paths))} in {folder} cannot be used ({', '.join(reasons)}{more}): "
            f"convert or remove them"
        )
    return pictures


def _pictures(n: int) -> str:
    return f"{n:,} picture{'s' * (n != 1)}"
