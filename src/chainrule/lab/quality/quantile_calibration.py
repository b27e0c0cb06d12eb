"""Calibration: whether predicted quantiles are exceeded as often as they say.

Of real values, a share t should lie at or below the predicted t-quantile. With few levels no level has exactly that
share below it, so a value that takes the model's distribution function from F(x - 1) to F(x) counts as below by the
part of that step that lies below t:

    share(t) = mean of clamp((t - F(x - 1)) / (F(x) - F(x - 1)), 0, 1)

which is t for every t if the model is right, however coarse the levels are, and neither random nor widened to bounds.

Reference: Czado, Gneiting and Held, Predictive Model Assessment for Count Data, Biometrics 65, 2009 (the nonrandomized
probability integral transform)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from chainrule.errors import DataError, ModelError
from chainrule.heads.quantile_loss import nearest_level
from chainrule.sampling import evaluating

TAUS = 64
"""Quantiles from which a model's distribution function is read."""
GRID = 19
"""Places t at which the shares are taken: 0.05, 0.10 … 0.95."""
BATCH = 25


@dataclass(frozen=True)
class Calibration:
    """Shares of real values below the predicted quantiles."""

    quantiles: list[float]
    """t, evenly spaced in (0, 1)."""
    shares: list[float]
    """The share of values below the predicted t-quantile; equal to t for a calibrated model."""
    error: float
    """Mean of |share - t|."""
    uncertain: float
    """Share of entries for which no level has all the probability, but for less than half of one of the `TAUS`."""
    uncertain_error: float
    """The error among these alone: the others are calibrated or wrong whatever t is, and most entries are such."""


def calibration(model: Any, x: Tensor, context: Any = None) -> Calibration:
    """Measure the calibration of a model's conditionals on real events.

    The distribution function of a model of quantiles is read from an even grid of them, as the share at or below each
    level: quantiles that cross are thereby put in order. That of a likelihood model is exact.

    Args:
        model: with a likelihood or a quantile head.
        x: real events, integers (N, *shape), N ≥ 1.
        context: what the model is conditioned on, one for each event; None for models that are not.

    Raises:
        DataError: there are no events, or not of the model's shape.
        ModelError: the model does not go entry by entry of the event.

    Example:
        >>> import chainrule as cr
        >>> calibration(cr.Histogram(2), torch.tensor([[0], [1]])).error < 1e-9
        True
    """
    if not len(x):
        raise DataError("there are no events to measure the calibration on: give at least one")
    t = torch.arange(1, GRID + 1, dtype=torch.float64) / (GRID + 1)
    counts = torch.zeros(2, dtype=torch.float64)
    sums = torch.zeros(2, GRID, dtype=torch.float64)
    with torch.no_grad(), evaluating(model):
        for i in range(0, len(x), BATCH):
            part = model.checked(x[i : i + BATCH]).long()
            cdf = distribution_functions(model, part, None if context is None else context[i : i + BATCH])
            upper = cdf.gather(-1, part[..., None])[..., 0].flatten().cpu()
            lower = (cdf - _steps(cdf)).gather(-1, part[..., None])[..., 0].flatten().cpu()
            unsure = (_steps(cdf).amax(-1) < 1 - 0.5 / TAUS).flatten().cpu()
            width = (upper - lower).clamp(min=1e-12)
            for k, place in enumerate(t):
                below = ((place - lower) / width).clamp(0, 1)
                sums[0, k] += below.sum()
                sums[1, k] += below[unsure].sum()
            counts += torch.tensor([len(unsure), int(unsure.sum())])
    shares = sums / counts.clamp(min=1)[:, None]
    errors = (shares - t).abs().mean(1) * (counts > 0)
    return Calibration(t.tolist(), shares[0].tolist(), float(errors[0]), float(counts[1] / counts[0]), float(errors[1]))


def distribution_functions(model: Any, x: Tensor, context: Any = None) -> Tensor:
    """P(entry ≤ level | earlier entries) of every entry and level, float64 of shape (B, *shape, levels).

    Raises:
        ModelError: the model does not go entry by entry of the event.
    """
    if len(model.walk_shape) == len(model.shape) and model.walk_shape != model.shape:
        raise ModelError(f"{type(model).__name__} does not go entry by entry: its calibration is not defined")
    if model.has_likelihood:
        return model.log_pmf(x, context).double().exp().cumsum(-1)
    v = x.to(next(model.parameters()).dtype)
    h = model.head(model.features(v, context), v.permute(0, 2, 3, 1))
    levels = torch.arange(model.levels, device=x.device)
    cdf = torch.zeros(*h.shape[:-1], model.levels, dtype=torch.float64, device=x.device)  # (B, H, W, C, levels)
    for k in range(TAUS):
        q = model.head.quantiles(h, v.new_tensor((k + 0.5) / TAUS))
        cdf += (nearest_level(q, model.levels)[..., None] <= levels).double() / TAUS
    return cdf.permute(0, 3, 1, 2, 4)


def _steps(cdf: Tensor) -> Tensor:
    return torch.diff(cdf, dim=-1, prepend=torch.zeros_like(cdf[..., :1]))
