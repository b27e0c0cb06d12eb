"""Telling a person how a long run is doing."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Silent:
    """Reports nothing."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def step(self, step: int, train: float) -> None:
        """Step `step` is done; the last minibatch's loss was `train`, in the reporter's unit."""

    def validation(self, step: int, loss: float) -> None:
        """The validation set was evaluated after `step`."""


class Lines(Silent):
    """Plain lines on standard error, one per evaluation but at most one in five seconds: for logs and pipes."""

    def __init__(self, total: int, first: int, unit: str = "bits/dim") -> None:
        self.unit = unit
        self.total, self.first, self.train = total, first, float("nan")
        self.began = self.said = time.monotonic()

    def step(self, step: int, train: float) -> None:
        self.train = train

    def validation(self, step: int, loss: float) -> None:
        if time.monotonic() - self.said < 5 and step < self.total:
            return
        self.said = time.monotonic()
        elapsed = self.said - self.began
        taken = step - self.first  # none, where a resumed run begins with the evaluation in front of which it stopped
        train = f"train {self.train:.4f}  " if taken else ""
        left = f", {elapsed / taken * (self.total - step):.0f} s to go" if taken else ""
        print(
            f"step {step}/{self.total}  {train}validation {loss:.4f} {self.unit}  {elapsed:.0f} s{left}",
            file=sys.stderr,
            flush=True,
        )


class Bar(Silent):
    """A progress bar with the losses and the time that is left."""

    def __init__(self, total: int, first: int, console: Console, unit: str = "bits/dim") -> None:
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"train {{task.fields[train]}} · validation {{task.fields[validation]}} {unit}"),
            TimeElapsedColumn(),
            TextColumn("· left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.progress.add_task("training", total=total, completed=first, train="…", validation="…")

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def step(self, step: int, train: float) -> None:
        self.progress.update(self.task, completed=step, train=f"{train:.4f}")

    def validation(self, step: int, loss: float) -> None:
        self.progress.update(self.task, completed=step, validation=f"{loss:.4f}")


def progress_reporter(total: int, first: int = 0, *, unit: str = "bits/dim", quiet: bool = False) -> Silent:
    """The reporter that fits: none, plain lines, or a bar on a terminal. Losses are in `unit`."""
    if quiet:
        return Silent()
    console = Console(stderr=True)
    return Bar(total, first, console, unit) if console.is_terminal else Lines(total, first, unit)
