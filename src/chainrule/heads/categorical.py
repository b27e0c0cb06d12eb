"""The categorical head: logits, one for each level, through a softmax."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from chainrule.compiled import known


def log_pmf(logits: Tensor) -> Tensor:
    """log p of every level: (..., levels) → the same shape, nats, at least float32."""
    return logits.log_softmax(-1) if logits.dtype.itemsize > 4 else logits.float().log_softmax(-1)


def log_prob(logits: Tensor, x: Tensor) -> Tensor:
    """log p of the given levels: logits (..., levels) and integers (...) → nats of shape (...)."""
    flat = logits.reshape(-1, logits.shape[-1])
    flat = flat if flat.dtype.itemsize > 4 else flat.float()
    return -F.cross_entropy(flat, x.reshape(-1).long(), reduction="none").view(x.shape)


def pmf(logits: Tensor) -> Tensor:
    """Probabilities in float64, for a walk: (..., levels) → the same shape."""
    return logits.double().softmax(-1)


@known
class Categorical:
    """The head as a model holds it, so that an exact twin can hold another with the same three methods."""

    log_pmf = staticmethod(log_pmf)
    log_prob = staticmethod(log_prob)
    pmf = staticmethod(pmf)
