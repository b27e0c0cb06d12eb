"""Image models: a trunk over the pixels, a head over the channels of each pixel.

    p(x) = ∏_i ∏_c p(x_i^c | x_i^<c, φ(x_<i))

φ are the features that the trunk (`chainrule.nn`) makes of the earlier pixels in raster order; the head
(`chainrule.heads`) turns them into the distributions of the pixel's channels. Any trunk goes with any head. The public
classes (`PixelCNN`, `GatedPixelCNNMADE`, …) name the pairs that papers describe.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule.contract import Conditional, InverseCDF, Site, Walk
from chainrule.errors import DataError, ModelError
from chainrule.heads import HEADS
from chainrule.models import checking
from chainrule.models.base import AutoregressiveModel
from chainrule.nn import (
    AttentionTrunk,
    GatedTrunk,
    LevelEncoding,
    MaskedTrunk,
    PredictingTrunk,
    SnailTrunk,
    Trunk,
)

STRIP = 2**16
"""Pixels of a picture of any size whose features are computed at once, where no gradient is asked for."""

TRUNKS: dict[str, type[Trunk]] = {
    "masked": MaskedTrunk,
    "gated": GatedTrunk,
    "attention": AttentionTrunk,
    "snail": SnailTrunk,
}


class ImageModel(AutoregressiveModel):
    """A trunk and a head, by name.

    Args:
        shape: (C, H, W), or (C, None, None) for images of any size.
        levels: values of every channel, 0 … levels - 1.
        trunk: "masked" (PixelCNN), "gated" (Gated PixelCNN), "attention" (ImageGPT) or "snail" (PixelSNAIL).
        head: "factorised", "made", "logistic" or "quantile": a name in `HEADS`.
        filters: channels of the residual stream; of each stack, in a gated trunk.
        blocks: residual blocks, each of which widens the receptive field by one pixel.
        layer_norm: normalise over the channels of a pixel before every block.
        classes: labels that a gated or attention trunk is conditional on, 0 for none; the `context` is then integers of
            shape (B,) in [0, classes). The same seed gives the same weights, except for the labels' own.
        components: of each pixel's mixture, for a mixture head such as the logistic; None for its default.
        copies: further components, each of which copies a neighbour (`chainrule.heads.mixture`), for a logistic head;
            without a prediction there are none.
        embedding: cosines that τ is embedded in, for the quantile head; None for its default.
        encoding: how levels enter the network: "onehot" (also for codes without an order), "number", or "auto".
        prediction: how many kinds of least squares predict each pixel first (`chainrule.nn.prediction`), 0 to 2, for a
            logistic head; None for 1. Where levels enter as one-hot vectors there are none.

    Raises:
        ModelError: a name does not exist, a size is impossible, or an argument belongs to another head or trunk.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = ImageModel((3, 4, 4), 256, "gated", "logistic", filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> x.shape, model.log_prob(x).shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2]))
    """

    composes_exactly = True
    takes_any_size = True

    head: Any

    def __init__(
        self,
        shape: tuple[int, int | None, int | None],
        levels: int,
        trunk: str = "masked",
        head: str = "factorised",
        filters: int = 128,
        blocks: int = 12,
        layer_norm: bool = True,
        classes: int = 0,
        components: int | None = None,
        embedding: int | None = None,
        encoding: str = "auto",
        prediction: int | None = None,
        copies: int = 0,
    ) -> None:
        super().__init__(shape, levels)
        if len(self.shape) != 3:
            raise ModelError(f"{type(self).__name__} models images: its shape is (C, H, W), not {self.shape}")
        for what, name, known in (("trunk", trunk, TRUNKS), ("head", head, HEADS)):
            if name not in known:
                raise ModelError(f"the {what} {name!r} does not exist: use {', '.join(known)}")
        options = {name: n for name, n in (("components", components), ("embedding", embedding)) if n is not None}
        taken = inspect.signature(HEADS[head]).parameters.keys()
        if options.keys() - taken:
            raise ModelError(f"a {head} head has no {', '.join(options.keys() - taken)}: leave it out")
        if classes < 0:
            raise ModelError(f"{classes} classes are none: use 0 for a model without labels")
        channels = self.shape[0]
        self.encoding = LevelEncoding(self.levels, encoding)
        inputs, one_hot = channels * self.encoding.width, self.encoding.one_hot
        if prediction and "predictions" not in taken:
            raise ModelError(f"a {head} head starts from no prediction: leave it out")
        if prediction not in (None, 0, 1, 2):
            raise ModelError(f"there are no {prediction} kinds of least squares: use 0, 1 or 2")
        if copies and "predictions" not in taken:
            raise ModelError(f"a {head} head has no copies: leave them out")
        # how levels enter depends on the data, so a recipe's predictions and copies hold where there can be any
        kinds = 0 if "predictions" not in taken or one_hot else 1 if prediction is None else int(prediction)
        if kinds:
            inner = TRUNKS[trunk]((1 + kinds) * inputs, filters, blocks, layer_norm, size=self.shape[1:])
            self.trunk: Trunk | PredictingTrunk = PredictingTrunk(channels, self.levels, inner, kinds)
            options |= {"predictions": self.trunk.predictions, "copies": copies}
        else:
            self.trunk = TRUNKS[trunk](inputs, filters, blocks, layer_norm, one_hot=one_hot, size=self.shape[1:])
        self.head = HEADS[head](channels, self.levels, filters, self.encoding, **options)
        self.has_likelihood, self.loss_unit = self.head.has_likelihood, self.head.loss_unit
        self.coded_by_fronts = self.any_size and trunk == "masked" and not classes
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.classes = int(classes)
        self.needs_context = self.classes > 0
        if classes:
            self.trunk.condition(self.classes, one_hot=self.classes)

    def outer_layers(self) -> list[torch.nn.Module]:
        return [*self.trunk.outer_layers(), *self.head.outer_layers()]

    # ---------------------------------------------------------------------------------------------------- the context

    def checked_context(self, context: Any, n: int) -> Any:
        if not self.classes:
            return super().checked_context(context, n)
        if context is None:
            raise ModelError(
                f"{type(self).__name__} is conditional on {self.classes} classes: give `context`, one label an event"
            )
        return checking.labels(context, self.classes, n).to(self.device)

    def example_context(self, n: int) -> Any:
        return torch.arange(n, device=self.device) % self.classes if self.classes else None

    def context_map(self, context: Any) -> Tensor | None:
        """What the trunk is conditioned on, (B, D, H or 1, W or 1), of a checked context; None without."""
        if not self.classes:
            self._refuse_context(context)
            return None
        if context is None:
            self.checked_context(context, 0)
        return self._float(F.one_hot(context.to(self.device).long(), self.classes))[:, :, None, None]

    # -------------------------------------------------------------------------------------------------- parallel pass

    def features(self, v: Tensor, context: Any = None) -> Tensor:
        """φ: what each pixel knows of the earlier ones; levels as floats (B, C, H, W) → (B, H, W, filters).

        Behind a prediction, the predictions of every channel and their slopes follow the filters.
        """
        encoded = self.encoding(v.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.trunk(encoded, self.context_map(context)).permute(0, 2, 3, 1)

    def _logits(self, v: Tensor, context: Any = None) -> Tensor:
        logits = self.head(self.features(v, context), v.permute(0, 2, 3, 1))  # (B, H, W, C, levels)
        return logits.permute(0, 3, 1, 2, 4)

    def _run_layers(self, v: Tensor, context: Any = None) -> None:
        self.head.run_layers(self.features(v, context), v.permute(0, 2, 3, 1))

    def _site_log_probs(self, y: Tensor, context: Any) -> Tensor:
        if self.any_size and not torch.is_grad_enabled() and math.prod(y.shape[2:]) > STRIP:
            return self._in_strips(y, context)
        if self.softmax.exact or not self.has_likelihood:
            return super()._site_log_probs(y, context)
        v = self._float(y).permute(0, 2, 3, 1)
        features = self.trunk(self.encoding(v).permute(0, 3, 1, 2), self.context_map(context))
        return -self.head.loss(features.permute(0, 2, 3, 1), v).permute(0, 3, 1, 2)

    def _in_strips(self, y: Tensor, context: Any) -> Tensor:
        """The same in bounded memory: a few rows at a time, with as many above them as their features know of."""
        height, width = y.shape[2:]
        rows = max(1, STRIP // width - self.trunk.reach)
        found = []
        for top in range(0, height, rows):
            begin = max(0, top - self.trunk.reach)
            strip = self.sized(min(top + rows, height) - begin, width)
            found.append(strip._site_log_probs(y[:, :, begin : top + rows], context)[:, :, top - begin :])
        return torch.cat(found, 2)

    def loss(self, x: Tensor, context: Any = None) -> Tensor:
        """What training minimises, a scalar: nats per dimension, or the mean of the head's own loss."""
        if self.has_likelihood:
            return super().loss(x, context)
        v = self._float(self.with_auxiliaries(x))
        return self.head.loss(self.features(v, context), v.permute(0, 2, 3, 1)).mean()

    @torch.no_grad()
    def rough_cost(self, x: Tensor) -> int | None:
        """Roughly the bits that least squares leave of pictures (B, C, H, W), in units of 2^-16; None without them."""
        if not isinstance(self.trunk, PredictingTrunk):
            return None
        return self.trunk.rough_cost(2 * x.to(self.device, torch.float64) - (self.levels - 1))

    def quantiles(self, x: Tensor, tau: Tensor | float, context: Any = None) -> Tensor:
        """The predicted τ-quantile of each entry given the earlier entries of `x`, for a quantile head.

        Args:
            x: integers of shape (B, *shape), in [0, levels).
            tau: one for all entries, or floats that broadcast to that shape; in [0, 1].

        Returns:
            (B, *shape), in levels, before rounding; they may leave [0, levels - 1] a little.

        Raises:
            DataError: `x` holds no events of this model, or `tau` leaves [0, 1] or has another shape.
            ModelError: the model predicts no quantiles.
        """
        x = self.checked(x)
        v = self._float(self.with_auxiliaries(x))
        tau = torch.as_tensor(tau, dtype=v.dtype, device=v.device)
        if tau.numel() and not bool(((tau >= 0) & (tau <= 1)).all()):
            raise DataError("a quantile is named by a number from 0 to 1: pass such `tau`")
        if tau.ndim:
            try:
                tau = self.with_auxiliaries(tau.broadcast_to(x.shape)).permute(0, 2, 3, 1)
            except RuntimeError:
                raise DataError(
                    f"`tau` has shape {tuple(tau.shape)}, which does not fit the events' shape {tuple(x.shape)}"
                ) from None
        h = self.head(self.features(v, self.checked_context(context, len(x))), v.permute(0, 2, 3, 1))
        found = (self.head.quantiles(h, tau).permute(0, 3, 1, 2) + 1.0) * ((self.levels - 1) / 2.0)
        return self.without_auxiliaries(found)

    # ---------------------------------------------------------------------------------------------------------- steps

    def start(self, batch: int, context: Any = None) -> ImageWalk:
        self._need_size()
        return ImageWalk(self, batch, self.context_map(context))

    def full_conditional(self, y: Tensor, site: Site, context: Any = None) -> Conditional:
        if self.has_likelihood:
            return super().full_conditional(y, site, context)
        channel, row, column = site.index
        v = self._float(y)
        h = self.head(self.features(v, context), v.permute(0, 2, 3, 1))
        return self.head.inverse_cdf(h[:, row, column, channel], channel)  # type: ignore[operator]


