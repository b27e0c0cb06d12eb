"""How levels enter a network: as one-hot vectors that remain differentiable in the level."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def one_hot(v: Tensor, levels: int) -> Tensor:
    """One-hot vectors of levels given as floats, interpolated linearly between neighbouring levels.

    At whole numbers this is the ordinary one-hot vector, exactly. In between it mixes two neighbours, so that the
    derivative with respect to `v` exists: the receptive field and the tests of causality differentiate it.

    Args:
        v: levels as floats of shape (...), in [0, levels - 1].
        levels: how many there are, at least 2.

    Returns:
        Floats of shape (..., levels), each row summing to 1.

    >>> one_hot(torch.tensor([0.0, 1.5]), 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]
    """
    if (whole := levels_of(v)) is not None:
        return F.one_hot(whole, levels).to(v.dtype)
    low = v.detach().floor().clamp(0, levels - 2)
    above = (v - low).unsqueeze(-1)
    index = low.long()
    return F.one_hot(index, levels) * (1 - above) + F.one_hot(index + 1, levels) * above


def levels_of(v: Tensor) -> Tensor | None:
    """Levels given as floats, as integers; none if some lie between levels, or are differentiated, or on a GPU.

    There the question would cost more than interpolating does: the host would wait for the device to answer.
    """
    if v.requires_grad or v.device.type != "cpu":
        return None
    whole = v.long()
    return whole if torch.equal(whole.to(v.dtype), v) else None
