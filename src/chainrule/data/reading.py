"""Reading whole files: clear sentences for what fails."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import platformdirs
from rich.console import Console

from chainrule.atomic import as_path
from chainrule.errors import DataError


def cache_folder(folder: str | os.PathLike | None = None) -> Path:
    """Where fetched data is kept: `folder`, else `$CHAINRULE_CACHE`, else the user's cache folder. Not created here.

    >>> cache_folder("somewhere").name
    'somewhere'
    """
    chosen = folder or os.environ.get("CHAINRULE_CACHE") or platformdirs.user_cache_dir("chainrule", appauthor=False)
    return as_path(chosen)


def say(sentence: str) -> None:
    """Print one plain sentence on standard error."""
    Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True).print(sentence)


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
        raise DataError(f"There is no {path}; check the path.") from None
    except PermissionError:
        raise DataError(f"{path} may not be read; check its permissions.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder where a file was expected; name the file itself.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check the file.") from None


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, unpacked if they are gzip's. Raises `DataError`."""
    with reading(path):
        data = path.read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        raise DataError(f"{path} is a damaged or truncated gzip file; fetch or copy it again.") from None


def read_npy(path: Path, mmap: bool = False) -> np.ndarray:
    """The array of a .npy file, never unpickling; `mmap=True` looks at it without reading it. Raises `DataError`."""
    with reading(path), path.open("rb") as file:
        magic = file.read(6)
    if magic != b"\x93NUMPY":
        raise DataError(f"{path} is not a .npy file; write it with numpy.save.")
    try:
        with reading(path):
            return np.load(path, allow_pickle=False, mmap_mode="r" if mmap else None)
    except (ValueError, EOFError, SyntaxError, TypeError, MemoryError, OverflowError) as error:
        if "Object arrays" in str(error) or "Python objects" in str(error):
            raise DataError(f"{path} holds an array of Python objects; save one array of numbers instead.") from None
        raise DataError(f"{path} is a damaged or truncated .npy file; write it again with numpy.save.") from None
