"""What a model's events are: their shape and levels, the order of their entries, and models of events of any size."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

from torch import Tensor

from chainrule.contract import Site
from chainrule.errors import ModelError
from chainrule.models import checking
from chainrule.models.storage import StoredModel


def whole(value: Any) -> int:
    """A whole number of any type. Raises TypeError, ValueError or OverflowError for anything else.

    >>> whole(4), whole(4.0)
    (4, 4)
    """
    if isinstance(value, str) or int(value) != value:
        raise TypeError
    return int(value)


class EventModel(StoredModel):
    """A stored model of events of one shape, or of images of one number of channels and any size.

    Args:
        shape, levels: as for `AutoregressiveModel`.

    Raises:
        ModelError: there is nothing to model.
    """

    takes_any_size = False
    """Whether the shape may be `(C, None, None)`: no weight belongs to a position."""
    coded_by_fronts = False
    """Whether archives hold its events in the order of fronts (`chainrule.models.front_walk`)."""

    def __init__(self, shape: tuple[int | None, ...], levels: int) -> None:
        super().__init__()
        try:
            self.shape: Any = tuple(None if side is None else whole(side) for side in shape)
            self.levels = whole(levels)
        except (TypeError, ValueError, OverflowError):
            raise ModelError(f"the shape {shape} and {levels} levels: every size must be a whole number") from None
        if None in self.shape and not (self.takes_any_size and self.shape[1:] == (None, None)):
            raise ModelError(f"{type(self).__name__} has no events of shape {self.shape}: give every side a number")
        if not self.shape or min(side for side in self.shape if side is not None) < 1:
            raise ModelError(f"the event shape {tuple(shape)} is empty: every side must be at least 1")
        if self.levels < 2:
            raise ModelError(f"{levels} levels leave nothing to model: use at least 2")

    @property
    def any_size(self) -> bool:
        """Whether events may have any height and width: the shape is `(C, None, None)`."""
        return None in self.shape

    @property
    def dims(self) -> int:
        """Entries of one event: the dimensions in bits per dimension.

        Raises:
            ModelError: events have any size.
        """
        self._need_size()
        return math.prod(self.shape)

    def sized(self, height: int, width: int) -> Any:
        """This model for events of one size alone: the same weights, the same object but for its shape.

        Raises:
            ModelError: the model has another size.

        Example:
            >>> import chainrule as cr
            >>> model = cr.PixelCNN((1, None, None), 2, filters=4, blocks=1)
            >>> model.sized(3, 5).shape, model.sized(3, 5).dims
            ((1, 3, 5), 15)
        """
        if not self.any_size:
            if self.shape[1:] != (height, width):
                raise ModelError(f"this model's events have shape {self.shape}: leave the size {height}×{width} out")
            return self
        if min(height, width) < 1:
            raise ModelError(f"no picture has the size {height}×{width}: both sides must be at least 1")
        found = copy.copy(self)
        found.shape = (self.shape[0], int(height), int(width))
        return found

    def takes(self, shape: tuple[int | None, ...], levels: int) -> bool:
        """Whether events of this shape and so many levels are this model's."""
        same = len(shape) == len(self.shape) and all(a in (None, b) for a, b in zip(self.shape, shape, strict=True))
        return same and levels == self.levels

    def like(self, y: Tensor) -> Any:
        """This model for events of the size of `y`, (B, C, H, W); itself, if it has one size."""
        return self.sized(*y.shape[2:]) if self.any_size else self

    def _need_size(self) -> None:
        if self.any_size:
            raise ModelError("this model takes events of any size: say which, as in size=(height, width)")

    # ----------------------------------------------------------------------------------------------------------- events

    def sites(self) -> list[Site]:
        """All entries in the order of the factorisation: raster order, and the channels of a pixel in turn.

        Raises:
            ModelError: events have any size.
        """
        self._need_size()
        if len(self.walk_shape) == 3:
            channels, height, width = self.walk_shape
            order = itertools.product(range(height), range(width), range(channels))
            return [Site((c, i, j), self.levels) for i, j, c in order]
        return [Site(index, self.levels) for index in itertools.product(*map(range, self.shape))]

    # Auxiliary variables are entries of a walk that are functions of the event. A model with them factorises over more
    # than the event, and its probabilities are still those of the event, since nothing else has any mass.

    @property
    def walk_shape(self) -> tuple[int, ...]:
        """What a walk fills, and what sites index: the event's shape, unless there are auxiliary variables."""
        return self.shape

    def with_auxiliaries(self, x: Tensor) -> Tensor:
        """Events (B, *shape) with their auxiliary variables: (B, *walk_shape)."""
        return x

    def without_auxiliaries(self, y: Tensor) -> Tensor:
        """The events of (B, *walk_shape): (B, *shape)."""
        return y

    def known_sites(self, known: Tensor) -> Tensor:
        """Which entries of a walk are known, given which entries of the events are: (B, *shape) → (B, *walk_shape)."""
        return known

    def checked(self, x: Any) -> Tensor:
        """`x` on the model's device.

        Raises:
            DataError: it is no batch of this model's events.
        """
        found: Tensor = checking.events(x, self.shape, self.levels).to(next(self.parameters()).device)
        return found
