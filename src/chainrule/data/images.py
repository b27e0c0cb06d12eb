"""Your own images: a folder of pictures, .npy, .npz, IDX files, or a pickle of arrays such as the course's."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from chainrule.atomic import as_path
from chainrule.data.arrays import in_splits, read_arrays
from chainrule.data.dataset import MOST_LEVELS, Dataset, as_tensor
from chainrule.data.folder import read_folder
from chainrule.data.levels import Leveled, leveled
from chainrule.data.listing import SPLITS, named
from chainrule.data.picture_set import Pictures
from chainrule.data.reading import reading
from chainrule.errors import DataError

BATCHES = {
    "train": r"train-images[.-]idx3-ubyte(\.gz)?|(train_)?data_batch(_\d+)?|train",
    "test": r"t10k-images[.-]idx3-ubyte(\.gz)?|test_batch|val_data|test",
}
"""Files by which a set's folder is known, by split: MNIST's, CIFAR-10's and ImageNet32's, CIFAR-100's."""
SMALL = 64  # values below this are taken for levels as they stand, others for 8-bit pixels
MOST_CHANNELS = 16
USUAL_CHANNELS = 4  # an axis of up to so many, with more behind it, is taken for channels that come first


def load_images(
    path: str | os.PathLike,
    *,
    levels: int | None = None,
    validation: int | None = None,
    seed: int = 0,
    pixel_values: Sequence[int] | None = None,
    any_size: bool = False,
) -> Dataset:
    """Images from a folder or a file → uint8 or int16 splits (N, C, H, W), or `Pictures` of mixed sizes.

    - A folder of pictures (png, jpg, webp, bmp, gif, tiff), with or without subfolders train/, validation/ and test/,
      in any case and spelling that is usual. Pictures of several sizes become `Pictures`, splits whose shape is
      (N, C, None, None); so do others if `any_size` is asked for. If any is transparent anywhere, all become RGBA.
    - A pickle or .npz with arrays named train and test (and validation), or x_train, x_test and so on, perhaps with
      labels, or one array; a .npy; an IDX file, also .gz; a batch of CIFAR-10 or ImageNet32; a folder of such files
      under their usual names. Arrays are of integers, (N, H, W) or (N, H, W, C) with up to 16 channels. A pickle may
      hold NumPy arrays, numbers and words, and nothing else.

    Without `levels`, arrays whose largest value m is below 64 have m + 1 levels. Other arrays, and pictures, are of 8
    bits: at most 16 different values are a level each, and the dataset's `pixel_values` unless they are spread evenly;
    more are 256 levels. With fewer `levels`, 8-bit values are quantised, v ↦ v · levels // 256, except where they are
    `levels` different values already. `pixel_values` are those of a trained model: other bytes are refused.

    Without a test split, `seed` draws 80 % for training and 10 % each for validation and test; without a validation
    split, `seed` draws a twelfth of the training images (at most 5,000), or `validation` of them. `notes` say what was
    found.

    Raises:
        DataError: it is anything else, or something in it cannot be read.
    """
    path = as_path(path)
    with reading(path):
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    if levels is not None and not 2 <= levels <= MOST_LEVELS:
        raise DataError(f"{levels} levels were asked for {path}: choose from 2 to {MOST_LEVELS:,}")
    batches = batches_of(path) if is_folder else {"train": [path]}
    labels: dict[str, np.ndarray] = {}
    if not batches:
        parts, found, notes = read_folder(path, levels, pixel_values, any_size=any_size)
    else:
        parts, labels, notes = _read_batches(batches, path)
        shapes = {split: array.shape[1:] for split, array in parts.items()}
        if len(set(shapes.values())) > 1:
            text = ", ".join(f"{split} {shape}" for split, shape in shapes.items())
            raise DataError(f"the splits of {path} hold images of different shapes ({text}): make them one")
        parts, found = _leveled(parts, levels, path, pixel_values)
    counts = " + ".join(f"{len(array):,} {split}" for split, array in parts.items()) if len(parts) > 1 else ""
    total = sum(len(array) for array in parts.values())
    mixed = parts["train"].dtype == object
    height, width, channels = parts["train"][0].shape
    size = "of any size" if mixed else f"of {width}×{height} pixels (width × height)"
    first = (
        f"{path} holds {total:,} images{f' ({counts})' * bool(counts)} {size} "
        f"with {channels} channel{'s' * (channels != 1)}, in {found.levels} levels."
    )
    parts, labels, split_notes = _split(parts, labels, validation, seed, path)
    train, held_out, test = (_as_events(parts[split], found.levels) for split in SPLITS)
    return Dataset(
        path.resolve().name if is_folder else path.stem,
        found.levels,
        train,
        held_out,
        test,
        notes=(first, found.note, *notes, *split_notes),
        labels={split: torch.from_numpy(known.astype(np.int64)) for split, known in labels.items()},
        pixel_values=found.pixel_values,
    )


def _as_events(values: np.ndarray, levels: int) -> torch.Tensor | Pictures:
    if values.dtype == object:
        return Pictures([as_tensor(value.transpose(2, 0, 1), levels) for value in values])
    return as_tensor(values.transpose(0, 3, 1, 2), levels)


def batches_of(folder: Path) -> dict[str, list[Path]]:
    """The files of a set that is known by its files' names (MNIST, CIFAR, ImageNet32), by split; {} for any other."""
    with reading(folder):
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    found: dict[str, dict[str, Path]] = {}
    for name in names:
        for split, pattern in BATCHES.items():
            if re.fullmatch(pattern, name):  # packed or not, and spelled either way, it is the same file
                found.setdefault(split, {}).setdefault(name.removesuffix(".gz").replace(".idx", "-idx"), folder / name)
    return {split: list(files.values()) for split, files in found.items()} if "train" in found else {}


