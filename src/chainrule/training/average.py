"""A moving average of a model's weights, which is often better than the weights themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


class WeightAverage:
    """An exponential moving average of the weights of `model`; with decay 0, the weights themselves.

    Early on the decay is (1 + t) / (10 + t), so that the average is not held back by the initial weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = list(model.parameters())
        self.values = [p.detach().clone() for p in self.parameters] if decay else []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step`, counted from 0."""
        if self.decay:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for p, value in zip(self.parameters, self.values, strict=False):  # without an average there are no values
            p.data, value.data = value.data, p.data
