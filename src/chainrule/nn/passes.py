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


def of(layer: Any, method: str) -> Pass:
    """The pass that is registered for a layer of this very type; one that gives None if there is none."""
    return _PASSES.get((type(layer), method), _none)


def _none(layer: Any, *inputs: Any) -> None:
    """No pass: the layer computes on its own."""
