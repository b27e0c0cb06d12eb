"""How numbers lie in the memory of compiled code: lengths, grids, panels of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from chainrule.compiled.walk.records import LANES, SQUARES_BLOCK
from chainrule.nn.least_squares import OWN


def places_of_pairs(channels: int) -> int:
    """Numbers that the products of all pairs of variables take (squares.h)."""
    return sum(-(-(a + 1) // SQUARES_BLOCK) * SQUARES_BLOCK for a in range((OWN + 1) * channels))


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
