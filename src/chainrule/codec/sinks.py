"""Where decoded events go: files that appear all at once at the end, or one array on standard output."""

from __future__ import annotations

import contextlib
import os
import sys
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from chainrule import data
from chainrule.codec.container import Header
from chainrule.codec.members import Array, Images, Kept, Member, files_of
from chainrule.errors import CodecError, DataError


def npy_header(file: BinaryIO, member: Array, shape: tuple[int, ...]) -> None:
    """Write the head of an .npy file for an array of events of this shape; its numbers follow as they come."""
    fields = {"descr": member.dtype, "fortran_order": False, "shape": member.shape_of(shape)}
    np.lib.format.write_array_header_1_0(file, fields)


class Standard:
    """One array to standard output."""

    def __init__(self, header: Header) -> None:
        if len(header.members) != 1 or not isinstance(header.members[0], Array):
            raise CodecError("the archive holds several files: only one array can go to standard output, give a folder")
        self.member: Array = header.members[0]
        self.levels, self.shape, self.begun = header.levels, tuple(header.shape), False
        self.file: BinaryIO = sys.stdout.buffer

    def add(self, x: np.ndarray) -> None:
        """Write events, levels (n, *shape)."""
        self._begin()
        self.file.write(self.member.restored(x, self.levels).tobytes())

    def finish(self) -> list[Path]:
        """All has been written."""
        self._begin()
        self.file.flush()
        return []

    def _begin(self) -> None:
        if not self.begun:
            npy_header(self.file, self.member, self.shape)
            self.begun = True


class Folder:
    """Files below a folder: written below a temporary one, moved when all is done.

    Args:
        temporary: a folder of our own on the same disk.
        folder: where the files are to be.
        header: the archive's.
        overwrite: whether files may be replaced.

    Raises:
        DataError: something is in the way of a file.
    """

    def __init__(self, temporary: Path, folder: Path, header: Header, overwrite: bool) -> None:
        self.temporary, self.folder, self.header = temporary, folder, header
        self.names = [name or "images.npy" for name in files_of(header.members)]
        for name in self.names:
            _check_free(folder, name, overwrite)
        (temporary / "files").mkdir(parents=True)
        self.place = self.done = 0  # the member at hand, and how many of its events are written
        self.file: BinaryIO | None = None

    def add(self, x: np.ndarray) -> None:
        """Write events, levels (n, *shape)."""
        while len(x):
            member: Member = self.header.members[self.place]
            part, x = x[: member.count - self.done], x[member.count - self.done :]
            if isinstance(member, Images):
                values = None if member.values == "scaled" else member.values
                for number, event in enumerate(part, self.done):
                    data.write_image(event, self.header.levels, self.temporary / "files" / member.names[number], values)
            elif isinstance(member, Array) and len(part):
                self._array(member).write(member.restored(part, self.header.levels).tobytes())
            self.done += len(part)
            if self.done == member.count:
                self._next()

    def _array(self, member: Array) -> BinaryIO:
        """The file of the array at hand."""
        if self.file is None:
            path = self._path(self.place)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("wb")
            npy_header(self.file, member, tuple(self.header.shape))
        return self.file

    def _path(self, place: int) -> Path:
        """The file that a member is written to; what goes into an .npz is put there at the end."""
        member = self.header.members[place]
        return self.temporary / (f"{place}.npy" if member.key else f"files/{member.name or 'images.npy'}")

    def _next(self) -> None:
        member = self.header.members[self.place]
        if isinstance(member, Array):
            self._array(member).close()  # also one without events
        elif isinstance(member, Kept):
            np.save(self._path(self.place), member.array())
        self.file = None
        self.place, self.done = self.place + 1, 0

    def finish(self) -> list[Path]:
        """Move everything to where it belongs, or nothing."""
        while self.place < len(self.header.members):  # members without events
            self._next()
        boxes = [(i, m) for i, m in enumerate(self.header.members) if not isinstance(m, Images) and m.key]
        for name in {member.name for _, member in boxes}:
            path = self.temporary / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(path, "w") as box:
                for place, member in boxes:
                    if member.name == name:
                        box.write(self._path(place), f"{member.key}.npy")
        moved: list[tuple[Path, Path | None]] = []
        made: list[Path] = []
        try:
            for number, name in enumerate(self.names):
                target, old = self.folder / name, self.temporary / f"old-{number}"
                made += _make_folder(target.parent)
                replaced = target if os.path.lexists(target) else None
                if replaced:
                    os.replace(target, old)
                moved.append((target, old if replaced else None))
                os.replace(self.temporary / "files" / name, target)
            made += _make_folder(self.folder)
        except BaseException:
            for target, before in reversed(moved):
                with contextlib.suppress(OSError):
                    target.unlink(missing_ok=True)
                    if before is not None:
                        os.replace(before, target)
            for folder in reversed(made):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
        return [self.folder / name for name in self.names]

    def close(self) -> None:
        """Let go of the file at hand."""
        if self.file is not None:
            self.file.close()


def _check_free(folder: Path, name: str, overwrite: bool) -> None:
    """Refuse a target that something else is in the way of, before anything is decoded."""
    target, path = folder / name, folder
    for part in Path(name).parts[:-1]:
        path = path / part
        if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
            raise DataError(f"{path} is there already, and is no folder: move it away")
    if target.is_dir() and not target.is_symlink():
        raise DataError(f"{target} is there already, and is a folder: move it away")
    if os.path.lexists(target) and not overwrite:
        raise DataError(f"{target} is there already: move it away, or pass --overwrite")


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it; which ones were made."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir()
    return missing[::-1]
