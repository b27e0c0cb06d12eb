"""Two variables: a histogram for the first, a multilayer perceptron for the second given the first.

    p(x_1, x_2) = p(x_1) p(x_2 | x_1)                                           (assignment, part 2.1)

`p(x_1)` is a softmax over one table of logits, `p(x_2 | x_1)` the softmax of an MLP that reads x_1 in one of three
encodings: as a one-hot vector, as one real number, or as a learned vector for each level.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from chainrule.contract import Walk
from chainrule.errors import ModelError
from chainrule.models.base import AutoregressiveModel
from chainrule.nn import one_hot

Encoding = Literal["onehot", "scalar", "embedding"]


class ConditionalMLP(AutoregressiveModel):
    """A model of pairs; events have shape (2,).

    Args:
        levels: of both entries.
        encoding: how x_1 enters the MLP: "onehot", "scalar" (scaled to zero mean and unit variance over the levels) or
            "embedding" (a learned vector of `embedding` numbers).
        hidden: widths of the hidden layers.
        embedding: length of the learned vectors.

    Raises:
        ModelError: the encoding does not exist.

    Example:
        >>> model = ConditionalMLP(5, encoding="scalar")
        >>> model.log_prob(torch.tensor([[0, 4], [2, 2]])).shape
        torch.Size([2])
    """

    composes_exactly = True

    def __init__(
        self, levels: int, encoding: Encoding = "onehot", hidden: Sequence[int] = (128, 128), embedding: int = 32
    ) -> None:
        super().__init__((2,), levels)
        if encoding not in get_args(Encoding):
            raise ModelError(f"the encoding {encoding!r} does not exist: use {', '.join(get_args(Encoding))}")
        hidden = [int(width) for width in hidden]
        if min([*hidden, embedding]) < 1:
            raise ModelError(f"hidden widths {hidden} and embedding {embedding} must all be at least 1")
        self.encoding = encoding
        self.theta = nn.Parameter(torch.zeros(levels))
        self.table = nn.Parameter(torch.randn(levels, embedding)) if encoding == "embedding" else None
        inputs = {"onehot": levels, "scalar": 1, "embedding": embedding}[encoding]
        widths = [inputs, *hidden]
        layers: list[nn.Module] = []
        for below, above in itertools.pairwise(widths):
            layers += [nn.Linear(below, above), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(widths[-1], levels))
        first: Any = self.mlp[0]
        first.one_hot = levels if encoding == "onehot" else 0

    def _logits(self, v: Tensor, context: Any = None) -> Tensor:
        self._refuse_context(context)
        if v.requires_grad:
            second = self.mlp(self._encode(v[:, 0]))
        else:  # there are at most `levels` different inputs, however large the batch
            distinct, place = v[:, 0].unique(return_inverse=True)
            second = self.mlp(self._encode(distinct))[place]
        return torch.stack([self.theta.expand_as(second), second], 1)

    def _encode(self, v: Tensor) -> Tensor:
        """(B,) → (B, inputs)."""
        if self.encoding == "scalar":
            half = (self.levels - 1) / 2
            return ((v - half) * (math.sqrt(3) / half))[:, None]
        vectors = one_hot(v, self.levels)
        return vectors if self.table is None else vectors @ self.table

    def start(self, batch: int, context: Any = None) -> PairWalk:
        self._refuse_context(context)
        return PairWalk(self, batch)


class PairWalk(Walk):
    """The first entry from the table, the second from the network."""

    def __init__(self, model: ConditionalMLP, batch: int) -> None:
        self.model, self.batch = model, batch
        self.first: Tensor | None = None  # the first entry once it is known, integers (B,)

    def conditional(self) -> Tensor:
        model = self.model
        if self.first is None:
            return model.softmax.pmf(model.theta).expand(self.batch, -1)
        return model.softmax.pmf(model.mlp(model._encode(model._float(self.first))))

    def observe(self, value: Tensor) -> None:
        self.first = value
