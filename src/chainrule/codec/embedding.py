"""A model inside an archive: its config.json and its safetensors, read with the suspicion that any file deserves."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from chainrule import zoo
from chainrule.codec.container import Known
from chainrule.errors import ChainruleError, CodecError
from chainrule.models import REGISTRY, AutoregressiveModel

MOST_ENTRIES, MOST_TABLE = 2**20, 2**26
"""Entries of an event, and frequencies of one, that an embedded model may have: it may be a stranger's."""
MOST_SECONDS = 8
"""Time of the processor that finding a model's shapes may take."""
NUMBERS = (Tensor.__int__, Tensor.__float__, Tensor.__bool__, Tensor.__index__, Tensor.item)


def model_bytes(model: AutoregressiveModel) -> tuple[bytes, bytes]:
    """An exact model as the two files of its folder."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return json.dumps(model.config, sort_keys=True).encode(), safetensors.torch.save(tensors)


def model_from(config_bytes: bytes, weights_bytes: bytes, known: Known) -> AutoregressiveModel:
    """The exact model inside an archive.

    Raises:
        CodecError: it is damaged, or claims sizes that its weights do not have.
    """
    what = "the archive's embedded model"
    try:
        config: dict[str, Any] = json.loads(config_bytes)
        weights = safetensors.torch.load(weights_bytes)
        dims = math.prod(side for side in known.shape if side is not None)
        sizes = dims <= MOST_ENTRIES and dims * known.levels <= MOST_TABLE
        if not sizes or not config.get("exact") or config.get("class") != known.model:
            raise CodecError(f"{what} is not one that the archive can be of: the file is damaged")
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        if shapes_of(config, shapes) != shapes:
            raise CodecError(f"{what} claims sizes that it does not have: the file is damaged")
        model = zoo.assemble(config, weights, what, what)
        if (model.shape, model.levels) != (tuple(known.shape), known.levels):
            raise CodecError(f"{what} is for other images than the archive's")
        return model
    except CodecError:
        raise
    except ChainruleError as error:
        raise CodecError(str(error)) from None
    # a stranger's configuration can fail in any way that the constructors of models can
    except Exception as error:
        raise CodecError(f"{what} cannot be read ({type(error).__name__}): the file is damaged") from None


def shapes_of(config: dict[str, Any], held: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights that a model of this configuration has, found without taking memory for them.

    Args:
        config: as `zoo.assemble` takes it.
        held: the shapes that there are; a model that takes many more calls to make than they do has others.
    """
    calls = 5_000 + 50 * len(held) + sum(map(math.prod, held.values())) // 100
    arguments = {name: value for name, value in config.items() if name not in NO_ARGUMENTS}
    with torch.device("meta"), _Unmade(calls):
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
