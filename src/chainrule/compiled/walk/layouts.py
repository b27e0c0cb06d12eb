"""How numbers lie in the memory of compiled code: lengths, grids, panels of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from chainrule.compiled.walk.records import (
    LANES,
    MOST_SQUARES_WEIGHTS,
    SQUARES_BLOCK,
    SQUARES_COLUMNS,
    SQUARES_RING,
    SQUARES_WINDOWS,
)
from chainrule.nn.surroundings import Surroundings


def room_of(by: Surroundings, channels: int, width: int | None) -> int:
    """Numbers that a kind of least squares remembers (walk/predictions.h), of an image; without a width, by fronts."""
    pairs = sum(-(-(a + 1) // SQUARES_BLOCK) * SQUARES_BLOCK for a in range((by.own + 1) * channels))
    cells, sums = SQUARES_RING, SQUARES_COLUMNS if by.running else SQUARES_WINDOWS
    if width is not None:
        across, rows = -(-width // by.cell), by.nearest(by.after) + 1 if by.running else 1
        cells, sums = (by.running + 1 if by.running else by.rows + 2) * across, rows * across
    return MOST_SQUARES_WEIGHTS + (cells + sums) * pairs


def rounded(length: int) -> int:
    """A length, up to the next multiple of a panel's."""
    return -(-length // LANES) * LANES


def grid_fields(grid: Any) -> dict[str, Any]:
    """An operation's fields for the grid of the layer that reads; none without."""
    return {} if grid is None else {"whole": 1, "scale": 2.0**grid.bits, "low": grid.low, "high": grid.high}


def panels(matrix: Tensor, lanes: int) -> np.ndarray:
    """(O, I) → (O / lanes, I, lanes): for some outputs after the other, a vector for each input."""
    return matrix.unflatten(0, (-1, lanes)).transpose(1, 2).contiguous().numpy()


def padded(tensor: Tensor, units: int) -> np.ndarray:
    """Float64, with zeros up to `units` in the last dimension."""
    array = np.zeros((*tensor.shape[:-1], units))
    array[..., : tensor.shape[-1]] = tensor.detach().double().numpy()
    return array
