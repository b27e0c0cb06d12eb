"""Where decoded events go: files that appear all at once at the end, or one array on standard output."""

from __future__ import annotations

import contextlib
import os
import sys
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from chainrule.codec.container import Chunk
from chainrule.codec.members import Array, Kept, Loose, Member, Pictures, files_of
from chainrule.codec.picture_chunks import Mapper, Unpacked
from chainrule.codec.picture_coding import DAMAGED
from chainrule.errors import CodecError, DataError


def npy_header(file: BinaryIO, member: Array | Kept) -> None:
    """Write the head of an .npy file; its numbers follow as they come."""
    fields = {"descr": member.dtype, "fortran_order": False, "shape": member.whole_shape}
    np.lib.format.write_array_header_1_0(file, fields)


class Standard:
    """One array to standard output."""

    def __init__(self, members: list[Member]) -> None:
        if len(members) != 1 or not isinstance(members[0], Array | Kept):
            raise CodecError("the archive holds several files: only one array can go to standard output, give a folder")
        self.member = members[0]
        self.begun = False
        self.file: BinaryIO = sys.stdout.buffer

    def add(self, chunk: Chunk, found: bytes | list[Unpacked]) -> None:
        """Write what a chunk holds."""
        assert isinstance(found, bytes)
        self._begin()
        self.file.write(found)

    def finish(self) -> list[Path]:
        """All has been written."""
        self._begin()
        self.file.flush()
        return []

    def _begin(self) -> None:
        if not self.begun:
            npy_header(self.file, self.member)
            self.begun = True


class Folder:
    """Files below a folder: written below a temporary one, moved when all is done.

    Args:
        temporary: a folder of our own on the same disk.
        folder: where the files are to be.
        members: of the archive.
        overwrite: whether files may be replaced.
        mapper: writes pictures.

    Raises:
        DataError: something is in the way of a file.
    """

    def __init__(
        self, temporary: Path, folder: Path, members: list[Member], overwrite: bool, mapper: Mapper = map
    ) -> None:
        self.temporary, self.folder, self.members, self.mapper = temporary, folder, members, mapper
        self.names = [name or "images.npy" for name in files_of(members)]
        for name in self.names:
            _check_free(folder, name, overwrite)
        (temporary / "files").mkdir(parents=True)
        self.paths: dict[int, Path] = {}  # of arrays, by their member's place
        for place, member in enumerate(members):
            if isinstance(member, Array | Kept):
                path = temporary / (f"{place}.npy" if member.key else f"files/{member.name or 'images.npy'}")
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    npy_header(file, member)
                self.paths[place] = path

    def add(self, chunk: Chunk, found: bytes | list[Unpacked]) -> None:
        """Write what a chunk holds."""
        if isinstance(found, bytes):
            place = next(place for place, member in enumerate(self.members) if member is chunk.member)
            with self.paths[place].open("ab") as file:
                file.write(found)
            return
        assert isinstance(chunk.member, Pictures | Loose)
        names = chunk.member.names[chunk.start : chunk.start + chunk.count]
        for _ in self.mapper(self._write, zip(names, found, strict=True)):
            pass

    def _write(self, pair: tuple[str, Unpacked]) -> None:
        name, picture = pair
        path = self.temporary / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            content = picture.file()
        # a crafted picture can fail in any way that Pillow's encoders can
        except (ValueError, TypeError, SystemError, KeyError):
            raise CodecError(DAMAGED) from None
        path.write_bytes(content)

    def finish(self) -> list[Path]:
        """Move everything to where it belongs, or nothing."""
        boxes = [(i, m) for i, m in enumerate(self.members) if isinstance(m, Array | Kept) and m.key]
        for name in {member.name for _, member in boxes}:
            path = self.temporary / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(path, "w") as box:
                for place, member in boxes:
                    if member.name == name:
                        box.write(self.paths[place], f"{member.key}.npy")
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
