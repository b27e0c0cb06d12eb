"""From logits to probabilities, in floating point. `chainrule.fixedpoint` has the same in integers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.contract import Site
from chainrule.errors import ModelError


class Softmax(nn.Module):
    """The softmax of a model, a module so that an exact model can have another with the same methods.

    >>> import torch
    >>> Softmax().pmf(torch.zeros(4)).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """

    exact = False
    """Whether the probabilities have the same bits on every machine."""

    composes_exactly = True

    def arithmetic(self) -> AbstractContextManager[None]:
        """What the model's computations have to run under."""
        return nullcontext()

    def frequencies(self, logits: Tensor) -> Tensor:
        """Integers in the place of probabilities: what an exact model has.

        Raises:
            ModelError: this is not one.
        """
        raise ModelError("only an exact model has integer frequencies: make it exact with cr.exact(model)")

    def log_probs_of(self, table: Tensor, y: Tensor, sites: list[Site]) -> Tensor:
        """log p of given events from their frequencies: of an exact model.

        Raises:
            ModelError: this is not one.
        """
        return self.frequencies(table)

    def log_pmf(self, logits: Tensor) -> Tensor:
        """log p of every level: (..., levels) → the same shape, nats, at least float32."""
        return _wide(logits).log_softmax(-1)

    def log_prob(self, logits: Tensor, x: Tensor) -> Tensor:
        """log p of the given levels: logits (..., levels) and integers (...) → nats of shape (...)."""
        flat = _wide(logits.reshape(-1, logits.shape[-1]))
        return -F.cross_entropy(flat, x.reshape(-1).long(), reduction="none").view(x.shape)

    def pmf(self, logits: Tensor) -> Tensor:
        """Probabilities in float64, for a walk: (..., levels) → the same shape."""
        return logits.double().softmax(-1)


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype.itemsize > 4 else logits.float()
