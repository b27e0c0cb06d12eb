"""Threads that look ahead: Pillow, zlib and xz leave Python's lock while they work."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")

MOST_THREADS = 8
"""More would hold too many large pictures at once."""


class Pool:
    """Threads, one a processor; what they are given is done in order, and only a little ahead of who takes it."""

    def __init__(self) -> None:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.threads = min(processors, MOST_THREADS)
        self._executor = ThreadPoolExecutor(self.threads)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=error is None, cancel_futures=True)

    def ahead(self, function: Callable[[A], B], things: Iterable[A]) -> Iterator[B]:
        """Like `map`, with a few calls in progress."""
        waiting: deque[Future[B]] = deque()
        for thing in things:
            waiting.append(self._executor.submit(function, thing))
            if len(waiting) > self.threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def map(self, function: Callable[..., Any], things: Iterable[Any]) -> Iterator[Any]:
        """Like `map`."""
        return self.ahead(function, things)
