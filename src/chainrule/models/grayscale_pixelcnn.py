"""Grayscale PixelCNN: first the gray image, then the colours given all of it.

    p(x) = p(g) p(x | g),   g = gray(x)                                       (equations 2 and 5 of the paper)

g is a function of x and so adds no information: a value of a channel that contradicts the pixel's gray level gets no
mass, the rest is normalised, and the product is the probability of the image itself. The gray image settles what is
where before any colour is drawn, which a model of raw pixels can only do as it goes.

Both factors are gated PixelCNNs. A convolutional network that sees the whole gray image, in no order, gives the second
its context. Deviations from the paper: gray is the sum of the channels in up to 16 steps rather than a weighted sum;
trunks are gated PixelCNNs with a MADE over the channels rather than PixelCNN++.

Reference: Kolesnikov & Lampert, PixelCNN Models with Auxiliary Variables, 2017, https://arxiv.org/abs/1612.08185
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule import sampling
from chainrule.contract import Site, Walk
from chainrule.errors import DataError, ModelError
from chainrule.models.base import AutoregressiveModel
from chainrule.models.gated_pixelcnn import GatedPixelCNN
from chainrule.models.gray import gray_of, possible
from chainrule.models.image import ImageModel, ImageWalk
from chainrule.nn import ImageEncoder, one_hot

MOST_GRAYS = 16


class ColorPixelCNN(ImageModel):
    """The second factor, before colours are excluded; its context is the gray image as floats, (B, H, W)."""

    composes_exactly = True

    def __init__(
        self, shape: tuple[int, int, int], levels: int, filters: int, blocks: int, layer_norm: bool, grays: int
    ) -> None:
        super().__init__(shape, levels, "gated", "made", filters, blocks, layer_norm)
        self.grays = grays
        self.trunk.condition(filters)
        self.encoder = ImageEncoder(grays, filters, one_hot=grays)

    def outer_layers(self) -> list[torch.nn.Module]:
        return [*super().outer_layers(), self.encoder.input]

    def context_map(self, context: Any) -> Tensor:
        return self.encoder(one_hot(context, self.grays).permute(0, 3, 1, 2))


class GrayscalePixelCNN(AutoregressiveModel):
    """PixelCNN with the gray image as an auxiliary variable.

    Args:
        shape: (C, H, W) with at least two channels.
        levels: of every channel.
        filters, blocks, layer_norm: of each of the two gated PixelCNNs.
        grays: gray levels; by default as many as there are sums of the channels, but at most 16.

    Raises:
        ModelError: the events are no images of two or more channels, or the sizes do not fit.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = GrayscalePixelCNN((3, 2, 2), 4, filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> gray = gray_of(x, model.levels, model.grays)
        >>> bool((gray_of(model.colorize(gray), model.levels, model.grays) == gray).all())
        True
    """

    composes_exactly = True

    def __init__(
        self,
        shape: tuple[int, int, int],
        levels: int,
        filters: int = 40,
        blocks: int = 10,
        layer_norm: bool = True,
        grays: int | None = None,
    ) -> None:
        super().__init__(shape, levels)
        if len(self.shape) != 3 or self.shape[0] < 2:
            raise ModelError(f"a GrayscalePixelCNN models images of two or more channels, not events of {self.shape}")
        if blocks < 1:
            raise ModelError("the gray image reaches the colours through the blocks: use at least one")
        channels, height, width = self.shape
        sums = channels * (levels - 1) + 1
        self.grays = min(MOST_GRAYS, sums) if grays is None else int(grays)
        if not 2 <= self.grays <= sums:
            raise ModelError(f"{self.grays} gray levels do not fit {channels} channels of {levels}: use 2 to {sums}")
        self.gray = GatedPixelCNN((1, height, width), self.grays, filters, blocks, layer_norm)
        self.colors = ColorPixelCNN((channels, height, width), levels, filters, blocks, layer_norm, self.grays)

    def outer_layers(self) -> list[torch.nn.Module]:
        return [*self.gray.outer_layers(), *self.colors.outer_layers()]

    # ------------------------------------------------------------------------------------------- the auxiliary variable

    def sites(self) -> list[Site]:
        """All gray entries in raster order, then all colours as in a PixelCNN; gray is the channel after the last."""
        channels = self.shape[0]
        gray = [Site((channels, *site.index[1:]), self.grays) for site in self.gray.sites()]
        return gray + self.colors.sites()

    @property
    def walk_shape(self) -> tuple[int, ...]:
        return (self.shape[0] + 1, *self.shape[1:])

    def with_auxiliaries(self, x: Tensor) -> Tensor:
        return torch.cat([x, gray_of(x, self.levels, self.grays)[:, None].to(x.dtype)], 1)

    def without_auxiliaries(self, y: Tensor) -> Tensor:
        return y[:, :-1]

    def known_sites(self, known: Tensor) -> Tensor:
        """A pixel's gray is known where all its channels are.

        Raises:
            DataError: of some pixel one channel is known and another is not.
        """
        whole = known.all(1, keepdim=True)
        if bool((known.any(1, keepdim=True) != whole).any()):
            raise DataError("a GrayscalePixelCNN completes whole pixels: `known` must be the same for all channels")
        return torch.cat([known, whole], 1)

    def colorize(self, gray: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw colours given gray images: integers (B, H, W) in [0, grays) → (B, C, H, W).

        Raises:
            DataError: the gray images have another shape, or other values.
        """
        gray = torch.as_tensor(gray).to(self.device)
        if gray.dtype.is_floating_point or tuple(gray.shape[1:]) != self.shape[1:] or gray.ndim != 3:
            raise DataError(f"gray images are integers of shape (B, {self.shape[1]}, {self.shape[2]})")
        if gray.numel() and not (int(gray.min()) >= 0 and int(gray.max()) < self.grays):
            raise DataError(f"gray levels go from 0 to {self.grays - 1}")
        given = torch.zeros(len(gray), *self.walk_shape, dtype=torch.long, device=self.device)
        known = torch.zeros(given.shape, dtype=torch.bool, device=self.device)
        given[:, -1], known[:, -1] = gray, True
        return sampling.walk(
            self, len(gray), sampling.Draw(sampling.uniforms(self, len(gray), generator), given, known)
        )

    # -------------------------------------------------------------------------------------------------- parallel pass

    def _logits(self, v: Tensor, context: Any = None) -> Tensor:
        self._refuse_context(context)
        channels = self.shape[0]
        gray_logits = self.gray._logits(v[:, channels:])
        logits = self.colors._logits(v[:, :channels], v[:, channels])
        whole = v.detach().round().long()
        so_far = whole[:, :channels].cumsum(1) - whole[:, :channels]
        allowed = [self._possible(whole[:, channels], so_far[:, c], c) for c in range(channels)]
        logits = logits.masked_fill(~torch.stack(allowed, 1), -torch.inf)
        most = max(self.levels, self.grays)
        parts = [F.pad(part, (0, most - part.shape[-1]), value=-torch.inf) for part in (logits, gray_logits)]
        return torch.cat(parts, 1)

    def _possible(self, gray: Tensor, so_far: Tensor, channel: int) -> Tensor:
        channels = self.shape[0]
        return possible(gray, so_far, channels - 1 - channel, channels, self.levels, self.grays)

    # ---------------------------------------------------------------------------------------------------------- steps

    def start(self, batch: int, context: Any = None) -> GrayscaleWalk:
        self._refuse_context(context)
        return GrayscaleWalk(self, batch)


class GrayscaleWalk(Walk):
    """First the gray image, and when that is complete, the colours."""

    def __init__(self, model: GrayscalePixelCNN, batch: int) -> None:
        self.model, self.position = model, 0  # in the gray image, then in the colours
        _, height, width = model.shape
        self.gray = torch.zeros(batch, height * width, dtype=torch.long, device=model.device)
        self.first = model.gray.start(batch)
        self.second: ImageWalk | None = None

    def conditional(self) -> Tensor:
        if self.second is None:
            return self.first.conditional()  # type: ignore[return-value]
        channel = self.second.channel
        gray = self.gray[:, self.position // self.model.shape[0]]
        allowed = self.model._possible(gray, self.second.values[:, :channel].sum(1), channel)
        logits: Any = self.second.logits()
        return self.model.softmax.pmf(logits.masked_fill(~allowed, -torch.inf))

    def observe(self, value: Tensor) -> None:
        if self.second is not None:
            self.second.observe(value)
            self.position += 1
            return
        self.gray[:, self.position] = value
        self.first.observe(value)
        self.position += 1
        if self.position == self.gray.shape[1]:  # the gray image is complete
            image = self.gray.view(len(value), *self.model.shape[1:])
            self.second, self.position = self.model.colors.start(len(value), self.model._float(image)), 0
