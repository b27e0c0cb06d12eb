"""The softmax histogram: a table of logits, one for each level.

    p(x) = exp θ_x / Σ_x' exp θ_x'                                              (assignment, equation 1)

θ starts at zero, the uniform distribution, and is fitted by stochastic gradient descent like any other model: the point
is to see the machinery at its smallest. (Counting would give the maximum-likelihood θ in one pass.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from chainrule.contract import Walk
from chainrule.models.base import AutoregressiveModel


class Histogram(AutoregressiveModel):
    """A categorical distribution over `levels` values; events have shape (1,).

    Example:
        >>> model = Histogram(4)
        >>> model.log_prob(torch.tensor([[0], [3]])).exp().tolist()
        [0.25, 0.25]
    """

    composes_exactly = True

    def __init__(self, levels: int) -> None:
        super().__init__((1,), levels)
        self.theta = nn.Parameter(torch.zeros(levels))

    def _logits(self, v: Tensor, context: Any = None) -> Tensor:
        self._refuse_context(context)
        return self.theta.expand(len(v), 1, -1)

    def start(self, batch: int, context: Any = None) -> HistogramWalk:
        self._refuse_context(context)
        return HistogramWalk(self, batch)


class HistogramWalk(Walk):
    """One site, the same for all."""

    def __init__(self, model: Histogram, batch: int) -> None:
        self.model, self.batch = model, batch

    def conditional(self) -> Tensor:
        return self.model.softmax.pmf(self.model.theta).expand(self.batch, -1)

    def observe(self, value: Tensor) -> None:
        """Nothing follows."""
