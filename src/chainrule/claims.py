"""What a model's configuration claims, found before memory is taken for it: the file may be a stranger's."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from chainrule.models import REGISTRY

MOST_SECONDS = 8
"""Time of the processor that finding a model's shapes may take."""
NUMBERS = (Tensor.__int__, Tensor.__float__, Tensor.__bool__, Tensor.__index__, Tensor.item)


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
