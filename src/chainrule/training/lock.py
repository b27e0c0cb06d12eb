"""One run at a time holds a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from chainrule.errors import ChainruleError


@contextlib.contextmanager
def holding(folder: str | Path | None) -> Iterator[None]:
    """Keep other processes and threads out of a run's folder; whoever holds it already may hold it again.

    The system frees the folder when the process ends, however it ends; the lock's empty file stays. Without a folder
    nothing happens.

    Raises:
        ChainruleError: another run holds the folder, or it cannot be written.
    """
    if folder is None:
        yield
        return
    path = Path(folder).resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock", timeout=0, is_singleton=True).acquire()
    except Timeout:
        raise ChainruleError(
            f"another run is writing into {path}: wait until it has ended, or choose another --out"
        ) from None
    except OSError as error:
        raise ChainruleError(f"cannot write into {path}: {error.strerror or error}; choose another --out") from None
    with lock:
        yield
