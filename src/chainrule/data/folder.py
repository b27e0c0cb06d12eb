"""A folder of image files → arrays, one a split."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from chainrule.data.files import reading
from chainrule.data.pictures import quantise, read_pixels
from chainrule.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
          "test": "test"}  # fmt: skip


def read_folder(folder: Path, levels: int | None) -> tuple[dict[str, np.ndarray], int, list[str]]:
    """Read every picture below a folder, in the order of their paths.

    Returns the splits (N, H, W, C) uint8 under "train" and, where there are subfolders of those names, "validation" and
    "test"; the number of levels (2 for pictures of one bit, else `levels` or 256); and sentences about what was found.
    Hidden files are passed over; other files are counted. Raises `DataError` for an empty folder, for pictures of
    different sizes, and for whatever `read_pixels` refuses.
    """
    found, others = _files(folder)
    paths = [path for split in found.values() for path in split]
    if not paths:
        raise DataError(f"The folder {folder} holds no pictures ({', '.join(SUFFIXES)}); name one that does.")
    pictures = [read_pixels(path) for path in paths]

    sizes = Counter(picture.pixels.shape[:2] for picture in pictures)
    if len(sizes) > 1:
        (height, width), _ = sizes.most_common(1)[0]
        odd = next(i for i, picture in enumerate(pictures) if picture.pixels.shape[:2] != (height, width))
        h, w = pictures[odd].pixels.shape[:2]
        raise DataError(
            f"The pictures in {folder} have {len(sizes)} sizes ({paths[odd]} is {w}×{h}, most are {width}×{height}); "
            f"resize or crop them to one size."
        )

    notes = []
    if others:
        few = ", ".join(str(path.relative_to(folder)) for path in others[:3])
        what = f"{len(others):,} files that are no pictures" if len(others) > 1 else "1 file that is no picture"
        notes.append(f"Passed over {what} ({few}{', …' * (len(others) > 3)}).")
    if n := sum(picture.palette for picture in pictures):
        notes.append(f"{_pictures(n)} had a palette and became RGB.")
    if n := sum(picture.opaque_alpha for picture in pictures):
        notes.append(f"{_pictures(n)} had a fully opaque alpha channel, which was dropped.")
    gray = sum(picture.pixels.shape[2] == 1 for picture in pictures)
    if 0 < gray < len(pictures):
        notes.append(f"{gray:,} of {_pictures(len(pictures))} were gray and became RGB like the others.")
    channels = 1 if gray == len(pictures) else 3
    pixels = np.stack([np.broadcast_to(picture.pixels, (*picture.pixels.shape[:2], channels)) for picture in pictures])

    bilevel = all(picture.bilevel for picture in pictures)
    levels = (2 if bilevel else 256) if levels is None else levels
    values, exact = quantise(pixels, levels)
    if bilevel:
        notes.append("They have 1 bit a pixel.")
    elif levels == 256:
        notes.append("They were read as 8 bits a channel.")
    elif exact:
        notes.append(
            f"They were read as 8 bits a channel, and every value is one of the {levels} levels scaled to 0…255."
        )
    else:
        notes.append(f"Their 8 bits a channel were quantised to {levels} levels (v · {levels} // 256).")
    ends = np.cumsum([len(split) for split in found.values()])
    return dict(zip(found, np.split(values, ends[:-1]), strict=True)), levels, notes


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
