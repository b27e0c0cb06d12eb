"""The integer conditionals along given events, all at once: what an entropy encoder needs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from chainrule import compiled as native
from chainrule import sampling
from chainrule.fixedpoint.making import exact
from chainrule.models import AutoregressiveModel

PASS_ENTRIES, PASS_EVENTS = 2**22, 64
"""A parallel pass takes so many frequencies, and so many events, at once."""


def order_of(model: AutoregressiveModel) -> Tensor:
    """For each site in the order of the walk, its place in what a walk fills, flattened."""
    places = torch.arange(math.prod(model.walk_shape)).view(model.walk_shape)
    return torch.stack([places[site.index] for site in model.sites()])


def frequencies(model: AutoregressiveModel, x: Tensor, context: Any = None) -> Tensor:
    """The frequencies of every level at every site of given events.

    Compiled code walks over the events where it can; elsewhere parallel passes give the same integers.

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
    twin: Any = exact(model)
    x = twin.with_auxiliaries(twin.checked(x))
    context = twin.checked_context(context, len(x))
    with torch.no_grad(), sampling.evaluating(twin):
        program = twin.program()
        return native.score(program, x.cpu()) if program is not None else _by_passes(twin, x, context)


def _by_passes(twin: Any, x: Tensor, context: Any = None) -> Tensor:
    order, n = order_of(twin), len(x)
    levels = max(site.levels for site in twin.sites())
    batch = max(1, min(PASS_EVENTS, PASS_ENTRIES // (len(order) * levels)))
    table = torch.empty(len(order), n, levels, dtype=torch.int32)
    for start in range(0, n, batch):
        given = None if context is None else context[start : start + batch]
        part = twin.head.frequencies(twin._logits(twin._float(x[start : start + batch]), given))
        table[:, start : start + batch] = part.flatten(1, -2).cpu()[:, order].transpose(0, 1)
    return table
