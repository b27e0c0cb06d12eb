"""What a model's configuration claims, found before memory is taken for it: the file may be a stranger's."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from chainrule.models import REGISTRY

MOST_SECONDS = 8
"""Time of the processor that finding a model's shapes may take."""
MOST_PLAUSIBLE, PER_WEIGHT = 2**28, 2_000
NUMBERS = (Tensor.__int__, Tensor.__float__, Tensor.__bool__, Tensor.__index__, Tensor.item)


def plausible(config: dict[str, Any], held: dict[str, tuple[int, ...]]) -> bool:
    """Whether a configuration claims so little, beside the weights held, that its model may be made at once.

    Of the arguments, the largest may count twice in the size of a layer, as `filters` does, but never the levels or the
    shape; each number of a list is a layer. PyTorch needs a second or two before it finds shapes without memory.

    Example:
        >>> small = {"class": "PixelCNN", "shape": [3, 28, 28], "levels": 4, "filters": 64, "blocks": 6}
        >>> plausible(small, {"weight": (100_000,)}), plausible(small | {"filters": 10**6}, {"weight": (100_000,)})
        (True, False)
    """
    shape = math.prod(_numbers(config.get("shape", ())))
    levels = math.prod(_numbers(config.get("levels", ())))
    usual = ("shape", "levels", *NO_ARGUMENTS)
    others = list(_numbers([value for name, value in config.items() if name not in usual]))
    largest = max(others, default=1)
    claimed = max(math.prod(others) * levels * largest, shape * max(largest, levels) * largest)
    few = len(others) <= 64 + 4 * len(held)
    return few and claimed <= min(MOST_PLAUSIBLE, PER_WEIGHT * sum(map(math.prod, held.values())))


def _numbers(value: Any) -> Iterator[int]:
    """The whole numbers in a configuration's value, those that claim something."""
    if isinstance(value, int):
        yield max(int(value), 1)
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)


def shapes_of(config: dict[str, Any], held: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights that a model of this configuration has, found without taking memory for them.

    Args:
        config: as `zoo.assemble` takes it.
        held: the shapes that there are; a model that takes many more calls to make than they do has others.
    """
    calls = 5_000 + 50 * len(held) + sum(map(math.prod, held.values())) // 100
    arguments = {name: value for name, value in config.items() if name not in NO_ARGUMENTS}
    # the outermost gives back the mode of gradients where _Unmade refuses the call that would
    with torch.enable_grad(), torch.device("meta"), _Unmade(calls):
        model = REGISTRY[config["class"]](**arguments)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


NO_ARGUMENTS = ("class", "scales", "exact", "pixel_values")


class _Unmade(TorchFunctionMode):
    """Lets constructors run on tensors without numbers, and not for ever: where they ask for a number, it is 1."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls, self.end = calls, time.thread_time() + MOST_SECONDS

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls -= 1
        if self.calls < 0 or time.thread_time() > self.end:
            raise ValueError("a model of so many layers is not the one whose weights are given")
        if func in NUMBERS and args[0].is_meta:
            return func(torch.ones((), device="cpu"))
        return [] if func is Tensor.tolist and args[0].is_meta else func(*args, **(kwargs or {}))
