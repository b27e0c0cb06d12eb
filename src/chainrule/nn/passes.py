"""Faster passes of layers, registered from outside.

A layer of a known type may have its pass taken over, for instance by compiled code. The layer asks for the pass by its
own type, so that a subclass, which may do something else, is never affected, and computes on its own where the pass
returns None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Pass = Callable[..., Tensor | None]

_PASSES: dict[tuple[type, str], Pass] = {}


def register(layer: type, method: str, run: Pass) -> None:
    """Let `run(layer, *inputs)` answer for `layer.method(*inputs)`; it returns None for what it does not compute."""
    _PASSES[layer, method] = run


def taken(layer: Any, method: str, *inputs: Any) -> Tensor | None:
    """What a registered pass makes of the inputs; None if there is none, or if it leaves these to the layer."""
    run = _PASSES.get((type(layer), method))
    return None if run is None else run(layer, *inputs)
