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
    folder: Path, levels: int | None, pixel_values: Sequence[int] | None = None
) -> tuple[dict[str, np.ndarray], Leveled, list[str]]:
    """Read every picture below a folder, in the order of their paths.

    Returns:
        The splits (N, H, W, C) uint8, under "train" and, where there are subfolders named so, "validation" and "test";
        what `leveled` found of all pixels together; and sentences about the files, also those that were left out.

    Raises:
        DataError: the folder holds no pictures, or pictures of different sizes, or any that cannot be used; all are
            looked at first.
    """
    listing = list_folder(folder)
    found = listing.by_split()
    paths = [path for split in found.values() for path in split]
    pictures = _read(paths, folder)
    _same_size(pictures, paths, folder)

    notes = [listing.note] if listing.note else []
    if all(picture.shows_gray for picture in pictures):  # a palette of grays is how some programs store gray pictures
        pictures = [picture._replace(pixels=picture.pixels[..., :1]) for picture in pictures]
    if n := sum(picture.palette for picture in pictures):
        notes.append(
            f"{_pictures(n)} had a palette and became {'gray' if pictures[0].pixels.shape[2] == 1 else 'RGB'}."
        )
    if n := sum(picture.opaque_alpha for picture in pictures):
        notes.append(f"{_pictures(n)} had a fully opaque alpha channel, which was dropped.")
    gray = sum(picture.pixels.shape[2] == 1 for picture in pictures)
    if 0 < gray < len(pictures):
        notes.append(f"{gray:,} of {_pictures(len(pictures))} were gray and became RGB like the others.")
    channels = 1 if gray == len(pictures) else 3
    pixels = np.stack([np.broadcast_to(picture.pixels, (*picture.pixels.shape[:2], channels)) for picture in pictures])
    if levels is None and all(picture.bilevel for picture in pictures):
        levels = 2
    result = leveled(pixels, str(folder), levels, pixel_values)
    ends = np.cumsum([len(split) for split in found.values()])
    return dict(zip(found, np.split(result.values, ends[:-1]), strict=True)), result, notes


def _read(paths: list[Path], folder: Path) -> list[Picture]:
    """Every picture, or one sentence that names those that cannot be used, and why."""
    pictures, refusals = [], []
    for path in paths:
        try:
            pictures.append(read_pixels(path))
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


def _same_size(pictures: list[Picture], paths: list[Path], folder: Path) -> None:
    sizes = Counter(picture.pixels.shape[:2] for picture in pictures)
    if len(sizes) == 1:
        return
    (height, width), most = sizes.most_common(1)[0]
    odd = [
        f"{path.relative_to(folder)} is {picture.pixels.shape[1]}×{picture.pixels.shape[0]}"
        for path, picture in zip(paths, pictures, strict=True)
        if picture.pixels.shape[:2] != (height, width)
    ]
    more = f", and {len(odd) - NAMED:,} more" if len(odd) > NAMED else ""
    raise DataError(
        f"the pictures in {folder} have {len(sizes)} sizes ({most:,} of {len(pictures):,} are {width}×{height}, "
        f"{', '.join(odd[:NAMED])}{more}): resize or crop them to one size"
    )


def _pictures(n: int) -> str:
    return f"{n:,} picture{'s' * (n != 1)}"
