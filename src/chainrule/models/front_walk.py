"""A walk over the fronts of pictures: many pixels at a step, and the same factorisation in raster order.

The conditionals are those of the walk from pixel to pixel; only the order in which they are asked for differs: by
front, in a front by channel, in a channel by row, at a pixel by picture.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from chainrule.contract import Conditional, Walk
from chainrule.errors import ModelError
from chainrule.models.image import ImageModel
from chainrule.nn.fronts import LAG, Fronts


class FrontWalk(Walk):
    """A walk by fronts: `conditional` and `observe` take the pixels of a front, of all pictures, as a batch.

    Args:
        model: an image model of one size, with a masked trunk and without context.
        pictures: how many advance side by side.

    Raises:
        ModelError: the model has no fronts.

    Example:
        >>> import chainrule as cr
        >>> walk = FrontWalk(cr.PixelCNN((1, 2, 5), 4, filters=4, blocks=1))
        >>> for front in range(len(walk.fronts)):
        ...     sizes = walk.conditional().shape
        ...     walk.observe(torch.zeros(sizes[0], dtype=torch.long))
        >>> front, sizes
        (8, torch.Size([1, 4]))
    """

    def __init__(self, model: ImageModel, pictures: int = 1) -> None:
        if model.needs_context:
            raise ModelError("a model with a context has no fronts: walk from pixel to pixel")
        channels, height, width = model.shape
        self.model, self.fronts = model, Fronts(height, width, pictures)
        self.state = model.trunk.start_fronts(self.fronts)
        self.table = model.encoding.table(next(model.parameters()))
        self.front, self.channel, self.channels = 0, 0, channels
        self.values: list[Tensor] = []
        self.pixels: Any = None  # the head's state

    def conditional(self) -> Conditional:
        if self.pixels is None:
            self.pixels = self.model.head.start(self.model.trunk.step(self.state))
        found = self.model.head.logits(self.pixels)
        return self.model.softmax.pmf(found) if isinstance(found, Tensor) else found

    def observe(self, value: Tensor) -> None:
        if self.pixels is None:
            self.conditional()
        self.values.append(value)
        self.channel += 1
        if self.channel < self.channels:
            self.pixels = self.model.head.observe(self.pixels, value)
            return
        self.model.trunk.observe(self.state, self.table[torch.stack(self.values, 1)].flatten(1))
        self.front, self.channel, self.values, self.pixels = self.front + 1, 0, [], None


def front_order(channels: int, height: int, width: int) -> Tensor:
    """The places of a picture's entries, (C, H, W) flattened, in the order of a walk over its fronts: int64 (C·H·W,).

    >>> front_order(2, 2, 5)[:10].tolist()
    [0, 10, 1, 11, 2, 12, 3, 13, 4, 5]
    """
    rows = torch.arange(height).view(-1, 1)
    fronts = torch.arange(width) + LAG * rows
    # sort by front, channel, row; equal keys cannot be
    key = (fronts * channels + torch.arange(channels).view(-1, 1, 1)) * height + rows
    return key.flatten().argsort()
