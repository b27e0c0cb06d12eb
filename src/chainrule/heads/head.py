"""What every head of an image model has: from a pixel's features to the distributions of its channels.

The channels of a pixel are walked over in turn. `forward` gives all conditionals of whole pixels, for training and for
scoring; `start`, `logits` and `observe` give them one by one, for sampling and decoding; `loss` is what training
minimises. Features come channels last, so that `forward` and `start` see the same layout.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from chainrule.contract import InverseCDF
from chainrule.errors import ModelError
from chainrule.heads.softmax import Softmax
from chainrule.nn import LevelEncoding, MaskedConv2d


class Head(nn.Module):
    """Base of the heads.

    Args:
        channels, levels: of the pixels.
        filters: length of a pixel's features.
        encoding: how a pixel's channels enter a network.
    """

    has_likelihood = True
    loss_unit = "bits/dim"
    independent_channels = False
    """Whether the channels of a pixel are independent of each other, given the earlier pixels."""
    tabulates = True
    """Whether its exact form gives the frequencies of all levels at once; one that does not has `edges`."""
    composes_exactly = False
    """Whether it computes only layers with an exact form, sums and ReLUs; each class has to say so itself."""

    def __init__(self, channels: int, levels: int, filters: int, encoding: LevelEncoding) -> None:
        super().__init__()
        self.channels, self.levels = channels, levels

    def outer_layers(self) -> Sequence[nn.Module]:
        """The layers that give the head's output: not hidden ones, for an optimiser that tells them apart."""
        return ()

    @abstractmethod
    def forward(self, features: Tensor, v: Tensor) -> Tensor:
        """All conditionals of whole pixels.

        Args:
            features: (..., filters).
            v: levels as floats, (..., C).

        Returns:
            Logits, (..., C, levels); of a head without a likelihood, what its inverse CDFs are made of.
        """

    @abstractmethod
    def start(self, features: Tensor, before: Any = None) -> Any:
        """Begin with the first channel of a pixel.

        Args:
            features: (B, filters).
            before: the state of the pixel before, whose prepared weights may be used again.
        """

    @abstractmethod
    def logits(self, state: Any) -> Tensor | InverseCDF:
        """The conditional of the channel at hand: (B, levels), or an inverse CDF."""

    @abstractmethod
    def observe(self, state: Any, value: Tensor) -> Any:
        """The state once the channel at hand took `value`, integers (B,)."""

    def edges(self, features: Tensor, v: Tensor) -> Tensor:
        """Where the levels of whole pixels lie in the conditionals of an exact model, without a table of all levels.

        Args:
            features: (..., filters).
            v: levels, (..., C).

        Returns:
            int64 (..., C, 2): the sum of the frequencies of all lower levels, and that of the level itself.

        Raises:
            ModelError: the model is not exact, or the head tabulates.
        """
        raise ModelError(f"a {type(self).__name__} tabulates: take its frequencies")

    def quantiles(self, h: Tensor, tau: Tensor) -> Tensor:
        """The τ-quantiles, (..., C) on the scale of [-1, 1], of what `forward` gave, for a `tau` that broadcasts.

        Raises:
            ModelError: this head predicts none.
        """
        raise ModelError(f"a {type(self).__name__} predicts no quantiles: use a quantile head")

    def run_layers(self, features: Tensor, v: Tensor) -> None:
        """Run every layer once, for whoever watches their inputs; less than `forward` where much follows the last."""
        self(features, v)

    def loss(self, features: Tensor, v: Tensor) -> Tensor:
        """What training minimises, entry by entry: −log p of each channel given the earlier ones.

        Args:
            features: (..., filters).
            v: levels as floats, (..., C).

        Returns:
            Nats (or the head's own unit), (..., C).
        """
        return -Softmax().log_prob(self(features, v), v)


def output_layer(filters: int, outputs: int) -> MaskedConv2d:
    """A 1×1 convolution to logits: near uniform at first, yet with a gradient everywhere."""
    layer = MaskedConv2d(filters, outputs, 1, "B")
    layer.weight.data.mul_(0.1)
    nn.init.zeros_(layer.bias)
    return layer
