"""What every trunk of an image model has: from encoded pixels to the features of each pixel.

A trunk has two sides that give the same numbers: `forward` over whole images, and `start`, `step`, `observe` pixel by
pixel in raster order, with caches.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.errors import ModelError
from chainrule.nn.conv import MaskedConv2d
from chainrule.nn.fronts import Fronts
from chainrule.nn.norm import ChannelLayerNorm

KERNEL = 7
"""Side of the kernel of a trunk's first layer."""


class Trunk(nn.Module):
    """Base of the trunks: a subclass makes its layers in `_layers`, and has both sides up to the last ReLU.

    Args:
        inputs: channels of an encoded pixel.
        filters: channels of the features.
        blocks: residual blocks.
        layer_norm: normalise over the channels of a pixel before every block, and at the end.
        one_hot: length of the one-hot vectors that a pixel is encoded as; 0 if it is something else.
        size: height and width of the images, for a trunk that needs to know; None for any.

    Raises:
        ModelError: no such network can be made.
    """

    norm: ChannelLayerNorm | None
    reach: int
    """Rows above a pixel that its features know of, at most."""

    periodic = True
    """Whether every row is walked over alike."""

    def __init__(
        self,
        inputs: int,
        filters: int,
        blocks: int,
        layer_norm: bool,
        *,
        one_hot: int = 0,
        size: tuple[int | None, ...] = (None, None),
    ) -> None:
        super().__init__()
        if filters < 1 or blocks < 0:
            raise ModelError(f"{filters} filters and {blocks} blocks make no network: use at least 1 and 0")
        self.inputs, self.filters, self.size = inputs, filters, size
        self.reach = KERNEL // 2 + blocks  # a 7×7 kernel first, then one of 3×3 in each block
        self._layers(blocks, layer_norm, one_hot)
        self.norm = ChannelLayerNorm(filters) if layer_norm else None
        self.hidden = MaskedConv2d(filters, filters, 1, "B")

    @abstractmethod
    def _layers(self, blocks: int, layer_norm: bool, one_hot: int) -> None:
        """Make the layers up to the last norm."""

    def condition(self, channels: int, *, one_hot: int = 0) -> None:
        """Make room for a context of so many channels, which adds nothing at first.

        Raises:
            ModelError: this trunk takes no context.
        """
        raise ModelError("a masked trunk takes no context: use a gated one")

    def outer_layers(self) -> Sequence[nn.Module]:
        """The layers that read pixels or a context: not hidden ones, for an optimiser that tells them apart."""
        return ()

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        """The features of every pixel, each from the pixels before it.

        Args:
            x: encoded pixels, (B, inputs, H, W).
            context: (B, D, H or 1, W or 1), for a trunk that was given room for one.
            beside: (B, filters, H, W), what is added to the features before their ReLU.

        Returns:
            (B, filters, H, W).
        """

    @abstractmethod
    def start(self, batch: int, height: int, width: int, context: Tensor | None = None) -> Any:
        """The state before the first pixel."""

    def start_fronts(self, fronts: Fronts) -> Any:
        """The state before the first front of one picture; `step` and `observe` then take a front's pixels as a batch.

        Raises:
            ModelError: this trunk has no fronts.
        """
        raise ModelError(f"a {type(self).__name__} has no fronts, as it looks far to the right: use a masked trunk")

    @abstractmethod
    def step(self, state: Any, beside: Tensor | None = None) -> Tensor:
        """The features of the next pixel, (B, filters), and `beside` as in `forward`. Call it once, then `observe`."""

    @abstractmethod
    def observe(self, state: Any, pixel: Tensor) -> None:
        """Tell the state the encoded pixel, (B, inputs), and go on to the next."""

    def _last(self, h: Tensor, beside: Tensor | None) -> Tensor:
        h = F.relu(h) if self.norm is None else self.norm.activated(h)
        return self._added(self.hidden(h), beside)

    def _last_step(self, h: Tensor, beside: Tensor | None) -> Tensor:
        h = h if self.norm is None else self.norm.step(h)
        return self._added(self.hidden.pointwise(F.relu(h)), beside)

    @staticmethod
    def _added(h: Tensor, beside: Tensor | None) -> Tensor:
        return (h if beside is None else h + beside).relu_()


def zeros(layer: Any, *shape: int) -> Tensor:
    """Zeros in the type and on the device of a layer's weight."""
    return torch.zeros(shape, dtype=layer.weight.dtype, device=layer.weight.device)
