"""Where events come from: pictures, folders of them, .npy, .npz, IDX, pickles, a dataset's name, standard input."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule import data
from chainrule.atomic import as_path
from chainrule.codec import pixels
from chainrule.data.folder import SUFFIXES
from chainrule.data.idx import read_idx
from chainrule.data.pictures import LOSSLESS
from chainrule.data.reading import reading
from chainrule.errors import DataError
from chainrule.models import AutoregressiveModel

BLOCK = 64


@dataclass
class Source:
    """One member of an archive to be, and what it holds: an array, perhaps on disk, or paths of pictures."""

    member: dict[str, Any]
    array: np.ndarray | None = None
    paths: Sequence[Path] = ()

    @property
    def count(self) -> int:
        """Events in it."""
        return len(self.paths) if self.array is None else len(self.array)

    def blocks(self, model: AutoregressiveModel) -> Iterator[np.ndarray]:
        """Its events, levels (n, *shape), few at a time. Raises `DataError` for what does not fit."""
        if self.array is not None:
            yield from pixels.array_blocks(self.array, self.member, model.shape, model.levels, BLOCK)
            return
        for start in range(0, len(self.paths), BLOCK):
            yield np.stack([read_picture(path, model) for path in self.paths[start : start + BLOCK]])


def read_picture(path: Path, model: AutoregressiveModel) -> np.ndarray:
    """One picture as an event, exactly; a DataError for another size, and for a value that no level has."""
    picture, shape = data.read_pixels(path), model.shape
    values = picture.pixels[..., :1] if shape[0] == 1 and picture.shows_gray else picture.pixels
    wanted = (*shape[1:], shape[0])
    if values.shape != wanted:
        found, fits = f"{values.shape[1]}×{values.shape[0]}×{values.shape[2]}", f"{shape[2]}×{shape[1]}×{shape[0]}"
        raise DataError(f"{path} is {found} (width × height × channels): the model takes {fits}, so convert it")
    try:
        return pixels.to_levels(values.transpose(2, 0, 1), pixels.picture_mapping(model.pixel_values), model.levels)
    except DataError as error:
        raise DataError(f"{path} cannot be stored losslessly: {error}") from None


def open_sources(given: str | Path | Sequence[str | Path], model: AutoregressiveModel, scratch: Path) -> list[Source]:
    """All that was named, in order.

    Args:
        given: paths of pictures, of folders of pictures, of .npy, .npz, IDX or pickle files; a dataset's name, whose
            test split is meant; "-" for an .npy on standard input; or several of them.
        model: what the events are for.
        scratch: a folder for arrays that must be unpacked before they can be read piece by piece.

    Raises:
        DataError: something is missing, is not what it seems, or does not fit the model.
    """
    names = [given] if isinstance(given, str | Path) else list(given)
    sources: list[Source] = []
    named: list[tuple[str, Path]] = []
    for number, name in enumerate(names):
        path = as_path(name)
        suffix = path.suffix.lower()
        if str(name) == "-":
            sources.append(_array("stdin.npy", _stdin(scratch), model))
        elif str(name) in data.NAMES:
            x = data.from_name(str(name)).test
            array = data.to_nhwc(x) if x.ndim == 4 else x.numpy()
            sources.append(_array(f"{name}-test.npy", array, model))
        elif path.is_dir():
            prefix = "" if len(names) == 1 else f"{path.resolve().name}/"
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
            if not found:
                raise DataError(f"the folder {path} holds no pictures ({', '.join(SUFFIXES)}): name one that does")
            named += [(prefix + file.relative_to(path).as_posix(), file) for file in found]
        elif suffix == ".npz":
            for key, file in _unpacked(path, scratch / str(number)):
                sources.append(_array(path.name, data.read_npy(file, mmap=True), model, key))
        elif suffix == ".npy":
            sources.append(_array(path.name, data.read_npy(path, mmap=True), model))
        elif suffix in SUFFIXES:
            with reading(path):
                path.stat()
            named.append((path.name, path))
        elif {".pkl", ".pickle"} & {each.lower() for each in path.suffixes[-2:]}:
            sources += _pickled(path, model)
        elif _is_idx(path):
            sources.append(_array(f"{path.name}.npy", read_idx(path), model))
        else:
            raise DataError(f"{path} is no picture, folder of pictures, .npy, .npz, IDX or pickle: convert it")
    if named:
        if len(model.shape) != 3 or model.shape[0] not in (1, 3) or model.levels > 256:
            raise DataError("this model is not for pictures: give it arrays")
        member = _pictures([name for name, _ in named], pixels.picture_mapping(model.pixel_values))
        sources.append(Source(member, None, [path for _, path in named]))
    return sources


def _array(name: str, array: np.ndarray, model: AutoregressiveModel, key: str | None = None) -> Source:
    return Source(pixels.array_member(name, array, model.shape, model.levels, key, model.pixel_values), array)


def _is_idx(path: Path) -> bool:
    """Whether a file begins as an IDX file does, or one packed by gzip."""
    with reading(path), path.open("rb") as file:
        return file.read(2) in (b"\0\0", b"\x1f\x8b")


def _pickled(path: Path, model: AutoregressiveModel) -> list[Source]:
    """The array of a pickle, or those of its dictionary, which come back as .npy and .npz."""
    value = data.read_pickle(path)
    if isinstance(value, np.ndarray):
        return [_array(f"{path.name}.npy", value, model)]
    arrays = list(value.items()) if isinstance(value, dict) else []
    if not arrays or not all(isinstance(key, str) and isinstance(array, np.ndarray) for key, array in arrays):
        raise DataError(f"{path} holds neither one array nor a dictionary of arrays by name: save those, or an .npz")
    return [_array(f"{path.name}.npz", array, model, key) for key, array in arrays]


def _pictures(names: list[str], values: pixels.Mapping) -> dict[str, Any]:
    """The member of these pictures; those of a lossy format come back as .png, since their pixels could not."""
    kept = []
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        kept.append(name if f".{suffix.lower()}" in LOSSLESS else f"{stem}{dot}png")
    unsafe = [name for name in kept if not pixels.is_safe(name)]
    if unsafe:
        raise DataError(f"the file name {unsafe[0]!r} would not mean the same on every system: rename the file")
    if len(set(kept)) < len(kept):
        twice = next(name for name in kept if kept.count(name) > 1)
        raise DataError(f"two pictures would be called {twice} in the archive: rename one, or give their folder")
    return {"kind": "images", "names": kept, "values": values}


def _stdin(scratch: Path) -> np.ndarray:
    path = scratch / "stdin.npy"
    scratch.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    try:
        return data.read_npy(path, mmap=True)
    except DataError:
        raise DataError("standard input is no whole .npy file: write it with numpy.save") from None


def _unpacked(path: Path, scratch: Path) -> list[tuple[str, Path]]:
    """The arrays of an .npz, unpacked one by one, so that they need not be in memory: their names and files."""
    scratch.mkdir(parents=True, exist_ok=True)
    found = []
    try:
        with reading(path), zipfile.ZipFile(path) as archive:
            for number, entry in enumerate(archive.infolist()):
                key = entry.filename.removesuffix(".npy")
                if not pixels.is_safe(key):
                    raise DataError(f"{path} holds an array called {key!r}: rename it")
                file = scratch / f"{number}.npy"
                with archive.open(entry) as packed, file.open("wb") as out:
                    shutil.copyfileobj(packed, out)
                found.append((key, file))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError):
        raise DataError(f"{path} is a damaged or truncated .npz file: write it again with numpy.savez") from None
    return found
