"""PixelCNN-MADE: a PixelCNN over the pixels, a MADE over the channels of each.

    p(x) = ∏_i ∏_c p(x_i^c | x_i^<c, x_<i) = ∏_i ∏_c g(x_i^c | x_i^<c, φ(x_<i))    (assignment, equations 3 to 5)

φ are the features of the PixelCNN's stack, and g is a MADE over the C channels of one pixel that takes φ as auxiliary
input: its hidden units have the ranks 0 … C-1, those of rank r see φ and the first r channels.

References:
    van den Oord et al., Pixel Recurrent Neural Networks, 2016, https://arxiv.org/abs/1601.06759
    Germain et al., MADE: Masked Autoencoder for Distribution Estimation, 2015, https://arxiv.org/abs/1502.03509
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.compiled import Program, known
from chainrule.errors import ModelError
from chainrule.models.pixelcnn import PixelCNN, PixelState
from chainrule.nn import MADENetwork
from chainrule.nn.made_network import MADEWalk, StepWeights

MOST_COMBINATIONS = 4096


@known
class PixelCNNMADE(PixelCNN):
    """PixelCNN whose channels depend on each other through a MADE; arguments as for `PixelCNN`.

    The MADE has one hidden layer, with `filters` units for each channel.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = PixelCNNMADE((3, 2, 2), 4, filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> model.log_prob(x).shape
        torch.Size([2])
    """

    def _make_head(self, filters: int) -> None:
        channels = self.shape[0]
        self.made = MADENetwork(channels, self.levels, [channels * filters], auxiliary=filters)

    def _head(self, features: Tensor, v: Tensor) -> Tensor:
        logits = self.made(v.permute(0, 2, 3, 1), features.permute(0, 2, 3, 1))  # (B, H, W, C, levels)
        return logits.permute(0, 3, 1, 2, 4)

    def independent_log_prob(self, x: Tensor, context: Any = None) -> Tensor:
        """What `log_prob` would be if each channel were predicted without the others of its pixel.

        Each channel's distribution given the earlier pixels is the marginal of the pixel's joint distribution. What is
        lost beside `log_prob` is what the channels of a pixel tell of each other, their total correlation: so much, a
        factorised model of the same features pays whatever its size.

        Args:
            x: integers (B, C, H, W).
            context: as for `log_prob`.

        Returns:
            Nats, float64, shape (B,).

        Raises:
            DataError: `x` or the context is not as the model takes it.
            ModelError: a pixel has more than 4,096 values.

        Reference: Watanabe, Information Theoretical Analysis of Multivariate Correlation, 1960 (total correlation)

        Example:
            >>> _ = torch.manual_seed(0)
            >>> model = PixelCNNMADE((1, 2, 2), 4, filters=8, blocks=1)
            >>> x = torch.zeros(1, 1, 2, 2).long()
            >>> bool((model.independent_log_prob(x) - model.log_prob(x)).abs() < 1e-5)      # there is but one channel
            True
        """
        channels, levels = self.shape[0], self.levels
        if levels**channels > MOST_COMBINATIONS:
            raise ModelError(
                f"{channels} channels of {levels} levels have too many combinations to add up their probabilities: "
                f"use a model whose pixels have at most {MOST_COMBINATIONS:,}"
            )
        x = self.checked(x).long()
        features = self._features(self._float(x), self.checked_context(context, len(x))).permute(0, 2, 3, 1)
        pixels, last = x.permute(0, 2, 3, 1), (*features.shape[:3], channels)
        earlier = features.new_zeros(*features.shape[:3], 1, dtype=torch.float64)  # log p of each combination so far
        total = features.new_zeros(len(x), dtype=torch.float64)
        for channel in range(channels):
            conditionals = []
            for values in itertools.product(range(levels), repeat=channel):
                v = features.new_tensor([*values, *[0] * (channels - channel)]).expand(last)
                conditionals.append(self.made(v, features)[..., channel, :].double().log_softmax(-1))
            joint = earlier[..., None] + torch.stack(conditionals, -2)  # (B, H, W, combinations, levels)
            marginal = joint.logsumexp(-2)
            total += marginal.gather(-1, pixels[..., channel, None]).sum((1, 2, 3))
            earlier = joint.flatten(-2)
        return total

    def _head_layer(self) -> nn.Module:
        assert self.made.from_auxiliary is not None
        return self.made.from_auxiliary

    def _add_head(self, program: Program, features: int) -> bool:
        return self.made.add_to(program, features)

    def _start_head(self) -> StepWeights:
        return self.made.step_weights()

    def _step_head(self, features: Tensor, state: PixelState) -> MADEWalk:
        return self.made.start(len(features), features, state.head)

    def _step_logits(self, state: PixelState) -> Tensor:
        return self.made.logits(state.pixel)

    def _step_observe(self, state: PixelState, value: Tensor) -> None:
        state.pixel = self.made.observe(state.pixel, value)
