"""Memory that is freed is kept for the next step, and lies in huge pages.

Every training step asks for the same large blocks again. The C library gives such blocks back to the system when they
are freed, and the system hands out zeroed pages each time, at the cost of every step on a CPU. Kept blocks of small
pages still cost a tenth of a step in address translation, since a step touches hundreds of megabytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
MADV_HUGEPAGE = 14
PAGE = 4096
HEAP = 2**30
"""Bytes of address space, not of memory, that are set aside for huge pages."""


@functools.cache
def keep_freed_memory() -> None:
    """Tell the C library to keep what is freed until the process ends. Does nothing where it is not glibc."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  raises AttributeError elsewhere
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_TOP_PAD, 2**26)
        use_huge_pages(libc)


def use_huge_pages(libc: ctypes.CDLL) -> None:
    """Let the heap grow once and ask for huge pages there, as far as the kernel gives them; nothing is touched yet."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if start := libc.malloc(HEAP):
        aligned = -(-start // PAGE) * PAGE
        libc.madvise(aligned, HEAP - PAGE, MADV_HUGEPAGE)
        libc.free(start)
