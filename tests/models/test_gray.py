"""Gray levels and the colours that agree with them, against the definition by enumeration."""

from __future__ import annotations

import itertools

import pytest
import torch

from chainrule.models.gray import gray_of, possible


@pytest.mark.parametrize(("channels", "levels", "grays"), [(3, 4, 10), (3, 4, 3), (2, 3, 5), (2, 5, 4), (4, 2, 2)])
def test_possible_values_are_those_that_some_colour_has(channels, levels, grays):
    """For every gray level and every beginning of a colour."""
    colors = torch.tensor(list(itertools.product(range(levels), repeat=channels)))
    gray = gray_of(colors[:, :, None, None], levels, grays).flatten()
    assert gray.unique().tolist() == list(range(grays))
    for g, c in itertools.product(range(grays), range(channels)):
        of_gray = colors[gray == g]
        for beginning in {tuple(color[:c]) for color in of_gray.tolist()}:
            matching = of_gray[(of_gray[:, :c] == torch.tensor(beginning)).all(1)]
            expected = torch.zeros(levels, dtype=torch.bool)
            expected[matching[:, c]] = True
            found = possible(torch.tensor(g), torch.tensor(sum(beginning)), channels - 1 - c, channels, levels, grays)
            assert torch.equal(found, expected), (g, beginning)


def test_a_contradiction_leaves_all_values():
    """So that a softmax over them stays finite."""
    assert bool(possible(torch.tensor(0), torch.tensor(9), 1, 3, 4, 10).all())


def test_gray_of_many_levels_has_intervals_of_even_length():
    """Each gray level of 8-bit colours holds as many sums as the next, up to one."""
    sums = torch.arange(766)
    gray = sums * 16 // 766
    x = torch.stack([sums.clamp(max=255), (sums - 255).clamp(0, 255), (sums - 510).clamp(0, 255)], 1)[:, :, None, None]
    assert torch.equal(gray_of(x, 256, 16).flatten(), gray)
    assert set(gray.bincount().tolist()) == {47, 48}
