"""A moving average of a model's weights, which is often better than the weights themselves."""

from __future__ import annotations

import torch
from torch import nn


class WeightAverage:
    """An exponential moving average of the weights; with decay 0, the weights themselves.

    Early on the decay is (1 + t) / (10 + t), so that the average is not held back by the initial weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = list(model.parameters())
        self.values = [p.detach().clone() for p in self.parameters] if decay else []

    @torch.no_grad()
    def update(self, step: int) -> None:
        if self.decay:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    def applied(self, model: nn.Module) -> WeightAverage:
        return self

    def _swap(self) -> None:
        for p, value in zip(self.parameters, self.values, strict=True):
            p.data, value.data = value.data, p.data

    def __enter__(self) -> None:
        if self.decay:
            self._swap()

    def __exit__(self, *error: object) -> None:
        if self.decay:
            self._swap()
