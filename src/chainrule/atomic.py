"""Writing files whole or not at all: under a temporary name beside the old one, on disk, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chainrule.errors import DataError


def as_path(path: str | os.PathLike) -> Path:
    """The path with a leading ~ spelled out, where there is such a home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


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
        ...     with replacing(Path(folder) / "new" / "a.txt") as temporary:
        ...         _ = temporary.write_text("whole")
        ...     (Path(folder) / "new" / "a.txt").read_text()
        'whole'
    """
    path = as_path(path)
    # the suffix stays, because Pillow chooses the format by it
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:  # otherwise the new name may reach the disk before the content does
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        kept = " The one written before it is kept." if path.is_file() else ""
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; make room or choose another place.{kept}"
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write a whole file or none of it, as `replacing` does. Raises `DataError`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
