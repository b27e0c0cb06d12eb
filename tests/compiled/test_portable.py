"""Programs as blocks of bytes, and walks that somebody watches."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch

from chainrule import compiled as native
from chainrule.compiled.library import library
from chainrule.compiled.walk.compiled_walk import Workspace, score
from chainrule.compiled.walk.lowering import lower
from chainrule.compiled.walk.portable import portable
from laws import events

from .test_walk import CLASSES, exact_model

pytestmark = pytest.mark.skipif(not native.available(), reason="chainrule was installed without a C compiler")


def loaded(block, pointers):
    """A block at an address of its own, as a page loads it."""
    memory = np.zeros(len(block) // 8 + 3, np.uint64)
    start = -(-memory.ctypes.data // 16) * 16
    ctypes.memmove(start, block, len(block))
    for at in pointers:
        ctypes.c_uint64.from_address(start + at).value += start
    return memory, start


@pytest.mark.parametrize("cls", CLASSES)
def test_a_block_is_the_program(cls):
    """Loaded elsewhere, after the program itself has gone, it gives the same frequencies."""
    model = exact_model(cls)
    x = events(model, 3).long()
    with torch.no_grad():
        program = lower(model)
        wanted = score(program, x)
        assert torch.equal(wanted, score(lower(model), x))
    space = Workspace(program, len(x), whole=False)
    memory, start = loaded(*portable(program))
    del program
    found = torch.empty_like(wanted)
    places = start, *space.places[1:]
    library().chainrule_score(*places, space.group, len(x), 1, x.data_ptr(), found.data_ptr(), None)
    assert memory.size
    assert torch.equal(found, wanted)


def test_equal_arrays_are_held_once():
    with torch.no_grad():
        program = lower(exact_model())
    block, pointers = portable(program)
    program.kept += [array.copy() for array in program.kept]
    again, _ = portable(program)
    assert again == block
    assert len(block) < sum(array.nbytes for array in program.kept)
    assert len(pointers) == len(set(pointers)) > 2


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("steps", [[30], [1, 6, 7, 20, 30]])
def test_a_watched_walk_is_the_whole_one(cls, steps):
    """Pixel by pixel or in pieces: the same values, and the edges and frequencies that scoring them finds."""
    model, n = exact_model(cls), 2
    with torch.no_grad():
        program = lower(model)
    u, given = torch.rand(n, 90, dtype=torch.float64), events(model, n).long()
    known = torch.rand(given.shape) < 0.3
    with torch.no_grad():
        wanted = drawn(program, u, given, known)
    space, x = Workspace(program, n, whole=True), given.clone()
    frequencies = torch.zeros(90, n, 4, dtype=torch.int32)
    edges = torch.zeros(90, n, 2, dtype=torch.int32)
    first = 0
    for last in steps:
        asked = u.data_ptr(), known.data_ptr(), x.data_ptr(), frequencies.data_ptr(), edges.data_ptr()
        library().chainrule_pixels(*space.places, n, first, last, *asked)
        first = last
    assert torch.equal(x, wanted)
    assert torch.equal(frequencies, score(program, x))
    assert torch.equal(edges, score(program, x, edges=True))


def drawn(program, u, given, known):
    """What the whole draw gives."""
    space, x = Workspace(program, len(u), whole=False), given.clone()
    shape = space.group, len(u), space.threads
    library().chainrule_draw(*space.places, *shape, u.data_ptr(), known.data_ptr(), x.data_ptr())
    return x
