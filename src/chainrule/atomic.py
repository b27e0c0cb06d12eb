"""Writing files whole or not at all: under a temporary name beside the old one, on disk, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chainrule.errors import DataError

LONGEST_SUFFIX = 8
_waiting: set[Path] = set()
"""Temporary files and folders of this process."""


def as_path(path: str | os.PathLike) -> Path:
    """The path with a leading ~ spelled out, where there is such a home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@contextmanager
def temporary(folder: Path, suffix: str = "") -> Iterator[Path]:
    """A short new name in a folder, of the same length whatever it is for; what lies there at the end is removed."""
    path = folder / f".{secrets.token_hex(6)}.part{suffix if len(os.fsencode(suffix)) <= LONGEST_SUFFIX else ''}"
    _waiting.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _waiting.discard(path)


def remove_all() -> None:
    """Remove everything temporary, for a process that leaves without unwinding.

    Other threads still run, and may be about to make one of these files: what is removed is not forgotten, so that it
    can be removed once more at the last moment.
    """
    for path in list(_waiting):
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary name beside `path` to write a file to; renamed to `path` when all went well, deleted when not.

    Readers see the old file or the new one, whole, and so does whoever comes after a power cut. The folder is created
    if need be. Two processes that write the same path at once each leave a whole file.

    Raises:
        DataError: it cannot be written (a full disk, say); what was there before is kept.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "new" / "a.txt") as part:
        ...         _ = part.write_text("whole")
        ...     (Path(folder) / "new" / "a.txt").read_text()
        'whole'
    """
    path = as_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary(path.parent, path.suffix) as part:  # the suffix stays: Pillow chooses the format by it
            yield part
            with part.open("rb+") as file:  # otherwise the new name may reach the disk before the content does
                os.fsync(file.fileno())
            os.replace(part, path)
    except OSError as error:
        kept = " (the one written before it is kept)" if path.is_file() else ""
        raise DataError(
            f"cannot write {path}: {error.strerror or error}: make room or choose another place{kept}"
        ) from None


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write a whole file or none of it, as `replacing` does.

    Raises:
        DataError: it cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(content)
