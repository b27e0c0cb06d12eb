"""A dataset: three splits of integer events, and what a person should know about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from chainrule.data.levels import checked_values
from chainrule.data.picture_set import Pictures
from chainrule.errors import DataError

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
MOST_LEVELS = 32_768  # values are kept as uint8 up to 256 levels and as int16 up to this


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training, validation and test events of one discrete variable shape.

    Args:
        name: what the data are called.
        levels: entries take the values 0 … levels - 1.
        train, validation, test: integer tensors (N, *shape), images NCHW; or `Pictures` of mixed sizes.
        truth: the joint distribution p[i, j] = P(x₁ = i, x₂ = j), float64 (levels, levels), where it is known.
        offset: what a person reads is a value plus this.
        notes: sentences that a person should hear before training.
        labels: the class of each event, integers (N,), by split, where there are classes.
        pixel_values: a picture shows the level v as the byte `pixel_values[v]`; without, as v · 255 // (levels - 1).
        redraw: takes rows of `train`, integers (B,), and draws these events anew, (B, *shape), by PyTorch's generator:
            they arose partly by known chance, of which the train split is one draw.
        masks: uint8 (N, H, W), by split, where images were printed on something: nonzero where a pixel belongs to what
            was printed.

    Raises:
        DataError: a split is empty, not of integers, out of range, or of another shape than its siblings.

    >>> part = torch.tensor([[0], [2], [1]], dtype=torch.uint8)
    >>> Dataset("tiny", levels=3, train=part, validation=part, test=part).shape
    (1,)
    """

    name: str
    levels: int
    train: Any
    validation: Any
    test: Any
    truth: np.ndarray | None = None
    offset: int = 0
    notes: tuple[str, ...] = ()
    labels: Mapping[str, torch.Tensor] = field(default_factory=dict)
    pixel_values: tuple[int, ...] | None = None
    redraw: Callable[[torch.Tensor], torch.Tensor] | None = None
    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= MOST_LEVELS:
            raise DataError(f"{self.name} has {self.levels} levels: there must be from 2 to {MOST_LEVELS:,}")
        for split in ("train", "validation", "test"):
            x = getattr(self, split)
            whole = isinstance(x, torch.Tensor | Pictures) and x.dtype in INTEGERS
            if not whole:
                kind = getattr(x, "dtype", type(x).__name__)
                raise DataError(
                    f"the {split} split of {self.name} is {kind}: it must be a tensor of uint8, int8, int16, "
                    "int32 or int64"
                )
            if x.ndim < 2 or x.numel() == 0:
                raise DataError(f"the {split} split of {self.name} has shape {tuple(x.shape)}: it must hold events")
            if x.shape[1:] != self.train.shape[1:]:
                raise DataError(
                    f"{self.name} has training events of shape {tuple(self.train.shape[1:])} but {split} events of "
                    f"shape {tuple(x.shape[1:])}: all splits must have one shape"
                )
            low, high = x.range() if isinstance(x, Pictures) else (int(v) for v in torch.aminmax(x))
            if low < 0 or high >= self.levels:
                raise DataError(
                    f"the {split} split of {self.name} has values from {low} to {high}: with {self.levels} levels they "
                    f"must lie from 0 to {self.levels - 1}"
                )
        for split, labels in self.labels.items():
            tensor = isinstance(labels, torch.Tensor)
            if not tensor or labels.shape != (len(getattr(self, split)),) or labels.is_floating_point():
                raise DataError(
                    f"the labels of the {split} split of {self.name} are no tensor of one integer for each event"
                )
        if self.pixel_values is not None:
            checked_values(self.pixel_values, self.levels)
        if self.truth is not None and self.truth.shape != (self.levels, self.levels):
            raise DataError(
                f"the truth of {self.name} has shape {self.truth.shape}: with {self.levels} levels it must be "
                f"({self.levels}, {self.levels})"
            )

    @property
    def shape(self) -> tuple[Any, ...]:
        """The event's shape: (1,), (2,) or (C, H, W); (C, None, None) for pictures of mixed sizes."""
        return tuple(self.train.shape[1:])


def as_tensor(values: np.ndarray, levels: int) -> torch.Tensor:
    """Values in [0, levels) as a tensor that owns its memory: uint8 up to 256 levels, int16 above.

    >>> as_tensor(np.array([0, 299]), levels=300).dtype
    torch.int16
    """
    return torch.from_numpy(np.array(values, dtype=np.uint8 if levels <= 256 else np.int16, order="C"))
