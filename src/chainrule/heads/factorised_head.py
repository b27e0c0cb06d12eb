"""The factorised head: the channels of a pixel are independent of each other, given the earlier pixels.

p(x_i | x_<i) = ∏_c p(x_i^c | φ(x_<i))                                      (assignment, equation 2)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from chainrule.heads.head import Head, output_layer
from chainrule.nn import LevelEncoding


class FactorisedHead(Head):
    """A softmax for each channel; arguments as for `Head`.

    >>> import torch
    >>> head = FactorisedHead(3, 4, 8, LevelEncoding(4))
    >>> head(torch.zeros(2, 8), torch.zeros(2, 3)).shape
    torch.Size([2, 3, 4])
    """

    composes_exactly = True
    independent_channels = True

    def __init__(self, channels: int, levels: int, filters: int, encoding: LevelEncoding) -> None:
        super().__init__(channels, levels, filters, encoding)
        self.output = output_layer(filters, channels * levels)

    def outer_layers(self) -> Sequence[nn.Module]:
        return (self.output,)

    def forward(self, features: Tensor, v: Tensor) -> Tensor:
        return self.output.pointwise(features).unflatten(-1, (self.channels, self.levels))

    def start(self, features: Tensor, before: FactorisedState | None = None) -> FactorisedState:
        return FactorisedState(self(features, features))

    def logits(self, state: FactorisedState) -> Tensor:
        return state.all[:, state.channel]

    def observe(self, state: FactorisedState, value: Tensor) -> FactorisedState:
        state.channel += 1
        return state


@dataclass
class FactorisedState:
    """The logits of all channels, (B, C, levels), and which channel is at hand."""

    all: Tensor
    channel: int = 0
