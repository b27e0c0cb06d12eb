"""Where decoded events go: files that appear all at once at the end, or one array on standard output."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from chainrule import data
from chainrule.codec import pixels
from chainrule.codec.container import Header
from chainrule.errors import CodecError, DataError


def npy_header(file: BinaryIO, member: dict[str, Any], shape: tuple[int, ...]) -> None:
    """Write the head of an .npy file for an array of so many events; its numbers follow as they come."""
    if len(shape) == 3:
        shape = (*shape[1:], *([] if member["squeezed"] else [shape[0]]))
    fields = {"descr": member["dtype"], "fortran_order": False, "shape": (member["count"], *shape)}
    np.lib.format.write_array_header_1_0(file, fields)


class Standard:
    """One array to standard output."""

    def __init__(self, members: list[dict[str, Any]], levels: int) -> None:
        if len(members) != 1 or members[0]["kind"] != "array":
            raise CodecError("the archive holds several files: only one array can go to standard output, give a folder")
        self.member, self.levels, self.begun = members[0], levels, False
        self.file: BinaryIO = sys.stdout.buffer

    def add(self, x: np.ndarray) -> None:
        """Write events, levels (n, *shape)."""
        if not self.begun:
            npy_header(self.file, self.member, x.shape[1:])
            self.begun = True
        self.file.write(pixels.restored(x, self.member, self.levels).tobytes())

    def finish(self) -> list[Path]:
        """All has been written."""
        if not self.begun:
            raise CodecError("the archive holds no images: there is nothing to write to standard output")
        self.file.flush()
        return []

    def close(self) -> None:
        """Nothing to tidy up."""


class Folder:
    """Files below a folder: written below a temporary one, moved when all is done.

    Args:
        temporary: an empty folder on the same disk.
        folder: where the files are to be.
        members: what the archive holds, checked.
        header: the archive's.
        overwrite: whether files may be replaced.
    """

    def __init__(
        self, temporary: Path, folder: Path, members: list[dict[str, Any]], header: Header, overwrite: bool
    ) -> None:
        self.temporary, self.folder, self.header = temporary, folder, header
        self.members = members
        self.place = self.done = 0  # the member at hand, and how many of its events are written
        self.file: BinaryIO | None = None
        names = [n for m in members for n in (m["names"] if m["kind"] == "images" else [m["name"] or "images.npy"])]
        there = [name for name in names if (folder / name).exists()]
        if there and not overwrite:
            self.close()
            raise DataError(f"{folder / there[0]} is there already: move it away, or ask to overwrite")
        self.names = list(dict.fromkeys(names))

    def add(self, x: np.ndarray) -> None:
        """Write events, levels (n, *shape)."""
        while len(x):
            member = self.members[self.place]
            count = len(member["names"]) if member["kind"] == "images" else member["count"]
            part, x = x[: count - self.done], x[count - self.done :]
            if member["kind"] == "images":
                for number, event in enumerate(part, self.done):
                    self._picture(event, member, number)
            else:
                self._array(member).write(pixels.restored(part, member, self.header.levels).tobytes())
            self.done += len(part)
            if self.done == count:
                self._next()

    def _picture(self, event: np.ndarray, member: dict[str, Any], number: int) -> None:
        values = None if member["values"] == "scaled" else member["values"]
        path = self.temporary / "files" / member["names"][number]
        data.write_image(event, self.header.levels, path, values)

    def _array(self, member: dict[str, Any]) -> BinaryIO:
        """The file of the array at hand."""
        if self.file is None:
            path = self.temporary / self._file(member)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("wb")
            npy_header(self.file, member, self.header.shape)
        return self.file

    @staticmethod
    def _file(member: dict[str, Any]) -> str:
        name = member["name"] or "images.npy"
        return f"parts/{name}/{member['key']}.npy" if "key" in member else f"files/{name}"

    def _next(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None
        self.place, self.done = self.place + 1, 0

    def finish(self) -> list[Path]:
        """Move everything to where it belongs."""
        while self.place < len(self.members):  # arrays without events
            if self.members[self.place]["kind"] == "array":
                self._array(self.members[self.place])
            self._next()
        (self.temporary / "files").mkdir(exist_ok=True)
        for name in {member["name"] for member in self.members if "key" in member}:
            path = self.temporary / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(path, "w") as packed:
                for member in self.members:
                    if member.get("name") == name:
                        packed.write(self.temporary / self._file(member), f"{member['key']}.npy")
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in self.names:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.temporary / "files" / name, target)
        return [self.folder / name for name in self.names]

    def close(self) -> None:
        """Remove what is left of the temporary folder."""
        if self.file is not None:
            self.file.close()
        with contextlib.suppress(OSError):
            shutil.rmtree(self.temporary)
