"""Clocks and scales."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def clocked(action: Callable[[], T], device: torch.device | None = None) -> tuple[float, T]:
    """(seconds, result) of an action, its work on a GPU included."""
    cuda = device is not None and device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    result = action()
    if cuda:
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, result


def timed(action: Callable[[], Any], device: torch.device | None = None) -> float:
    """Seconds that `action` takes."""
    return clocked(action, device)[0]


def peak_megabytes(device: torch.device | None = None) -> float:
    """The most memory that this process has held so far, in 10⁶ bytes; if it computes on a GPU, of the GPU's."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def memory_of(action: Callable[[], T]) -> tuple[float | None, T]:
    """(memory, result) of an action: the most by which the process grew, in 10⁶ bytes; None outside Linux.

    What the process had freed before, and kept for itself, is not counted.
    """
    before = _resident(reset=True)
    result = action()
    after = _resident()
    return None if before is None or after is None else max(0.0, after["VmHWM"] - before["VmRSS"]), result


def _resident(*, reset: bool = False) -> dict[str, float] | None:
    """Memory now (VmRSS) and at most (VmHWM), in 10⁶ bytes; `reset` makes the most what there is now."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
        return {words[0][:-1]: int(words[1]) * 1024 / 1e6 for words in lines if words[0] in ("VmHWM:", "VmRSS:")}
    except OSError:
        return None
