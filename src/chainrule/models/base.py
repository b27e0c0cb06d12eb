"""What every model has, with a likelihood or without: events, the walk that draws them, and storage.

A model is walked over entry by entry: `start`, then `conditional` and `observe` at each of `sites`. What `conditional`
gives is a table of probabilities, or for a model of quantiles the inverse of the distribution function.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import math
import operator
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from chainrule import sampling
from chainrule.atomic import write_bytes
from chainrule.errors import DataError, ModelError


@dataclass(frozen=True)
class Site:
    """One entry of an event: where it is and how many levels it has."""

    index: tuple[int, ...]
    levels: int


class GenerativeModel(nn.Module, PyTorchModelHubMixin, library_name="chainrule"):
    """Base of all models; those with a likelihood are `AutoregressiveModel`s.

    Args:
        shape: of one event: `(1,)`, `(D,)`, or `(C, H, W)` for images.
        levels: entries take the values 0 … levels - 1.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let every model remember the arguments that made it, for `config`."""
        super().__init_subclass__(**kwargs)
        if (init := cls.__dict__.get("__init__")) is None:
            return

        @functools.wraps(init)
        def remembering(self: Any, *args: Any, **named: Any) -> None:
            if "_arguments" not in self.__dict__:
                bound = inspect.signature(init).bind(self, *args, **named)
                bound.apply_defaults()
                given = list(bound.arguments.items())[1:]
                self.__dict__["_arguments"] = {name: plain(value) for name, value in given}
            init(self, *args, **named)

        cls.__init__ = remembering  # type: ignore[method-assign]

    def __init__(self, shape: tuple[int, ...], levels: int) -> None:
        super().__init__()
        self.shape = tuple(int(side) for side in shape)
        self.levels = int(levels)
        self.pixel_values: tuple[int, ...] | None = None
        if not self.shape or min(self.shape) < 1:
            raise ModelError(f"the event shape {tuple(shape)} is empty: every side must be at least 1")
        if self.levels < 2:
            raise ModelError(f"{levels} levels leave nothing to model: use at least 2")

    # ------------------------------------------------------------------------------------------------ about the model

    needs_context = False
    """Whether every use of the model needs a `context`."""

    loss_unit: str
    """What a loss is reported in."""

    @property
    def dims(self) -> int:
        """Entries of one event: the dimensions in bits per dimension."""
        return math.prod(self.shape)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def config(self) -> dict[str, Any]:
        """The class's name and the arguments that made this model; with the weights, all there is to it.

        And `pixel_values`, the bytes that pictures show its levels as, where these are not v · 255 // (levels − 1).
        """
        arguments: dict[str, Any] = self.__dict__["_arguments"]
        shown = {} if self.pixel_values is None else {"pixel_values": self.pixel_values}
        return {"class": type(self).__name__, **arguments, **shown}

    def sites(self) -> list[Site]:
        """All entries in the order of the factorisation: raster order, and the channels of a pixel in turn."""
        if len(self.shape) == 3:
            channels, height, width = self.shape
            order = itertools.product(range(height), range(width), range(channels))
            return [Site((c, i, j), self.levels) for i, j, c in order]
        return [Site(index, self.levels) for index in itertools.product(*map(range, self.shape))]

    @property
    def period(self) -> int:
        """How many sites it takes until a walk does the same again with other numbers, on the same memory; 0 if never.

        A state must then write in place whatever it carries from one period to the next: see `sampling.graphs`.
        """
        return 0

    # Auxiliary variables are entries of a walk that are functions of the event. A model with them factorises over more
    # than the event, and its probabilities are still those of the event, since nothing else has any mass.

    @property
    def walk_shape(self) -> tuple[int, ...]:
        """What a walk fills, and what sites index: the event's shape, unless there are auxiliary variables."""
        return self.shape

    def with_auxiliaries(self, x: Tensor) -> Tensor:
        """Events (B, *shape) with their auxiliary variables: (B, *walk_shape)."""
        return x

    def without_auxiliaries(self, y: Tensor) -> Tensor:
        """The events of (B, *walk_shape): (B, *shape)."""
        return y

    def known_sites(self, known: Tensor) -> Tensor:
        """Which entries of a walk are known, given which entries of the events are: (B, *shape) → (B, *walk_shape)."""
        return known

    # ----------------------------------------------------------------------------------------------------------- events

    @abstractmethod
    def loss(self, x: Tensor, context: Any = None) -> Tensor:
        """What training minimises, a scalar: the mean of a batch of events, integers (B, *shape)."""

    def _float(self, x: Tensor) -> Tensor:
        return x.to(next(self.parameters()).dtype)

    def checked(self, x: Tensor) -> Tensor:
        """`x` on the model's device, if it is a batch of this model's events; a DataError otherwise."""
        x = as_tensor(x)
        if x.dtype.is_floating_point or x.dtype.is_complex or x.dtype == torch.bool:
            raise DataError(f"the events hold {x.dtype} values: pass integers in [0, {self.levels})")
        if tuple(x.shape[1:]) != self.shape or x.ndim != len(self.shape) + 1:
            raise DataError(f"the events have shape {tuple(x.shape)}: this model wants (batch, {self._shape_text()})")
        if x.numel() and (int(x.min()) < 0 or int(x.max()) >= self.levels):
            raise DataError(
                f"the events hold values from {int(x.min())} to {int(x.max())}: "
                f"this model has {self.levels} levels, 0 to {self.levels - 1}"
            )
        return x.to(self.device)

    def checked_context(self, context: Any, n: int) -> Any:
        """`context` for `n` events, on the model's device, if it is what the model is conditioned on.

        Raises:
            ModelError: the model has no conditioning and is given some, or the reverse.
            DataError: the context is not one for `n` events.
        """
        self._refuse_context(context)
        return None

    def example_context(self, n: int) -> Any:
        """A context for `n` events that stands for all there are, in turn; None for models without."""
        return None

    def _shape_text(self) -> str:
        return ", ".join(map(str, self.shape))

    # ------------------------------------------------------------------------------------------------------- the steps

    @abstractmethod
    def start(self, batch: int, context: Any = None) -> Any:
        """The state before the first site. A state belongs to its walk: `observe` uses it up and gives the next."""

    @abstractmethod
    def conditional(self, state: Any) -> sampling.Conditional:
        """The distribution of the next site: its probabilities, or a function from uniforms to its values."""

    @abstractmethod
    def full_conditional(self, y: Tensor, site: Site, context: Any = None) -> sampling.Conditional:
        """The same of any site by a full pass, given the entries before it in `y`, integers (B, *walk_shape)."""

    @abstractmethod
    def observe(self, state: Any, value: Tensor) -> Any:
        """The state after the next site took `value`, integers of shape (batch,)."""

    def sample(
        self,
        n: int,
        context: Any = None,
        generator: torch.Generator | None = None,
        method: sampling.Method = "cached",
    ) -> Tensor:
        """Draw events from the model, exactly: one pass in all ("cached"), or one pass a site ("naive").

        Args:
            n: how many.
            context: conditioning of length n, for models that have one.
            generator: where the uniforms come from; the same seed gives the same samples.

        Returns:
            Integers of shape (n, *shape).
        """
        return sampling.sample(self, n, context, generator, method)

    def complete(
        self,
        x: Tensor,
        known: Tensor,
        context: Any = None,
        generator: torch.Generator | None = None,
        method: sampling.Method = "cached",
    ) -> Tensor:
        """Keep what is known of `x` and draw the rest in order.

        Each unknown entry is drawn given everything *before* it, known or drawn. A known entry that comes after an
        unknown one is not looked at before its turn: the completion is a draw from p(x) in which the known entries are
        put in place as they come, not from p(unknown | known), unless all known entries come first.

        Args:
            x: integers of shape (B, *shape); unknown entries may hold any level.
            known: booleans that broadcast to that shape, True where the entry is given.

        Returns:
            Integers of shape (B, *shape), equal to `x` where known.
        """
        return sampling.complete(self, x, known, context, generator, method)

    # --------------------------------------------------------------------------------------------------------- storage

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:  # type: ignore[override]
        """Write model.safetensors and config.json into a folder that `cr.load` reads, each whole or not at all.

        Raises:
            DataError: the folder cannot be written.
        """
        folder = Path(save_directory)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        write_bytes(folder / "model.safetensors", safetensors.torch.save(weights))
        write_bytes(folder / "config.json", (json.dumps(self.config, indent=2) + "\n").encode())

    def _refuse_context(self, context: Any) -> None:
        if context is not None:
            raise ModelError(f"{type(self).__name__} has no conditioning: leave `context` out")


def plain(value: Any) -> Any:
    """A constructor's argument as JSON knows it: NumPy's and PyTorch's integers as int, sequences as lists."""
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, list | tuple) or np.ndim(value):
        return tuple(plain(item) for item in value)
    return operator.index(value)


def as_tensor(x: Any) -> Tensor:
    """Tensors as they are; arrays and nested lists of numbers as tensors. DataError for anything else."""
    if isinstance(x, Tensor):
        return x.long() if x.dtype in (torch.uint16, torch.uint32, torch.uint64) else x
    try:
        array = np.asarray(x)
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int64)
        return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape))
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"the events are {type(x).__name__} values: pass a tensor or an array of integers") from None
