"""What is minimised: the model's own loss, smoothed, compiled and in bfloat16 where that is asked for."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.errors import ModelError


class Objective(nn.Module):
    """The loss as a module of its own, so that wrapping it for several processes leaves the model as it was.

    Raises:
        ModelError: labels are to be smoothed, and the model has no probabilities.
    """

    def __init__(self, model: Any, smoothing: float = 0.0, *, compiled: bool = False, bfloat16: bool = False):
        super().__init__()
        if smoothing and not model.has_likelihood:
            raise ModelError(
                f"--train.label-smoothing: {type(model).__name__} gives levels no probabilities: leave it out"
            )
        self.model, self.autocast = model, bfloat16
        loss = functools.partial(smoothed_loss, model, smoothing) if smoothing else model.loss
        self.loss = torch.compile(loss) if compiled else loss

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            loss: Tensor = self.loss(x, context)
        return loss.float() if self.autocast else loss


def smoothed_loss(model: Any, smoothing: float, x: Tensor, context: Tensor | None = None) -> Tensor:
    """The mean cross-entropy, in nats per dimension, to targets of which all possible levels share `smoothing` alike.

    Reference: Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016, section 7
    """
    y, log_p = model.with_auxiliaries(x), model.log_pmf(x, context)
    possible = log_p > -torch.inf
    uniform = log_p.masked_fill(~possible, 0).sum(-1) / possible.sum(-1)
    chosen = log_p.gather(-1, y.long()[..., None])[..., 0]
    loss: Tensor = -torch.lerp(chosen, uniform, smoothing).flatten(1).sum(1).mean() / x[0].numel()
    return loss
