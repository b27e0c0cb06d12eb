"""A folder of image files → arrays, one a split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chainrule.data.levels import Leveled, leveled
from chainrule.data.pictures import Picture, read_pixels
from chainrule.data.reading import reading
from chainrule.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
          "test": "test"}  # fmt: skip


NAMED = 10
"""Pictures that an error names at most."""


def read_folder(
    folder: Path, levels: int | None, pixel_values: Sequence[int] | None = None
) -> tuple[dict[str, np.ndarray], Leveled, list[str]]:
    """Read every picture below a folder, in the order of their paths.

    Returns the splits (N, H, W, C) uint8 under "train" and, where there are subfolders of those names, "validation" and
    "test"; what `leveled` found of all pixels together; and sentences about the files. Hidden files are passed over;
    other files are counted. Raises `DataError` for an empty folder, for pictures of different sizes, and for whatever
    `read_pixels` refuses, after all have been looked at.
    """
    found, others = _files(folder)
    paths = [path for split in found.values() for path in split]
    if not paths:
        besides = f", only {_other(others, folder)}" if others else ""
        raise DataError(f"The folder {folder} holds no pictures{besides}; name one with {', '.join(SUFFIXES)} files.")
    pictures = _read(paths, folder)
    _same_size(pictures, paths, folder)

    notes = []
    if others:
        notes.append(f"Passed over {_other(others, folder)}.")
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
            f"{path.relative_to(folder)} {message.removeprefix(f'{path} ').partition(';')[0]}"
            for path, message in refusals[:NAMED]
        ]
        more = f", and {len(refusals) - NAMED:,} more" if len(refusals) > NAMED else ""
        raise DataError(
            f"{len(refusals):,} of {_pictures(len(paths))} in {folder} cannot be used ({', '.join(reasons)}{more}); "
            f"convert or remove them."
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
        f"The pictures in {folder} have {len(sizes)} sizes ({most:,} of {len(pictures):,} are {width}×{height}, "
        f"{', '.join(odd[:NAMED])}{more}); resize or crop them to one size."
    )


def _files(folder: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Picture files by split, and the other files; both sorted by path."""
    with reading(folder):
        inside = sorted(folder.iterdir())
    names = [path.name for path in inside if path.is_dir() and path.name in SPLITS]
    kinds = [SPLITS[name] for name in names]
    if len(set(kinds)) < len(kinds):
        raise DataError(f"The folder {folder} has two subfolders for one split ({', '.join(names)}); keep one of each.")
    if not {"train", "test"} & set(kinds):
        names, kinds = ["."], ["train"]
    if "train" not in kinds:
        raise DataError(
            f"The folder {folder} has a test/ subfolder and no train/; add one, or name a folder without either."
        )
    found, others = {}, []
    for name, kind in zip(names, kinds, strict=True):
        files = _below(folder / name)
        found[kind] = [path for path in files if path.suffix.lower() in SUFFIXES]
        others += [path for path in files if path.suffix.lower() not in SUFFIXES]
        if not found[kind] and name != ".":
            raise DataError(f"The folder {folder / name} holds no pictures ({', '.join(SUFFIXES)}); fill or remove it.")
    if names != ["."]:
        others += [path for path in inside if path.name not in names and not path.name.startswith(".")]
    return found, others


def _below(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise error

    files = []
    with reading(folder):
        # os.walk, because it reports what it may not enter; a glob would leave it out without a word
        for root, folders, names in os.walk(folder, onerror=refuse):
            folders[:] = [name for name in folders if not name.startswith(".")]
            files += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _pictures(n: int) -> str:
    return f"{n:,} picture{'s' * (n != 1)}"


def _other(others: list[Path], folder: Path) -> str:
    few = ", ".join(str(path.relative_to(folder)) for path in others[:3])
    what = f"{len(others):,} files that are no pictures" if len(others) > 1 else "1 file that is no picture"
    return f"{what} ({few}{', …' * (len(others) > 3)})"