class ImageWalk(Walk):
    """A walk of an image model: the trunk goes from pixel to pixel, the head from channel to channel."""

    def __init__(self, model: ImageModel, batch: int, context: Tensor | None) -> None:
        channels, height, width = model.walk_shape
        self.model, self.channels, self.channel = model, channels, 0
        self.state = model.trunk.start(batch, height, width, context)
        self.table = model.encoding.table(next(model.parameters()))  # how each level of a channel enters
        self.values = torch.zeros(batch, channels, dtype=torch.long, device=model.device)
        self.pixel: Any = None  # the head's state
        self.begun = False  # whether the features of the pixel at hand have been computed
        repeats = model.trunk.periodic and (context is None or context.shape[2] == 1)
        self.period = channels * width if repeats else 0  # a row

    def logits(self) -> Tensor | InverseCDF:
        """What the head has to say of the next site."""
        if not self.begun:
            self.pixel = self.model.head.start(self.model.trunk.step(self.state), self.pixel)
            self.begun = True
        return self.model.head.logits(self.pixel)

    def conditional(self) -> Conditional:
        found = self.logits()
        return self.model.softmax.pmf(found) if isinstance(found, Tensor) else found

    def observe(self, value: Tensor) -> None:
        if not self.begun:
            self.logits()
        self.values[:, self.channel] = value
        self.channel += 1
        if self.channel < self.channels:
            self.pixel = self.model.head.observe(self.pixel, value)
            return
        self.model.trunk.observe(self.state, self.table[self.values].flatten(1))
        self.channel, self.begun = 0, False
