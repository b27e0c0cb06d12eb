"""Where events come from: picture files, folders of them, .npy, .npz, a dataset's name, or standard input."""

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
from chainrule.codec import pixels
from chainrule.data.files import reading
from chainrule.data.folder import SUFFIXES
from chainrule.data.pictures import LOSSLESS
from chainrule.errors import DataError
from chainrule.files import as_path

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

    def blocks(self, shape: tuple[int, ...], levels: int) -> Iterator[np.ndarray]:
        """Its events, levels (n, *shape), few at a time. Raises `DataError` for what does not fit."""
        if self.array is not None:
            yield from pixels.array_blocks(self.array, self.member, shape, levels, BLOCK)
            return
        for start in range(0, len(self.paths), BLOCK):
            yield np.stack([read_picture(path, shape, levels) for path in self.paths[start : start + BLOCK]])


def read_picture(path: Path, shape: tuple[int, ...], levels: int) -> np.ndarray:
    """One picture as an event, exactly; a DataError for another size, and for a value that no level has."""
    values = data.read_pixels(path).pixels
    wanted = (*shape[1:], shape[0])
    if values.shape != wanted:
        found, fits = f"{values.shape[1]}×{values.shape[0]}×{values.shape[2]}", f"{shape[2]}×{shape[1]}×{shape[0]}"
        raise DataError(f"{path} is {found} (width × height × channels): the model takes {fits}, so convert it")
    try:
        return pixels.to_levels(values.transpose(2, 0, 1), "scaled", levels)
    except DataError as error:
        raise DataError(f"{path} cannot be stored losslessly: {error}") from None


def open_sources(
    given: str | Path | Sequence[str | Path], shape: tuple[int, ...], levels: int, scratch: Path
) -> list[Source]:
    """All that was named, in order.

    Args:
        given: paths of pictures, of folders of pictures, of .npy or .npz files; a dataset's name, whose test split is
            meant; "-" for an .npy on standard input; or several of them.
        shape, levels: of the model.
        scratch: a folder for arrays that must be unpacked before they can be read piece by piece.

    Raises:
        DataError: something is missing, is not what it seems, or does not fit the model.
    """
    names = [given] if isinstance(given, str | Path) else list(given)
    sources: list[Source] = []
    named: list[tuple[str, Path]] = []
    for number, name in enumerate(names):
        path = as_path(name)
        if str(name) == "-":
            sources.append(_array("stdin.npy", _stdin(scratch), shape, levels))
        elif str(name) in data.NAMES:
            x = data.from_name(str(name)).test
            array = data.to_nhwc(x) if x.ndim == 4 else x.numpy()
            sources.append(_array(f"{name}-test.npy", array, shape, levels))
        elif path.is_dir():
            prefix = "" if len(names) == 1 else f"{path.resolve().name}/"
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
            if not found:
                raise DataError(f"the folder {path} holds no pictures ({', '.join(SUFFIXES)}): name one that does")
            named += [(prefix + file.relative_to(path).as_posix(), file) for file in found]
        elif path.suffix.lower() == ".npz":
            for key, file in _unpacked(path, scratch / str(number)):
                sources.append(_array(path.name, data.read_npy(file, mmap=True), shape, levels, key))
        elif path.suffix.lower() == ".npy":
            sources.append(_array(path.name, data.read_npy(path, mmap=True), shape, levels))
        elif path.suffix.lower() in SUFFIXES:
            with reading(path):
                path.stat()
            named.append((path.name, path))
        else:
            with reading(path):
                path.stat()
            raise DataError(f"{path} is no picture, folder of pictures, .npy or .npz: convert it")
    if named:
        if len(shape) != 3 or shape[0] not in (1, 3) or levels > 256:
            raise DataError("this model is not for pictures: give it arrays")
        sources.append(Source(_pictures([name for name, _ in named]), None, [path for _, path in named]))
    return sources


def _array(name: str, array: np.ndarray, shape: tuple[int, ...], levels: int, key: str | None = None) -> Source:
    return Source(pixels.array_member(name, array, shape, levels, key), array)


def _pictures(names: list[str]) -> dict[str, Any]:
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
    return {"kind": "images", "names": kept, "values": "scaled"}


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
