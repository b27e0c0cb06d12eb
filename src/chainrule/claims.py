"""What a model's configuration claims, held against the weights that there are: the file may be a stranger's."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

MOST_SECONDS, SECONDS_A_WEIGHT = 8, 1e-6
"""Time of the processor that making a model may take, and for each number of its weights on top."""
SPARE_CALLS, SPARE_NUMBERS = 5_000, 2**24
"""Calls of PyTorch, and numbers that they give, for any model; what its weights allow comes on top."""
CALLS_A_WEIGHT, NUMBERS_A_WEIGHT = 50, 100
"""Calls for each tensor of weights, numbers for each of its own: masks, and what weights are drawn from."""

MOST_SIDES = 8
"""No tensor that a constructor asks for has more."""

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
"""Functions that give more than their operands side by side."""


class Bounded(TorchFunctionMode):
    """Within the block a model is made with little more time and memory than its weights suggest.

    Args:
        weights: those that it shall have.

    Raises:
        ValueError: it asks for more; before the memory is taken.
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
    """Numbers of the largest tensor that a function may give: of its operands side by side, or as numbers say."""
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
