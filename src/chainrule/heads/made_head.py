"""The MADE head: a MADE ties the channels of a pixel together, with the features as its auxiliary input.

    p(x_i | x_<i) = ∏_c g(x_i^c | x_i^<c, φ(x_<i))                            (assignment, equations 3 to 5)

The MADE's hidden units have the ranks 0 … C-1; those of rank r see the features and the first r channels.

Reference: Germain et al., MADE: Masked Autoencoder for Distribution Estimation, 2015, https://arxiv.org/abs/1502.03509
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from chainrule.heads.head import Head
from chainrule.nn import LevelEncoding, MADENetwork
from chainrule.nn.made_network import MADEWalk


class MADEHead(Head):
    """One hidden layer of `filters` units for each channel; arguments as for `Head`."""

    composes_exactly = True

    def __init__(self, channels: int, levels: int, filters: int, encoding: LevelEncoding) -> None:
        super().__init__(channels, levels, filters, encoding)
        self.made = MADENetwork(channels, levels, [channels * filters], auxiliary=filters)

    def outer_layers(self) -> Sequence[nn.Module]:
        return (self.made.output,)

    def forward(self, features: Tensor, v: Tensor) -> Tensor:
        return self.made(v, features)

    def start(self, features: Tensor, before: MADEWalk | None = None) -> MADEWalk:
        return self.made.start(len(features), features, None if before is None else before.weights)

    def logits(self, state: MADEWalk) -> Tensor:
        return self.made.logits(state)

    def observe(self, state: MADEWalk, value: Tensor) -> MADEWalk:
        return self.made.observe(state, value)
