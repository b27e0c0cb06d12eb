"""Your own images: a folder of pictures, .npy, .npz, IDX files, or a pickle of arrays such as the course's."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chainrule.atomic import as_path
from chainrule.data.dataset import MOST_LEVELS, Dataset, as_tensor
from chainrule.data.folder import SPLITS, SUFFIXES, read_folder
from chainrule.data.idx import read_idx
from chainrule.data.levels import Leveled, leveled
from chainrule.data.pictures import read_image, save_grid, to_nchw, to_nhwc, write_image
from chainrule.data.reading import read_npy, reading
from chainrule.data.unpickle import read_pickle
from chainrule.errors import DataError

__all__ = ["load_images", "read_image", "save_grid", "to_nchw", "to_nhwc", "write_image"]

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
) -> Dataset:
    """Images from a folder or a file → uint8 or int16 splits (N, C, H, W).

    - A folder of pictures (png, jpg, webp, bmp, gif, tiff), with or without subfolders train/, validation/ and test/.
    - A pickle or .npz with arrays named train and test (and validation), or one array; a .npy; an IDX file, also .gz;
      a folder with MNIST-like IDX files. Arrays are of integers, (N, H, W) or (N, H, W, C) with up to 16 channels. A
      pickle may hold NumPy arrays and nothing else.

    Without `levels`, arrays whose largest value m is below 64 have m + 1 levels. Other arrays, and pictures, are of 8
    bits: at most 16 different values are a level each, and the dataset's `pixel_values` unless they are spread evenly;
    more are 256 levels. With fewer `levels`, 8-bit values are quantised, v ↦ v · levels // 256, except where they are
    `levels` different values already. `pixel_values` are those of a trained model: other bytes are refused.

    Without a test split, `seed` draws 80 % for training and 10 % each for validation and test; without a validation
    split, `seed` draws a twelfth of the training images (at most 5,000), or `validation` of them. `notes` say what was
    found. Raises `DataError` for anything else.
    """
    path = as_path(path)
    with reading(path):
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    if levels is not None and not 2 <= levels <= MOST_LEVELS:
        raise DataError(f"{levels} levels were asked for {path}; choose from 2 to {MOST_LEVELS:,}.")
    idx = _idx_files(path) if is_folder else {}
    if is_folder and not idx:
        parts, found, notes = read_folder(path, levels, pixel_values)
    else:
        parts = {split: read_idx(file) for split, file in idx.items()} or _arrays(path)
        parts = {
            split: _checked(array, f"{path} ({split})" if len(parts) > 1 else str(path))
            for split, array in parts.items()
        }
        shapes = {split: array.shape[1:] for split, array in parts.items()}
        if len(set(shapes.values())) > 1:
            text = ", ".join(f"{split} {shape}" for split, shape in shapes.items())
            raise DataError(f"The splits of {path} hold images of different shapes ({text}); make them one.")
        parts, found = _leveled(parts, levels, path, pixel_values)
        notes = []
    counts = " + ".join(f"{len(array):,} {split}" for split, array in parts.items()) if len(parts) > 1 else ""
    total = sum(len(array) for array in parts.values())
    height, width, channels = parts["train"].shape[1:]
    first = (
        f"{path} holds {total:,} images{f' ({counts})' * bool(counts)} of {width}×{height} pixels (width × height) "
        f"with {channels} channel{'s' * (channels != 1)}, in {found.levels} levels."
    )
    parts, split_notes = _split(parts, validation, seed, path)
    train, held_out, test = (
        as_tensor(parts[split].transpose(0, 3, 1, 2), found.levels) for split in ("train", "validation", "test")
    )
    name = path.resolve().name if is_folder else path.stem
    sentences = (first, found.note, *notes, *split_notes)
    return Dataset(name, found.levels, train, held_out, test, notes=sentences, pixel_values=found.pixel_values)


def _idx_files(folder: Path) -> dict[str, Path]:
    """A folder's MNIST-like IDX files of images, by split; empty without a training file."""
    found: dict[str, Path] = {}
    for split, stem in (("train", "train-images"), ("test", "t10k-images")):
        for name in (f"{stem}{dot}idx3-ubyte{end}" for dot in "-." for end in ("", ".gz")):
            if (folder / name).is_file():
                found.setdefault(split, folder / name)
    return found if "train" in found else {}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, by split; a file of one array gives it as "train". The first bytes say what the file is."""
    with reading(path), path.open("rb") as file:
        head = file.read(4)
    suffixes = path.suffixes[-2:]
    if head == b"\x93NUM" or path.suffix == ".npy":
        return {"train": read_npy(path)}
    if head == b"PK\3\4" or path.suffix == ".npz":
        return _named(_npz(path), path)
    if head[:1] == b"\x80" or {".pkl", ".pickle"} & set(suffixes):
        return _named(read_pickle(path), path)
    if head[:2] == b"\0\0" or head[:2] == b"\x1f\x8b":
        return {"train": read_idx(path)}
    if path.suffix.lower() in SUFFIXES:
        raise DataError(f"{path} is one picture; name a folder of pictures.")
    raise DataError(f"{path} is no kind of file that images are read from (folder, .npy, .npz, IDX, .pkl); convert it.")


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with reading(path), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = [name for name in archive.files if name in SPLITS] or archive.files
            return {name: archive[name] for name in names}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError, TypeError) as error:
        if "Object arrays" in str(error):
            raise DataError(f"{path} holds an array of Python objects; save arrays of numbers instead.") from None
        raise DataError(f"{path} is a damaged or truncated .npz file; write it again with numpy.savez.") from None


def _named(value: object, path: Path) -> dict[str, np.ndarray]:
    if isinstance(value, np.ndarray):
        return {"train": value}
    if not isinstance(value, dict):
        raise DataError(
            f"{path} holds a {type(value).__name__}; it must hold one array, or arrays named train and test."
        )
    parts = {SPLITS[name]: array for name, array in value.items() if name in SPLITS}
    if not parts and len(value) == 1:
        parts = {"train": next(iter(value.values()))}
    if "train" not in parts:
        names = ", ".join(map(str, value)) or "nothing"
        raise DataError(f"{path} holds {names}; it must hold one array, or arrays named train and test.")
    return parts


def _checked(array: object, what: str) -> np.ndarray:
    """The array as (N, H, W, C) integers, or a sentence that begins with `what`."""
    if not isinstance(array, np.ndarray):
        raise DataError(f"{what} is a {type(array).__name__}; images must be an array of integers.")
    if array.dtype.kind not in "uib":
        raise DataError(
            f"{what} holds {array.dtype} values; convert them to integers (uint8 pixels, or levels from 0)."
        )
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4:
        raise DataError(f"{what} has shape {array.shape}; images must be (N, H, W) or (N, H, W, C).")
    if array.size == 0:
        raise DataError(f"{what} has shape {array.shape}; it holds no images.")
    channels_first = array.shape[1] <= USUAL_CHANNELS < array.shape[3]
    if array.shape[3] > MOST_CHANNELS or channels_first:
        wanted = "channels come last, so transpose it" if channels_first else f"at most {MOST_CHANNELS} are read"
        raise DataError(f"{what} has shape {array.shape}, {array.shape[3]} channels; {wanted}.")
    return array


def _leveled(
    parts: dict[str, np.ndarray], levels: int | None, path: Path, pixel_values: Sequence[int] | None
) -> tuple[dict[str, np.ndarray], Leveled]:
    """Arrays → values in [0, levels), and what was found of all of them together."""
    low = min(int(array.min()) for array in parts.values())
    top = max(int(array.max()) for array in parts.values())
    if low < 0:
        raise DataError(f"{path} holds a negative value ({low}); values must be pixels or levels from 0.")
    if levels is None and top > 255:
        raise DataError(f"{path} holds values up to {top}, more than 8 bits; name the number of levels, or convert it.")
    shown = pixel_values is not None and all(np.isin(array, pixel_values).all() for array in parts.values())
    if top < (SMALL if levels is None else levels) and not shown:
        levels = max(top + 1, 2) if levels is None else levels
        note = f"Its values, {low} to {top}, are taken as they stand."
        return parts, Leveled(parts["train"], levels, None, note)
    if top > 255 or (top < SMALL and not shown):
        raise DataError(
            f"{path} holds values up to {top}, neither {levels} levels nor 8-bit pixels; ask for other levels."
        )
    joined = np.concatenate([array.astype(np.uint8) for array in parts.values()])
    found = leveled(joined, str(path), levels, pixel_values)
    ends = np.cumsum([len(array) for array in parts.values()])
    return dict(zip(parts, np.split(found.values, ends[:-1]), strict=True)), found


def _split(
    parts: dict[str, np.ndarray], validation: int | None, seed: int, path: Path
) -> tuple[dict[str, np.ndarray], list[str]]:
    """All three splits, drawn by `seed` where they are not given, each in the file's order."""
    given, notes = parts["train"], []
    order = np.random.RandomState(seed).permutation(len(given))
    taken: dict[str, int] = {}
    if "test" not in parts:
        taken["test"] = max(1, len(given) // 10)
    if "validation" not in parts:
        default = len(given) // 10 if "test" in taken else min(len(given) // 12, 5_000)
        taken["validation"] = max(1, default) if validation is None else validation
    elif validation is not None:
        raise DataError(f"{path} has a validation split of its own; ask for no other one.")
    rest = len(given) - sum(taken.values())
    if rest < 1 or min(taken.values(), default=1) < 1:
        wanted = " and ".join(f"{n:,} for {split}" for split, n in taken.items())
        raise DataError(
            f"{path} holds {len(given):,} training images, too few to draw {wanted}; ask for fewer or add some."
        )
    out = dict(parts)
    for split, n in taken.items():
        out[split], order = given[np.sort(order[:n])], order[n:]
    if taken:
        out["train"] = given[np.sort(order)]
        drawn = " and ".join(f"{n:,} for {split}" for split, n in taken.items())
        notes.append(f"Seed {seed} drew {drawn}, which leaves {rest:,} for training.")
    return out, notes
