"""Bytes and levels: what is kept exactly comes back, what is not is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.data.dataset import Dataset, as_tensor
from chainrule.data.levels import FEW, checked_values, grid_of, leveled, quantise
from chainrule.errors import DataError

VALUES = st.sets(st.integers(0, 255), min_size=2, max_size=FEW).map(lambda values: tuple(sorted(values)))


@given(values=VALUES, seed=st.integers(0, 99), asked=st.booleans())
@settings(deadline=None, max_examples=80)
def test_few_values_come_back(values, seed, asked) -> None:
    """As many levels as values, whatever they are, and the bytes again from the levels."""
    pixels = np.array(values, np.uint8)[np.random.RandomState(seed).randint(0, len(values), (9, 3, 3, 1))]
    pixels.flat[: len(values)] = values
    found = leveled(pixels, "mine", len(values) if asked else None)
    assert found.levels == len(values)
    grid = grid_of(found.levels, found.pixel_values)
    np.testing.assert_array_equal(grid[found.values], pixels)
    assert (found.pixel_values is None) == (values == tuple(grid_of(len(values)).tolist()))
    assert ("--levels 256" in found.note) == (not asked)


@pytest.mark.parametrize("count", [1, FEW + 1, 200])
def test_other_pictures_have_256_levels(count) -> None:
    pixels = np.arange(count, dtype=np.uint8)
    found = leveled(pixels, "mine")
    assert (found.levels, found.pixel_values) == (256, None)
    np.testing.assert_array_equal(found.values, pixels)


def test_a_models_pixel_values() -> None:
    """Fewer values than the model knows are read by its own; another value is refused."""
    found = leveled(np.array([255, 0], np.uint8), "mine", 3, (0, 128, 255))
    assert (found.values.tolist(), found.levels, found.pixel_values) == ([2, 0], 3, (0, 128, 255))
    with pytest.raises(DataError, match="mine holds the value 7: the model's levels are 0, 128, 255"):
        leveled(np.array([255, 7], np.uint8), "mine", 3, (0, 128, 255))


def test_quantising_everything_away_is_refused() -> None:
    with pytest.raises(DataError, match=r"mine has values from 3 to 60, all of which 4 levels make one: .* or for 3"):
        leveled(np.array([3, 4, 60], np.uint8), "mine", 4)
    assert leveled(np.array([3, 4, 64], np.uint8), "mine", 4).values.tolist() == [0, 0, 1]
    assert leveled(np.array([3, 4, 64], np.uint8), "mine", 3).pixel_values == (3, 4, 64)


@given(values=VALUES)
@settings(deadline=None, max_examples=40)
def test_other_bytes_go_to_the_nearest(values) -> None:
    every = np.arange(256, dtype=np.uint8)
    found, exact = quantise(every, len(values), values)
    assert not exact
    distance = np.abs(every[:, None].astype(int) - np.array(values))
    np.testing.assert_array_equal(distance[every, found], distance.min(1))


@pytest.mark.parametrize("values", [(0, 1), (0, 1, 1), (0, 2, 1), (-1, 0, 1), (0, 1, 256), (0, 1, 2.0), (0, 1, True)])
def test_pixel_values_that_are_none(values) -> None:
    with pytest.raises(DataError, match="3 ascending bytes"):
        checked_values(values, 3)
    x = as_tensor(np.array([[0], [1], [2]]), 3)
    with pytest.raises(DataError, match="3 ascending bytes"):
        Dataset("mine", 3, x, x, x, pixel_values=values)
