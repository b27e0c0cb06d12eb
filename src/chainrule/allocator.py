"""Memory that is freed is kept for the next step.

Every training step asks for the same large blocks again. The C library gives such blocks back to the system when they
are freed, and the system hands out zeroed pages each time, at the cost of every step on a CPU.
"""

from __future__ import annotations

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Tell the C library to keep what is freed until the process ends. Does nothing where it is not glibc."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  raises AttributeError elsewhere
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_TOP_PAD, 2**26)
