"""The ground rules of exact mode, and the switch that keeps them.

A sum of floating-point numbers depends on the order of its terms only through rounding. When every term and every
partial sum is an integer multiple of one power of two, and no partial sum needs more bits than the mantissa has,
nothing is ever rounded, and every order gives the same bits: any BLAS, batch, thread count or processor. A matrix
product of such numbers is exact as long as the hardware really multiplies in full precision, hence the switch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

ARITHMETIC_VERSION = 1
"""Changes whenever the same weights and scales would give other bits; part of every fingerprint."""

LIMITS = {"float32": 2**24, "float64": 2**53}
"""Integers up to here, and no further, are all represented."""

CARRIERS = {"float32": torch.float32, "float64": torch.float64}


def _full_precision() -> bool:
    """Whether matrix products are computed as written: no autocast, no TF32 or bfloat16 inside of float32."""
    backends: Any = torch.backends
    return not (
        torch.is_autocast_enabled("cpu")
        or (torch.cuda.is_available() and torch.is_autocast_enabled("cuda"))
        or backends.fp32_precision not in ("none", "ieee")
        or backends.mkldnn.matmul.fp32_precision not in ("none", "ieee")
        or backends.cuda.matmul.fp32_precision not in ("none", "ieee")
    )


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Within the block, products are in full precision, whatever the caller's settings; they are restored after it.

    >>> torch.set_float32_matmul_precision("medium")
    >>> with exact_arithmetic():
    ...     print(torch.get_float32_matmul_precision())
    highest
    >>> torch.get_float32_matmul_precision()
    'medium'
    >>> torch.set_float32_matmul_precision("highest")
    """
    if _full_precision():
        yield
        return
    backends: Any = torch.backends
    switches = [backends, backends.mkldnn.matmul, backends.cuda.matmul]
    before = [switch.fp32_precision for switch in switches]
    precision = _legacy_precision()
    try:
        with contextlib.ExitStack() as stack:
            for device in ("cpu", "cuda"):
                if device == "cpu" or torch.cuda.is_available():
                    stack.enter_context(torch.autocast(device, enabled=False))
            if precision is not None:  # moves the older and the newer switches together
                torch.set_float32_matmul_precision("highest")
            for switch in switches:
                switch.fp32_precision = "ieee"
            yield
    finally:
        if precision is not None:
            torch.set_float32_matmul_precision(precision)
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value


def _legacy_precision() -> str | None:
    """`torch.get_float32_matmul_precision()`; None where the newer switches alone were set, which it does not know."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
