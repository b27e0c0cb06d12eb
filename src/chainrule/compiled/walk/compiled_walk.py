"""Walks that run a program, the distributions along given images, and the engine that offers both."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.compiled.library import available, library
from chainrule.compiled.walk.compiled_fronts import CompiledFronts, all_finite, front_edges, to_draw, words_left
from chainrule.compiled.walk.lowering import by_fronts, lower
from chainrule.compiled.walk.program import Program
from chainrule.compiled.walk.records import GROUP
from chainrule.contract import Engine, Model, Walk

MOST_THREADS = 64


class Workspace:
    """Memory for a program: for each thread a group at work; and, if `whole`, all images of a walk."""

    def __init__(self, program: Program, batch: int, *, whole: bool) -> None:
        self.group = max(1, min(GROUP, batch))
        groups = -(-batch // self.group)
        self.threads = max(1, min(torch.get_num_threads(), groups, MOST_THREADS))
        held, record = self.group * (groups if whole else self.threads), program.record
        floats: Any = {"dtype": torch.float32, "device": "cpu"}
        doubles: Any = {"dtype": torch.float64, "device": "cpu"}
        self.memory = torch.zeros(held, record.memory, **floats)
        self.rooms = torch.zeros(held, record.room, **doubles)
        self.scratch = torch.zeros(self.group * self.threads, record.scratch, **floats)
        self.places = [program.address, *(tensor.data_ptr() for tensor in (self.memory, self.scratch, self.rooms))]


class CompiledWalk(Walk):
    """A walk over `batch` images by a program in raster order.

    Whole draws of few images go by fronts where there is a program for it: the values are the same.
    """

    def __init__(self, program: Program, batch: int, fronts: CompiledFronts | None = None) -> None:
        self.program, self.batch, self.fronts = program, batch, fronts
        self.code: Any = library()
        self.site = 0
        self.values: Tensor | None = None  # what was chosen at the site before
        self.pmf: Tensor | None = None  # of the site at hand, once it has been asked for

    @property
    def exact(self) -> bool:
        """Whether the conditionals are those of an exact model."""
        return bool(self.program.record.exact)

    @functools.cached_property
    def space(self) -> Workspace:
        return Workspace(self.program, self.batch, whole=True)

    @functools.cached_property
    def seen(self) -> Tensor:
        """The images as far as they are known."""
        return torch.zeros(self.batch, *self.program.shape, dtype=torch.int64, device="cpu")

    def draw(self, u: Tensor, given: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """As the contract says, for all images.

        Raises:
            IndexError: a known entry is no level.
            ModelError: a distribution is not finite.
        """
        if self.fronts is not None:
            return self.fronts.draw(u, given, known)
        x, mask = to_draw((self.batch, *self.program.shape), self.program.levels, given, known)
        if self.batch:
            u = u.to("cpu", torch.float64).broadcast_to(self.batch, x[0].numel()).contiguous()
            space = Workspace(self.program, self.batch, whole=False)
            place = None if mask is None else mask.data_ptr()
            shape = space.group, self.batch, space.threads
            self.code.chainrule_draw(*space.places, *shape, u.data_ptr(), place, x.data_ptr())
        return all_finite(x)

    def decode(self, words: np.ndarray) -> tuple[Tensor, np.ndarray] | None:
        """As the contract says, for exact programs."""
        if not self.exact:
            return None
        x = torch.empty(self.batch, *self.program.shape, dtype=torch.int64, device="cpu")
        if not self.batch:
            return x, words
        words, rest = np.ascontiguousarray(words, np.uint32), np.zeros(2, np.uint64)
        values, space = torch.empty(self.batch, dtype=torch.int64, device="cpu"), self.space
        shape = space.group, self.batch, space.threads
        room = values.data_ptr(), x.data_ptr(), rest.ctypes.data
        self.code.chainrule_decode(*space.places, *shape, words.ctypes.data, len(words), *room)
        return x, words_left(words, rest)

    def conditional(self) -> Tensor:
        """Probabilities of the next value, float64 (B, levels)."""
        if self.pmf is None:
            self.pmf = torch.empty(self.batch, self.program.levels, dtype=torch.float64, device="cpu")
            values = None if self.values is None else self.values.data_ptr()
            shape = self.space.group, self.batch, self.space.threads
            written = self.pmf.data_ptr(), self.seen.data_ptr()
            self.code.chainrule_advance(*self.space.places, *shape, self.site, values, *written)
        return self.pmf

    def observe(self, value: Tensor) -> None:
        """Tell the walk the value, integers (B,). Raises `IndexError` for what is no level."""
        self.conditional()
        values = value.to("cpu", torch.int64, copy=True).broadcast_to(self.batch).contiguous()
        if self.batch and not 0 <= int(values.min()) <= int(values.max()) < self.program.levels:
            raise IndexError(f"a value is none of the {self.program.levels} levels")
        self.values, self.pmf = values, None
        self.site += 1


def score(program: Program, x: Tensor, *, edges: bool = False) -> Tensor:
    """The frequencies of an exact program's conditionals along given images.

    Args:
        x: integers (B, C, H, W).
        edges: whether only what lies below the level that each entry takes is wanted, and its own frequency.

    Returns:
        int32 (sites, B, levels), or (sites, B, 2); sites in the order of the walk.
    """
    code: Any = library()
    x = x.to(torch.int64).contiguous()
    table = torch.empty(
        math.prod(program.shape), len(x), 2 if edges else program.levels, dtype=torch.int32, device="cpu"
    )
    if len(x):
        space = Workspace(program, len(x), whole=False)
        places = (None, table.data_ptr()) if edges else (table.data_ptr(), None)
        code.chainrule_score(*space.places, space.group, len(x), space.threads, x.data_ptr(), *places)
    return table


class Compiled(Engine):
    """Walks in compiled code."""

    name = "compiled"

    def walk(self, model: Model, batch: int, context: Any = None) -> Walk | None:
        program = lower(model) if context is None else None
        if program is None:
            return None
        ahead = self.fronts(model, batch) if batch < GROUP else None
        return CompiledWalk(program, batch, ahead)

    def fronts(self, model: Model, pictures: int, above: Tensor | None = None) -> CompiledFronts | None:
        program = by_fronts(model)
        return None if program is None else CompiledFronts(program, model, pictures, above)

    def push(self, state: int, symbols: Tensor, edges: Tensor, levels: int) -> tuple[int, np.ndarray] | None:
        if (code := library()) is None or not available():
            return None
        symbols, edges = symbols.to(torch.int64).contiguous(), edges.to(torch.int32).contiguous()
        words, kept = np.empty(len(symbols), np.uint32), np.array([state], np.uint64)
        where = symbols.data_ptr(), edges.data_ptr(), kept.ctypes.data, words.ctypes.data
        written = code.chainrule_encode(len(symbols), levels, *where)
        return int(kept[0]), words[:written]

    def frequencies(self, model: Model, y: Tensor, context: Any = None) -> Tensor | None:
        program = lower(model) if context is None and model.softmax.exact else None
        return None if program is None else score(program, y.cpu())

    def edges(self, model: Model, y: Tensor, context: Any = None, *, fronts: bool = False) -> Tensor | None:
        if context is not None or not model.softmax.exact:
            return None
        if (fronts or len(y) < GROUP) and (program := by_fronts(model)) is not None:
            return front_edges(program, y.cpu(), raster=not fronts)
        program = None if fronts else lower(model)
        return None if program is None else score(program, y.cpu(), edges=True)
