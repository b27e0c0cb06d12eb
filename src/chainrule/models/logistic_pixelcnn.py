"""PixelCNN with a discretised mixture of logistics, for many levels that lie in an order.

    p(x) = ∏_i p(x_i | x_<i),   p(x_i | x_<i) = Σ_k π_k ∏_c p(x_i^c | k, x_i^<c, x_<i)

The trunk of `PixelCNN`; from its features come, for each pixel, the weights of K components that the pixel's channels
share, and for each channel and component a mean and a scale, and how the mean moves with the channels before
(`chainrule.heads.logistic`). A softmax knows nothing of 127 when it has learned 128; a logistic is smooth over the
levels, and its size does not grow with their number.

Deviations from the paper: PixelCNN's trunk, with residual blocks and a blind spot, not the paper's downsampling one;
those of the head are on its own page.

Reference: Salimans et al., PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other
Modifications, 2017, https://arxiv.org/abs/1701.05517
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from chainrule import heads
from chainrule.compiled import Program
from chainrule.errors import ModelError
from chainrule.heads.logistic import SHARPEST, MixtureWalk, offset
from chainrule.models.pixelcnn import PixelCNN, PixelState
from chainrule.nn import MaskedConv2d


class LogisticPixelCNN(PixelCNN):
    """PixelCNN whose pixels are discretised mixtures of logistics; the other arguments as for `PixelCNN`.

    Args:
        components: logistics in each pixel's mixture.

    Raises:
        ModelError: there are no components; or as for `PixelCNN`.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = LogisticPixelCNN((3, 2, 2), 256, filters=8, blocks=1, components=4)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> model.log_prob(x).shape
        torch.Size([2])
    """

    head: heads.LogisticMixture  # type: ignore[assignment]

    def __init__(
        self,
        shape: tuple[int, int, int],
        levels: int,
        filters: int = 128,
        blocks: int = 12,
        layer_norm: bool = True,
        components: int = 10,
    ) -> None:
        if components < 1:
            raise ModelError(f"a mixture of {components} logistics is none: use at least 1 component")
        self.components = int(components)
        super().__init__(shape, levels, filters, blocks, layer_norm)

    def _make_head(self, filters: int) -> None:
        self.head = heads.LogisticMixture(self.shape[0], self.levels, self.components)
        self.output = MaskedConv2d(filters, self.head.numbers, 1, "B")
        self.output.weight.data.mul_(0.1)
        nn.init.zeros_(self.output.bias)
        _, means, sharpness, _ = self.output.bias.data.split(self.head.sizes())
        # At first the components stand side by side over the whole range, each as wide as its share of it.
        places = (2 * torch.arange(self.components) + 1) / self.components - 1
        means.copy_(places.repeat(self.shape[0]))
        share = min(self.components / (SHARPEST * (self.levels - 1)), 0.5)
        sharpness.fill_(math.log(share / (1 - share)) + offset(self.levels))

    # -------------------------------------------------------------------------------------------------- parallel pass

    def _site_log_probs(self, x: Tensor, context: Any) -> Tensor:
        self._refuse_context(context)
        v = self._float(x)
        raw = self._pixel_parameters(self._features(v))
        return self.head.site_log_probs(raw, v.permute(0, 2, 3, 1).to(raw.dtype)).permute(0, 3, 1, 2)

    def _head(self, features: Tensor, v: Tensor) -> Tensor:
        return self.head.logits(self._pixel_parameters(features), v.permute(0, 2, 3, 1)).permute(0, 3, 1, 2, 4)

    def _pixel_parameters(self, features: Tensor) -> Tensor:
        """(B, filters, H, W) → (B, H, W, numbers); a mean among 256 levels needs more than bfloat16's eight bits."""
        with torch.autocast(features.device.type, enabled=False):
            return self.output(features.to(self.output.weight.dtype)).permute(0, 2, 3, 1)

    # ---------------------------------------------------------------------------------------------------------- steps

    def program(self) -> Program | None:
        return None

    def _step_head(self, features: Tensor, state: PixelState) -> MixtureWalk:
        return self.head.start(self.output.pointwise(features))

    def _step_logits(self, state: PixelState) -> Tensor:
        return self.head.step_logits(state.pixel)

    def _step_observe(self, state: PixelState, value: Tensor) -> None:
        state.pixel = self.head.observe(state.pixel, value)
