"""How levels enter a network: as one-hot vectors that remain differentiable in the level, or as numbers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule.errors import ModelError

ONE_HOT_UP_TO = 16
"""Up to this many levels, each has an input of its own, unless told otherwise."""

ENCODINGS = ("auto", "onehot", "number")


class LevelEncoding:
    """How the channels of a pixel enter a network.

    Args:
        levels: of each channel.
        kind: "onehot" gives each level an input of its own, which also suits codes without an order; "number" scales
            a level to [-1, 1]; "auto" takes the first for up to 16 levels.

    Raises:
        ModelError: there is no such kind.

    >>> v = torch.tensor([[0.0, 2.0]])
    >>> LevelEncoding(3)(v).tolist(), LevelEncoding(3, "number")(v).tolist()
    ([[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]], [[-1.0, 1.0]])
    """

    def __init__(self, levels: int, kind: str = "auto") -> None:
        if kind not in ENCODINGS:
            raise ModelError(f"the encoding {kind!r} does not exist: use {', '.join(ENCODINGS)}")
        self.levels = levels
        self.one_hot = levels if kind == "onehot" or (kind == "auto" and levels <= ONE_HOT_UP_TO) else 0
        self.width = self.one_hot or 1  # inputs of one channel

    def __call__(self, v: Tensor) -> Tensor:
        """Levels as floats, channels last: (..., C) → (..., C · width)."""
        return one_hot(v, self.levels).flatten(-2) if self.one_hot else v * (2.0 / (self.levels - 1)) - 1.0

    def table(self, like: Tensor) -> Tensor:
        """What a channel of each level puts in, (levels, width), in the type and on the device of `like`."""
        return self(torch.arange(self.levels, dtype=like.dtype, device=like.device)[:, None])


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
    """Levels given as floats, as integers; None if some lie between levels, need a gradient, or are on a GPU.

    On a GPU the check would cost more than interpolating: the host would wait for the device to answer.
    """
    if v.requires_grad or v.device.type != "cpu":
        return None
    whole = v.long()
    return whole if torch.equal(whole.to(v.dtype), v) else None
