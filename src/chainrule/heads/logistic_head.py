"""The logistic head: a pixel is a discretised mixture of logistics (`chainrule.heads.mixture`).

    p(x_i | x_<i) = Σ_k π_k ∏_c p(x_i^c | k, x_i^<c, φ(x_<i))

A softmax knows nothing of 127 when it has learned 128; a logistic is smooth over the levels, and the size of the head
does not grow with their number.

Reference: Salimans et al., PixelCNN++, 2017, section 2, https://arxiv.org/abs/1701.05517
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chainrule.errors import ModelError
from chainrule.heads.head import Head, output_layer
from chainrule.heads.mixture import COPIED, SHARPEST, LogisticMixture, MixtureWalk, offset
from chainrule.nn import LevelEncoding
from chainrule.nn.least_squares import PREDICTIONS

COPY = 0.25
"""How wide copies are at first, in half-bins: all but 4 % of a copy lies on one level."""


class LogisticHead(Head):
    """Weights, means, scales and coefficients of each pixel's mixture from its features.

    Args:
        components: logistics in each pixel's mixture; the other arguments as for `Head`.
        predictions: how many predictions of every channel the features end with; the means start from their mixture.
        copies: further components, each of which copies a neighbour, one of these predictions.

    Raises:
        ModelError: there are no components, or too few predictions to copy.
    """

    composes_exactly = True
    tabulates = False

    def __init__(
        self,
        channels: int,
        levels: int,
        filters: int,
        encoding: LevelEncoding,
        components: int = 10,
        predictions: int = 0,
        copies: int = 0,
    ) -> None:
        super().__init__(channels, levels, filters, encoding)
        if components < 1:
            raise ModelError(f"a mixture of {components} logistics is none: use at least 1 component")
        neighbours = max(min(predictions, PREDICTIONS) - COPIED, 0)  # a second kind of least squares comes after them
        if not 0 <= copies <= neighbours:
            raise ModelError(f"{copies} copies need as many neighbours: use 0 to {neighbours}")
        self.mixture = LogisticMixture(channels, levels, int(components) + copies, predictions, int(copies))
        self.output = output_layer(filters, self.mixture.numbers)
        _, means, sharpness, _, choices = self.output.bias.data.split(self.mixture.sizes())
        if predictions:
            # At first all components but copies lie at the first prediction, from half a level to a sixteenth of the
            # range wide.
            widths = torch.logspace(0, math.log2(max(levels / 8, 2)), components, 2)
            widths = torch.cat([widths, torch.full((copies,), COPY)])
            sharpness.copy_((torch.special.logit(1 / (SHARPEST * widths)) + offset(levels)).repeat(channels))
            choices.zero_()  # the first prediction alone
            return
        # At first the components stand side by side over the whole range, each as wide as its share of it.
        places = (2 * torch.arange(components) + 1) / components - 1
        means.copy_(places.repeat(channels))
        share = min(components / (SHARPEST * (levels - 1)), 0.5)
        sharpness.fill_(math.log(share / (1 - share)) + offset(levels))

    def outer_layers(self) -> Sequence[nn.Module]:
        return (self.output,)

    def forward(self, features: Tensor, v: Tensor) -> Tensor:
        return self.mixture.logits(self._numbers(features), v)

    def start(self, features: Tensor, before: MixtureWalk | None = None) -> MixtureWalk:
        return self.mixture.start(self._numbers(features))

    def logits(self, state: MixtureWalk) -> Tensor:
        return self.mixture.step_logits(state)

    def observe(self, state: MixtureWalk, value: Tensor) -> MixtureWalk:
        return self.mixture.observe(state, value)

    def edges(self, features: Tensor, v: Tensor) -> Tensor:
        found: Tensor = self.mixture.edges(self._numbers(features), v)  # type: ignore[operator]  # an exact one has it
        return found

    def run_layers(self, features: Tensor, v: Tensor) -> None:
        self._numbers(features)

    def loss(self, features: Tensor, v: Tensor) -> Tensor:
        raw = self._numbers(features)
        return -self.mixture.site_log_probs(raw, v.to(raw.dtype))

    def _numbers(self, features: Tensor) -> Tensor:
        """(..., filters) → (..., numbers); a mean among 256 levels needs more than bfloat16's eight bits.

        Predictions still follow them.
        """
        filters = self.output.in_channels
        with torch.autocast(features.device.type, enabled=False):
            numbers = self.output.pointwise(features[..., :filters].to(self.output.weight.dtype))
        return (
            torch.cat([numbers, features[..., filters:].to(numbers.dtype)], -1) if self.mixture.predictions else numbers
        )
