"""The one reader of arrays, for training and for archives: .npy, .npz, IDX and pickle files, told by their content."""

from __future__ import annotations

import io
import re
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from chainrule.data.idx import from_idx
from chainrule.data.listing import SUFFIXES, split_of
from chainrule.data.reading import mapped, opened, read_bytes, read_npy, reading
from chainrule.data.unpickle import restricted_load
from chainrule.errors import DataError

Arrays = dict[str, np.ndarray]
Kind = Literal["npy", "npz", "idx", "pickle"]
PICKLES = {".pkl", ".pickle"}
LABELS = {"y", "label", "labels", "target", "targets", "class", "classes"}
IMAGES = {"x", "image", "images", "data", "imgs"}


def read_arrays(path: Path) -> tuple[Kind, Arrays]:
    """What a file of arrays is, and its arrays by name; one array alone is called "".

    Large files are mapped rather than read. Lists and words in a pickle become arrays; nothing else is unpickled.

    Raises:
        DataError: it is missing, damaged, or of another kind.
    """
    with opened(path) as file:
        head = file.read(6)
    if head == b"\x93NUMPY" or path.suffix == ".npy":
        return "npy", {"": read_npy(path)}
    if head[:4] == b"PK\3\4" or path.suffix == ".npz":
        return "npz", _npz(path)
    suffixes = {suffix.lower() for suffix in path.suffixes[-2:]}
    data = read_bytes(path) if head[:2] in (b"\x1f\x8b", b"\0\0") or head[:1] == b"\x80" or suffixes & PICKLES else b""
    if data[:1] == b"\x80" or suffixes & PICKLES:
        return "pickle", _plain(restricted_load(io.BytesIO(data), str(path)), path)
    if data:
        return "idx", {"": from_idx(data, str(path))}
    if path.suffix.lower() in SUFFIXES:
        raise DataError(f"{path} is one picture: name a folder of pictures")
    raise DataError(f"{path} is no kind of file that images are read from (folder, .npy, .npz, IDX, .pkl): convert it")


def _npz(path: Path) -> Arrays:
    """The arrays of an .npz, each unpacked to a file without a name, so that they need not be in memory."""
    arrays = {}
    try:
        with reading(path), zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name, file = entry.filename.removesuffix(".npy"), tempfile.TemporaryFile()  # noqa: SIM115
                with archive.open(entry) as packed:
                    shutil.copyfileobj(packed, file)
                file.seek(0)
                if name in arrays:
                    raise DataError(f"{path} holds two arrays called {name!r}: write it again with numpy.savez")
                arrays[name] = mapped(file, f"{path} ({name})")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error):
        raise DataError(f"{path} is a damaged or truncated .npz file: write it again with numpy.savez") from None
    return arrays


def _plain(value: Any, path: Path) -> Arrays:
    """What a pickle holds, as arrays by name."""
    if isinstance(value, np.ndarray):
        return {"": value}
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a {type(value).__name__}: it must hold one array, or arrays by name")
    arrays = {}
    for key, held in value.items():
        name = key.decode("latin1") if isinstance(key, bytes) else str(key)
        try:
            array = np.asarray(held)
        except ValueError:  # lists of different lengths
            array = np.array(None)
        arrays[name] = array  # of objects, where it is none that holds plain values
    return arrays


def in_splits(arrays: Arrays, path: Path) -> tuple[Arrays, Arrays, list[str]]:
    """Arrays by name → images by split, labels by split, and the names of what is neither.

    Understood are one array, and names such as train, x_test, val_images, data; train_labels, y_test, labels.

    Raises:
        DataError: which arrays are the images of which split is not clear.
    """
    if len(arrays) == 1:
        return {"train": next(iter(arrays.values()))}, {}, []
    found: dict[str, dict[str, str]] = {"images": {}, "labels": {}}
    rest = []
    for name in arrays:
        words = re.split(r"[-_ .]+", name.casefold())
        splits = [split for word in words if (split := split_of(word))]
        others = {word for word in words if not split_of(word)}
        what = "images" if others <= IMAGES else "labels" if others & LABELS else ""
        split = splits[0] if splits else "train"
        if len(splits) > 1 or not what or (what == "labels" and not _is_label(arrays[name])):
            rest.append(name)
        elif split in found[what] and what == "images":
            raise DataError(f"{path} holds two sets of {split} images ({found[what][split]}, {name}): keep one")
        elif split in found[what]:
            rest.append(name)
        else:
            found[what][split] = name
    images = {split: _unfolded(arrays[name], name) for split, name in found["images"].items()}
    if "train" not in images:
        names = ", ".join(map(str, arrays)) or "nothing"
        raise DataError(f"{path} holds {names}: it must hold one array, or arrays named train and test")
    labels = {}
    for split, name in found["labels"].items():
        if split in images and len(arrays[name]) == len(images[split]):
            labels[split] = arrays[name].reshape(-1)
        else:
            rest.append(name)
    return images, labels, rest


def _is_label(array: np.ndarray) -> bool:
    return array.dtype.kind in "ui" and array.ndim >= 1 and array.size == len(array)


def _unfolded(array: np.ndarray, name: str) -> np.ndarray:
    """CIFAR-10's and ImageNet32's `data`, rows of three planes, as (N, H, W, 3); other arrays as they are."""
    side = round((array.shape[1] / 3) ** 0.5) if array.ndim == 2 else 0
    if name.casefold() != "data" or not side or array.shape[1] != 3 * side * side:
        return array
    return array.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
