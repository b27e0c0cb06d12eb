"""How a program is stopped: Ctrl-C, a scheduler's SIGTERM, the end of a terminal.

It exits at once or, where there is something to finish, treats the signal as a request.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from chainrule import atomic

INTERRUPTED = "chainrule: interrupted"


def stop_signals() -> list[signal.Signals]:
    """The signals that ask a program to stop; none outside the main thread, which alone can hear them.

    A program that was told to outlive its terminal, as nohup does, is not stopped by that.
    """
    if threading.current_thread() is not threading.main_thread():
        return []
    found = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


@contextlib.contextmanager
def at_once(farewell: Callable[[], str] = lambda: INTERRUPTED) -> Iterator[None]:
    """Exit at once when asked to, wherever the program is, with a last sentence and nothing left half-written.

    An exception may be swallowed by whatever runs, and waits for compiled code to return; a second thread avoids both.
    """
    signals = stop_signals()
    if not signals:
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    leaving = threading.Lock()

    def leave(number: int) -> None:
        try:
            if not leaving.acquire(blocking=False):  # the other thread is at it, or another signal came meanwhile
                time.sleep(1)
                return
            atomic.remove_all()
            shown = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # the cursor, which a progress bar hides
            os.write(2, f"{shown}{farewell()}\n".encode(errors="replace"))
            atomic.remove_all()  # also what another thread has made meanwhile
        finally:  # even where the terminal is gone and nothing can be written to it
            os._exit(128 + number)

    def watch() -> None:
        if number := os.read(reader, 1)[0]:
            leave(number)

    before = {number: signal.signal(number, lambda number, _: leave(number)) for number in signals}
    old = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writer, b"\0")
        watcher.join()
        os.close(reader)
        os.close(writer)


class Interrupt:
    """A signal to stop as a request: within the block the first sets `requested`, a second interrupts.

    Args:
        told: called with the signal of each.
    """

    def __init__(self, told: Callable[[int], object] = lambda number: None) -> None:
        self.requested, self.told, self.impatient = False, told, False

    def __enter__(self) -> Interrupt:
        signals = stop_signals()
        self.previous = {number: signal.signal(number, self._on_signal) for number in signals}
        self.woken = signal.set_wakeup_fd(-1) if signals else -1  # `at_once` hears nothing meanwhile
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        if self.woken >= 0:
            signal.set_wakeup_fd(self.woken, warn_on_full_buffer=False)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block even the first signal interrupts, including one that came before it."""
        self.impatient = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self.impatient = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.told(number)
        again, self.requested = self.requested, True
        if again or self.impatient:
            raise KeyboardInterrupt
