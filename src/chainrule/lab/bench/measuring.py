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


def peak_megabytes(device: torch.device | None = None) -> float:
    """The most memory that this process has held so far, in 10⁶ bytes; if it computes on a GPU, of the GPU's."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6
