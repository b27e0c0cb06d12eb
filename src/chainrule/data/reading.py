"""Reading whole files: clear sentences for what fails."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import platformdirs

from chainrule.atomic import as_path
from chainrule.errors import DataError, escaped


def cache_folder(folder: str | os.PathLike | None = None) -> Path:
    """Where fetched data is kept: `folder`, else `$CHAINRULE_CACHE`, else the user's cache folder. Not created here.

    >>> cache_folder("somewhere").name
    'somewhere'
    """
    chosen = folder or os.environ.get("CHAINRULE_CACHE") or platformdirs.user_cache_dir("chainrule", appauthor=False)
    return as_path(chosen)


def say(sentence: str, *, quiet: bool = False) -> None:
    """Print one plain sentence on standard error."""
    if not quiet:
        print(escaped(sentence), file=sys.stderr, flush=True)


def sha256(data: bytes | memoryview | np.ndarray) -> str:
    """SHA-256 of bytes, or of an array's bytes in C order, in hexadecimal.

    >>> sha256(b"")[:8]
    'e3b0c442'
    """
    if isinstance(data, np.ndarray):
        data = np.ascontiguousarray(data).reshape(-1).view(np.uint8).data
    return hashlib.sha256(data).hexdigest()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to read `path` into a `DataError` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"there is no {path}: check the path") from None
    except PermissionError:
        raise DataError(f"{path} may not be read: check its permissions") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder where a file was expected: name the file itself") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): check the file") from None
    except ValueError as error:
        if "null byte" not in str(error):
            raise
        raise DataError(f"{str(path)!r} cannot be a path: check it") from None


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file, open for reading; a pipe or a device is refused, since reading it might never end.

    Raises:
        DataError: it cannot be opened.
    """
    with reading(path):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise DataError(f"{path} is a pipe or a device: name a regular file")
        with path.open("rb") as file:
            yield file


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, unpacked if they are gzip's.

    Raises:
        DataError: it cannot be read, or unpacked.
    """
    with opened(path) as file:
        data = file.read()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        raise DataError(f"{path} is a damaged or truncated gzip file: fetch or copy it again") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    with opened(path) as file:
        data = file.read()
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DataError(f"{path} does not hold a JSON object: it is damaged, or of another kind")
    return value


def read_npy(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped rather than read, and never unpickled.

    Raises:
        DataError: it is missing, damaged, or of another kind.
    """
    with opened(path) as file:
        return mapped(file, str(path))


def mapped(file: BinaryIO, what: str) -> np.ndarray:
    """The array of an open .npy file, mapped into memory; `what` it is, as the subject of an error's sentence.

    Raises:
        DataError: it is damaged, or of another kind.
    """
    if file.read(6) != b"\x93NUMPY":
        raise DataError(f"{what} is not a .npy file: write it with numpy.save")
    file.seek(0)
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file)
        if dtype.hasobject:
            raise DataError(f"{what} holds an array of Python objects: save one array of numbers instead")
        if 0 in shape:
            return np.empty(shape, dtype)
        order = "F" if fortran else "C"
        return np.memmap(file, dtype, "r", file.tell(), shape, order)  # type: ignore[call-overload]
    except DataError:
        raise
    # a damaged header can fail in any way that a literal of Python can
    except Exception:
        raise DataError(f"{what} is a damaged or truncated .npy file: write it again with numpy.save") from None
