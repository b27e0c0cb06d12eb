"""Clocks and scales."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch


def timed(action: Callable[[], Any], device: torch.device | None = None) -> float:
    """Seconds that `action` takes, its work on a GPU included."""
    cuda = device is not None and device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    action()
    if cuda:
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def peak_megabytes() -> float:
    """The most memory that this process has held so far, in 10⁶ bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6
