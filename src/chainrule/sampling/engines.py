"""The engines that can run a walk, and the choice among them.

"steps" takes a model's own steps, one site after the other, and runs everything. "naive" takes one full pass for every
site, and is never taken unless asked for. Plug-ins register faster ones, which are asked first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule import plugins
from chainrule.contract import Conditional, Engine, Model, Walk
from chainrule.errors import ModelError


class Steps(Engine):
    """The model's own steps: each layer computes each pixel once."""

    name = "steps"

    def walk(self, model: Model, batch: int, context: Any = None) -> Walk:
        return model.start(batch, context)


class Naive(Engine):
    """One full parallel pass for every site.

    What most published code does, kept as the yardstick: slow, obviously right, and the reference that every model's
    walk is tested against.
    """

    name = "naive"

    def walk(self, model: Model, batch: int, context: Any = None) -> Walk:
        return NaiveWalk(model, batch, context)


class NaiveWalk(Walk):
    """A walk by full passes over all that is known so far."""

    def __init__(self, model: Model, batch: int, context: Any) -> None:
        self.model, self.context, self.sites, self.position = model, context, model.sites(), 0
        self.x = torch.zeros(batch, *model.walk_shape, dtype=torch.long, device=model.device)

    def conditional(self) -> Conditional:
        return self.model.full_conditional(self.x, self.sites[self.position], self.context)

    def observe(self, value: Tensor) -> None:
        index: Any = (slice(None), *self.sites[self.position].index)
        self.x[index] = value
        self.position += 1


FASTER: dict[str, Engine] = {}
"""Engines of plug-ins, by name; the first that runs a model is taken."""

ALWAYS: dict[str, Engine] = {engine.name: engine for engine in (Steps(), Naive())}


def register(engine: Engine) -> None:
    """Let an engine be asked for walks, before the plain steps."""
    FASTER[engine.name] = engine


def start(model: Model, batch: int, context: Any = None, method: str = "cached") -> Walk:
    """A walk over `batch` events by the fastest engine that runs it.

    Args:
        method: "cached" for the fastest, or an engine's name.

    Raises:
        ModelError: there is no such engine, or it cannot run this model.
    """
    plugins.load()
    if method == "cached":
        for engine in FASTER.values():
            if (found := engine.walk(model, batch, context)) is not None:
                return found
        return ALWAYS["steps"].walk(model, batch, context)  # type: ignore[return-value]
    known = FASTER | ALWAYS
    if method not in known:
        names = ", ".join(["cached", *known])
        raise ModelError(f"the sampling method {method!r} does not exist: use one of {names}")
    if (found := known[method].walk(model, batch, context)) is None:
        raise ModelError(f"the engine {method!r} cannot run this model here: use 'cached'")
    return found


def frequencies(model: Model, y: Tensor, context: Any = None) -> Tensor | None:
    """An exact model's integer conditionals along given events by the first engine that offers them, or None."""
    plugins.load()
    for engine in FASTER.values():
        if (table := engine.frequencies(model, y, context)) is not None:
            return table
    return None


def edges(model: Model, y: Tensor, context: Any = None, *, fronts: bool = False) -> Tensor | None:
    """Where given events lie in an exact model's integer conditionals, by the first engine that says so, or None."""
    plugins.load()
    for engine in FASTER.values():
        if (found := engine.edges(model, y, context, fronts=fronts)) is not None:
            return found
    return None


def fronts(model: Model, pictures: int, above: Tensor | None = None) -> Walk | None:
    """A walk over the fronts of pictures, whose first rows may be known, by the first engine that has one, or None."""
    plugins.load()
    for engine in FASTER.values():
        if (found := engine.fronts(model, pictures, above)) is not None:
            return found
    return None


def push(state: int, symbols: Tensor, edges: Tensor, levels: int) -> tuple[int, np.ndarray] | None:
    """Symbols put on an entropy coder's stack by the first engine that does it, or None."""
    plugins.load()
    for engine in FASTER.values():
        if (found := engine.push(state, symbols, edges, levels)) is not None:
            return found
    return None
