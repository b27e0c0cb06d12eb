"""Walks that run a program, and the distributions along given images."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.compiled.library import library
from chainrule.compiled.walk.program import Program

GROUP = 24
"""Images that the code takes together: enough to use each weight often, few enough to stay in the cache."""

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
        self.heads = torch.zeros(held, record.head, **doubles)
        self.scratch = torch.zeros(self.group * self.threads, record.scratch, **floats)
        self.places = [program.address, *(tensor.data_ptr() for tensor in (self.memory, self.scratch, self.heads))]


class CompiledWalk:
    """Where a walk over `batch` images stands: the state of the one loop, and its two questions."""

    def __init__(self, program: Program, batch: int) -> None:
        self.program, self.batch = program, batch
        self.code: Any = library()
        self.site = 0
        self.values: Tensor | None = None  # what was chosen at the site before
        self.pmf: Tensor | None = None  # of the site at hand, once it has been asked for

    @property
    def exact(self) -> bool:
        """Whether the conditionals are those of an exact twin."""
        return bool(self.program.record.exact)

    @functools.cached_property
    def space(self) -> Workspace:
        return Workspace(self.program, self.batch, whole=True)

    def drawn(self, u: Tensor, given: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """All steps of a walk at once: what `conditional`, the inverse CDF and `observe` give in turn.

        Args:
            u: uniforms, float64 (B, sites).
            given, known: integers and bools (B, C, H, W), or what broadcasts to that: the known entries are kept, the
                others drawn. Only both together say something.

        Returns:
            Integers (B, C, H, W).

        Raises:
            IndexError: a known entry is no level.
        """
        x, mask = torch.zeros(self.batch, *self.program.shape, dtype=torch.int64, device="cpu"), None
        if known is not None and given is not None:
            mask = known.to("cpu", torch.bool).broadcast_to(x.shape).contiguous()
            x.copy_(given)
            if bool(((x < 0) | (x >= self.program.levels))[mask].any()):
                raise IndexError(f"a value is none of the {self.program.levels} levels")
        if self.batch:
            u = u.to("cpu", torch.float64).broadcast_to(self.batch, x[0].numel()).contiguous()
            space = Workspace(self.program, self.batch, whole=False)
            shape = space.group, self.batch, space.threads
            place = None if mask is None else mask.data_ptr()
            self.code.chainrule_draw(*space.places, *shape, u.data_ptr(), place, x.data_ptr())
        return x

    def decoded(self, words: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """All steps of an exact program's walk at once: what `conditional`, the coder and `observe` give in turn.

        Args:
            words: what the coder reads, from the end: uint32 (n,).

        Returns:
            Integers (B, C, H, W), and the words of a coder that has gone so far; none are left of what was encoded.
        """
        channels, *sides = self.program.shape
        x = torch.empty(self.batch, channels, *sides, dtype=torch.int64, device="cpu")
        if not self.batch:
            return x, words
        words, rest = np.ascontiguousarray(words, np.uint32), np.zeros(2, np.uint64)
        pmf = torch.empty(self.batch, self.program.levels, dtype=torch.float64, device="cpu")
        values, space = torch.empty(self.batch, dtype=torch.int64, device="cpu"), self.space
        shape = space.group, self.batch, space.threads, channels, math.prod(sides), self.program.levels
        room = pmf.data_ptr(), values.data_ptr(), x.data_ptr(), rest.ctypes.data
        self.code.chainrule_decode(*space.places, *shape, words.ctypes.data, len(words), *room)
        state, left = map(int, rest)
        last = [word for word in (state % 2**32, state >> 32) if word or state >> 32]
        return x, np.append(words[:left], np.array(last, np.uint32))

    def conditional(self) -> Tensor:
        """Probabilities of the next value, float64 (B, levels)."""
        if self.pmf is None:
            self.pmf = torch.empty(self.batch, self.program.levels, dtype=torch.float64, device="cpu")
            values = None if self.values is None else self.values.data_ptr()
            shape = self.space.group, self.batch, self.space.threads
            self.code.chainrule_advance(*self.space.places, *shape, self.site, values, self.pmf.data_ptr())
        return self.pmf

    def observe(self, value: Tensor) -> None:
        """Tell the walk the value, integers (B,). Raises `IndexError` for what is no level."""
        self.conditional()
        values = value.to("cpu", torch.int64, copy=True).broadcast_to(self.batch).contiguous()
        if self.batch and not 0 <= int(values.min()) <= int(values.max()) < self.program.levels:
            raise IndexError(f"a value is none of the {self.program.levels} levels")
        self.values, self.pmf = values, None
        self.site += 1


def score(program: Program, x: Tensor) -> Tensor:
    """The frequencies of an exact program's conditionals along given images.

    Args:
        x: integers (B, C, H, W).

    Returns:
        int32 (sites, B, levels), sites in the order of the walk.
    """
    code: Any = library()
    x = x.to(torch.int64).contiguous()
    table = torch.empty(math.prod(program.shape), len(x), program.levels, dtype=torch.int32, device="cpu")
    if len(x):
        space = Workspace(program, len(x), whole=False)
        shape = space.group, len(x), space.threads
        code.chainrule_score(*space.places, *shape, x.data_ptr(), table.data_ptr())
    return table
