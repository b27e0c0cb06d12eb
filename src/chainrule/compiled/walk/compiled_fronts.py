"""Walks by fronts: hundreds of pixels of a picture at a time (walk/fronts.c)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.compiled.library import library
from chainrule.compiled.walk.program import Program
from chainrule.compiled.walk.records import GROUP
from chainrule.contract import Conditional
from chainrule.errors import ModelError
from chainrule.models.front_walk import FrontWalk
from chainrule.nn.fronts import LAG

BORDER = 3
"""Lines of zeros above each picture, as many as the largest kernel reaches."""

MOST_THREADS = 64

PIXELS = 2**14
"""Pixels that are done before Python can act on an interrupt."""


class FrontSpace:
    """Memory for a program that goes by fronts: for all lines of the pictures, and for the longest front."""

    def __init__(self, program: Program, shape: Sequence[int]) -> None:
        batch, _, height, width = shape
        record, self.threads = program.record, max(1, min(torch.get_num_threads(), MOST_THREADS))
        pixels = batch * min(height, (width - 1) // LAG + 1)
        floats: Any = {"dtype": torch.float32, "device": "cpu"}
        self.memory = torch.zeros(batch * (height + BORDER), record.memory, **floats)
        self.scratch = torch.zeros(GROUP * self.threads, record.scratch, **floats)
        self.rooms = torch.zeros(pixels, record.room, dtype=torch.float64, device="cpu")
        self.at, self.values = torch.zeros(2, pixels, dtype=torch.int64, device="cpu")
        held = (tensor.data_ptr() for tensor in (self.memory, self.scratch, self.rooms))
        shape = batch, height, width, self.threads
        self.progress = torch.zeros(2, dtype=torch.int64, device="cpu")  # front, and sites before it
        places = (tensor.data_ptr() for tensor in (self.at, self.values, self.progress))
        self.places, self.fronts = [program.address, *held, *shape, *places, PIXELS], width + LAG * (height - 1)

    def run(self, code: Any, *arguments: Any) -> None:
        """All fronts by a function of the library."""
        while int(self.progress[0]) < self.fronts:
            code(*self.places, *arguments)


class CompiledFronts(FrontWalk):
    """A walk over the fronts of pictures that is taken as a whole; single steps are the model's own."""

    def __init__(self, program: Program, model: Any, pictures: int, above: Tensor | None = None) -> None:
        self.program, self.model, self.pictures, self.above, self.begun = program, model, pictures, above, False
        self.shape = pictures, *model.walk_shape
        self.code: Any = library()

    def draw(self, u: Tensor, given: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """As the contract says.

        Raises:
            IndexError: a known entry is no level.
            ModelError: a distribution is not finite.
        """
        x, mask = to_draw(self.shape, self.program.levels, given, known)
        if self.pictures:
            u = u.to("cpu", torch.float64).broadcast_to(self.pictures, x[0].numel()).contiguous()
            place = None if mask is None else mask.data_ptr()
            space = FrontSpace(self.program, self.shape)
            space.run(self.code.chainrule_fronts_draw, u.data_ptr(), place, x.data_ptr())
        return all_finite(x)

    def decode(self, words: np.ndarray) -> tuple[Tensor, np.ndarray] | None:
        """As the contract says, for exact programs."""
        if not self.program.record.exact:
            return None
        x, above = torch.empty(self.shape, dtype=torch.int64, device="cpu"), 0
        if not self.pictures:
            return x, words
        if self.above is not None:
            above = self.above.shape[2]
            x[:, :, :above] = self.above
        words = np.ascontiguousarray(words, np.uint32)
        rest = np.array([0, len(words)], np.uint64)
        space = FrontSpace(self.program, self.shape)
        space.run(self.code.chainrule_fronts_decode, above, words.ctypes.data, x.data_ptr(), rest.ctypes.data)
        return x, words_left(words, rest)

    def conditional(self) -> Conditional:
        self._begin()
        return super().conditional()

    def observe(self, value: Tensor) -> None:
        self._begin()
        super().observe(value)

    def _begin(self) -> None:
        if not self.begun:
            super().__init__(self.model, self.pictures)
            self.begun = True


def front_edges(program: Program, x: Tensor, *, raster: bool = False) -> Tensor:
    """What lies below the level that each entry takes, and its own frequency: an exact program's.

    Args:
        x: integers (B, C, H, W).
        raster: whether sites come in raster order, and not in that of the fronts.

    Returns:
        int32 (sites, B, 2).
    """
    code: Any = library()
    x = x.to(torch.int64).contiguous()
    edges = torch.empty(x.shape[1:].numel(), len(x), 2, dtype=torch.int32, device="cpu")
    if len(x):
        space = FrontSpace(program, x.shape)
        space.run(code.chainrule_fronts_score, x.data_ptr(), int(raster), edges.data_ptr())
    return edges


# --------------------------------------------------------------------------------------- what both kinds of walks need


def to_draw(
    shape: Sequence[int], levels: int, given: Tensor | None, known: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Where events are to be drawn: integers (B, C, H, W), the known entries in their places; and which they are.

    Raises:
        IndexError: a known entry is no level.
    """
    x, mask = torch.zeros(*shape, dtype=torch.int64, device="cpu"), None
    if known is not None and given is not None:
        mask = known.to("cpu", torch.bool).broadcast_to(x.shape).contiguous()
        x.copy_(given)
        if bool(((x < 0) | (x >= levels))[mask].any()):
            raise IndexError(f"a value is none of the {levels} levels")
    return x, mask


def all_finite(x: Tensor) -> Tensor:
    """Events that were drawn. Raises `ModelError` where there was nothing to draw from."""
    if bool((x < 0).any()):
        raise ModelError("a distribution of the model is not finite: its weights are damaged")
    return x


def words_left(words: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """The words that a decoder leaves: those that it never took, and its state."""
    state, left = map(int, rest)
    last = [word for word in (state % 2**32, state >> 32) if word or state >> 32]
    return np.append(words[:left], np.array(last, np.uint32))
