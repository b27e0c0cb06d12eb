"""Checking what a model's configuration claims against its actual weights: the file may be a stranger's."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

MOST_SECONDS, SECONDS_A_WEIGHT = 8, 1e-6
"""Processor seconds that making a model may take, and how many more for each number of its weights."""
SPARE_CALLS, SPARE_NUMBERS = 5_000, 2**24
"""PyTorch calls, and numbers that they may return, for any model; its weights allow more."""
CALLS_A_WEIGHT, NUMBERS_A_WEIGHT = 50, 100
"""Further calls for each tensor of weights, and numbers for each of its own: for masks and initialisation."""

MOST_SIDES = 8
"""No tensor that a constructor asks for has more axes."""

GROWING = (
    "repeat",
    "repeat_interleave",
    "tile",
    "one_hot",
    "pad",
    "outer",
    "matmul",
    "__matmul__",
    "mm",
    "kron",
    "einsum",
)
"""Functions whose result can be larger than their broadcast operands."""


class Bounded(TorchFunctionMode):
    """Keep the time and memory of making a model in the block close to what its weights suggest.

    Args:
        weights: those that the model will have.

    Raises:
        ValueError: it asks for more; raised before the memory is taken.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        held = sum(tensor.numel() for tensor in weights.values())
        self.calls = SPARE_CALLS + CALLS_A_WEIGHT * len(weights) + held // 100
        self.numbers = SPARE_NUMBERS + NUMBERS_A_WEIGHT * held
        self.end = time.thread_time() + MOST_SECONDS + SECONDS_A_WEIGHT * held
        self.grad = torch.is_grad_enabled()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.set_grad_enabled(self.grad)  # the call that would have switched them on again may have been refused

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = list(_flat([*args, *(kwargs or {}).values()]))
        shapes = [value.shape for value in given if isinstance(value, Tensor)]
        self.calls -= 1
        largest = len(given) if func in (torch.tensor, torch.as_tensor) else _largest(shapes, given)
        if shapes and getattr(func, "__name__", "") in GROWING:
            largest = math.prod([*map(math.prod, shapes), *_sides(given)])
        if self.calls < 0 or largest > self.numbers or time.thread_time() > self.end:
            raise ValueError("a model of this size is not the one whose weights are given")
        found = func(*args, **(kwargs or {}))
        self.numbers -= found.numel() if isinstance(found, Tensor) else 0
        return found


def _largest(shapes: list[torch.Size], given: list[Any]) -> int:
    """Size of the largest tensor that a function may return, from its broadcast operands or the sizes asked for."""
    if not shapes:
        return math.prod(_sides(given))
    try:
        return math.prod(torch.broadcast_shapes(*shapes))
    except RuntimeError:
        return max(map(math.prod, shapes))


def _sides(given: list[Any]) -> list[int]:
    """The whole numbers among arguments, which may be sides of a tensor."""
    return [abs(value) for value in given[:MOST_SIDES] if type(value) is int and value]


def _flat(values: Any) -> Iterator[Any]:
    """What lists and tuples hold."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value
