"""The integer conditionals along given events, all at once: what an entropy encoder needs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from chainrule import sampling
from chainrule.fixedpoint.exact_model import exact
from chainrule.models import AutoregressiveModel

PASS_ENTRIES, PASS_EVENTS = 2**22, 64
"""A parallel pass takes so many frequencies, and so many events, at once."""


def order_of(model: AutoregressiveModel) -> Tensor:
    """For each site in the order of the walk, its place in what a walk fills, flattened."""
    places = torch.arange(math.prod(model.walk_shape)).view(model.walk_shape)
    return torch.stack([places[site.index] for site in model.sites()])


def frequencies(model: AutoregressiveModel, x: Tensor, context: Any = None) -> Tensor:
    """The frequencies of every level at every site of given events.

    An engine walks over the events where one can (`chainrule.sampling.engines`); parallel passes give the same
    integers elsewhere.

    Args:
        model: made exact if it is not.
        x: integers of shape (B, *shape).
        context: what the model is conditioned on.

    Returns:
        int32 (sites, B, levels) on the CPU, with sum 2^22; sites in the order of the walk. Each is at least 1, or 0 for
        a level that the site does not have or that contradicts an auxiliary variable.

    Example:
        >>> import chainrule as cr
        >>> frequencies(cr.MADE((2,), levels=4), torch.zeros(3, 2, dtype=torch.long)).sum(-1).unique().tolist()
        [4194304]
    """
    found = exact(model)
    y = found.with_auxiliaries(found.checked(x))
    found = found.like(y)
    context = found.checked_context(context, len(y))
    with torch.no_grad(), sampling.evaluating(found):
        table = sampling.engines.frequencies(found, y, context)
        return by_passes(found, y, context) if table is None else table


def by_passes(model: AutoregressiveModel, y: Tensor, context: Any = None) -> Tensor:
    """The same by parallel passes, of few events at a time."""
    order, n = order_of(model), len(y)
    levels = max(site.levels for site in model.sites())
    batch = max(1, min(PASS_EVENTS, PASS_ENTRIES // (len(order) * levels)))
    table = torch.empty(len(order), n, levels, dtype=torch.int32)
    for start in range(0, n, batch):
        rows = slice(start, start + batch)
        logits = model._logits(model._float(y[rows]), None if context is None else context[rows])
        part = model.softmax.frequencies(logits)
        table[:, rows] = part.flatten(1, -2).cpu()[:, order].transpose(0, 1)
    return table
