"""One run at a time holds a folder."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from chainrule.errors import ChainruleError

_HELD: set[tuple[Path, int]] = set()
"""Folders and the threads of this process that hold them."""


@contextlib.contextmanager
def holding(folder: str | Path | None) -> Iterator[None]:
    """Keep other processes and threads out of a run's folder; whoever holds it already may hold it again.

    The system frees the folder when the process ends, however it ends. Nothing happens without a folder, and where the
    file system knows no locks.

    Raises:
        ChainruleError: another run holds the folder, or it cannot be written.
    """
    path = Path(folder).resolve() if folder else None
    key = (path or Path(), threading.get_ident())
    if path is None or key in _HELD:
        yield
        return
    descriptor = locked(path / ".lock")
    _HELD.add(key)
    try:
        yield
    finally:
        _HELD.discard(key)
        with contextlib.suppress(OSError):
            (path / ".lock").unlink()
        os.close(descriptor)


def locked(path: Path) -> int:
    """A lock file's descriptor, once it is ours."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise ChainruleError(f"cannot write into {path.parent}: {error.strerror}; choose another --out") from None
        try:
            lock(descriptor)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            raise ChainruleError(
                f"another run is writing into {path.parent}: wait until it has ended, or choose another --out"
            ) from None
        except OSError:  # there are no locks on this file system
            return descriptor
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)  # the run that held it has just ended and has taken the file away


def lock(descriptor: int) -> None:
    """Lock an open file for this process, or raise an OSError at once."""
    try:
        import fcntl
    except ImportError:  # on Windows
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