def _read_batches(
    batches: dict[str, list[Path]], path: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str]]:
    """Images (N, H, W, C) and labels by split, and sentences about them."""
    images: dict[str, list[np.ndarray]] = {}
    labels: dict[str, list[np.ndarray]] = {}
    rest: list[str] = []
    notes: list[str] = []
    for given, files in batches.items():
        for file in files:
            held, known, others = in_splits(read_arrays(file)[1], file)
            rest += [name for name in others if name not in rest]
            for split, array in held.items():
                what = f"{file} ({split})" if len(held) > 1 else str(file)
                place = split if len(held) > 1 else given
                images.setdefault(place, []).append(_checked(array, what, notes))
                if split in known:
                    labels.setdefault(place, []).append(known[split])
    if path.is_dir():
        read = {file for files in batches.values() for file in files}
        rest += [other.name for other in path.iterdir() if other not in read]
    if rest:
        notes.append(f"Left out: {named(rest)}.")
    for split, several in images.items():
        if len({array.shape[1:] for array in several}) > 1:
            raise DataError(f"the {split} files of {path} hold images of different shapes: make them one")
    whole = {split: np.concatenate(known) for split, known in labels.items() if len(known) == len(images[split])}
    return {split: np.concatenate(several) for split, several in images.items()}, whole, notes


def _checked(array: np.ndarray, what: str, notes: list[str]) -> np.ndarray:
    """The array as (N, H, W, C) integers, or a sentence that begins with `what`."""
    if array.dtype.kind not in "uib":
        raise DataError(f"{what} holds {array.dtype} values: convert them to integers (uint8 pixels, or levels from 0)")
    if array.ndim == 3 and array.shape[2] == 3 and array.size:
        one, many = (1, *array.shape), (*array.shape, 1)
        raise DataError(
            f"{what} has shape {array.shape}, one picture in colour or {len(array):,} gray ones 3 pixels wide: "
            f"make it {one} or {many}"
        )
    if array.ndim == 3:
        if array.shape[2] in (2, 4):
            notes.append(f"If it is one picture of {array.shape[2]} channels, make it {(1, *array.shape)}.")
        array = array[..., None]
    if array.ndim != 4:
        raise DataError(f"{what} has shape {array.shape}: images must be (N, H, W) or (N, H, W, C)")
    if array.size == 0:
        raise DataError(f"{what} has shape {array.shape}: it holds no images")
    channels_first = array.shape[1] <= USUAL_CHANNELS < array.shape[3]
    if array.shape[3] > MOST_CHANNELS or channels_first:
        wanted = "channels come last, so transpose it" if channels_first else f"at most {MOST_CHANNELS} are read"
        raise DataError(f"{what} has shape {array.shape}, {array.shape[3]} channels: {wanted}")
    return array


def _leveled(
    parts: dict[str, np.ndarray], levels: int | None, path: Path, pixel_values: Sequence[int] | None
) -> tuple[dict[str, np.ndarray], Leveled]:
    """Arrays → values in [0, levels), and what was found of all of them together."""
    low = min(int(array.min()) for array in parts.values())
    top = max(int(array.max()) for array in parts.values())
    if low < 0:
        raise DataError(f"{path} holds a negative value ({low}): values must be pixels or levels from 0")
    if levels is None and top > 255:
        raise DataError(f"{path} holds values up to {top}, more than 8 bits: name the number of levels, or convert it")
    shown = pixel_values is not None and all(np.isin(array, pixel_values).all() for array in parts.values())
    if top < (SMALL if levels is None else levels) and not shown:
        levels = max(top + 1, 2) if levels is None else levels
        note = f"Its values, {low} to {top}, are taken as they stand."
        return parts, Leveled(parts["train"], levels, None, note)
    if top > 255 or (top < SMALL and not shown):
        raise DataError(
            f"{path} holds values up to {top}, neither {levels} levels nor 8-bit pixels: ask for other levels"
        )
    joined = np.concatenate([array.astype(np.uint8) for array in parts.values()])
    found = leveled(joined, str(path), levels, pixel_values)
    ends = np.cumsum([len(array) for array in parts.values()])
    return dict(zip(parts, np.split(found.values, ends[:-1]), strict=True)), found


def _split(
    parts: dict[str, np.ndarray], labels: dict[str, np.ndarray], validation: int | None, seed: int, path: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str]]:
    """All three splits and their labels, drawn by `seed` where they are not given, each in the file's order."""
    n = len(parts["train"])
    taken: dict[str, int] = {}
    if "test" not in parts:
        taken["test"] = max(1, n // 10)
    if "validation" not in parts:
        default = n // 10 if "test" in taken else min(n // 12, 5_000)
        taken["validation"] = max(1, default) if validation is None else validation
    elif validation is not None:
        raise DataError(f"{path} has a validation split of its own: ask for no other one")
    if not taken:
        return parts, labels, []
    rest = n - sum(taken.values())
    if rest < 1 or min(taken.values()) < 1:
        wanted = " and ".join(f"{count:,} for {split}" for split, count in taken.items())
        raise DataError(f"{path} holds {n:,} training images, too few to draw {wanted}: ask for fewer or add some")
    order = np.random.RandomState(seed).permutation(n)
    rows = {}
    for split, count in {**taken, "train": rest}.items():
        rows[split], order = np.sort(order[:count]), order[count:]
    parts = parts | {split: parts["train"][chosen] for split, chosen in rows.items()}
    if "train" in labels:
        labels = labels | {split: labels["train"][chosen] for split, chosen in rows.items()}
    drawn = " and ".join(f"{count:,} for {split}" for split, count in taken.items())
    return parts, labels, [f"Seed {seed} drew {drawn}, which leaves {rest:,} for training."]
