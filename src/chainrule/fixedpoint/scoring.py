"""The integer conditionals along given events, all at once: what an entropy encoder needs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from chainrule import sampling
from chainrule.fixedpoint.exact_model import exact
from chainrule.models import AutoregressiveModel, ImageModel
from chainrule.models.front_walk import front_order

PASS_ENTRIES, PASS_EVENTS = 2**22, 64
"""How many frequencies, and how many events, a parallel pass takes at once."""
PASS_PIXELS = 2**16
"""Pixels that a parallel pass takes at once where no frequencies of all levels are needed."""


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


def edges(model: AutoregressiveModel, x: Tensor, context: Any = None, *, fronts: bool = False) -> Tensor:
    """Where the entries of given events lie in their conditionals: all that an encoder needs.

    Args:
        model: made exact if it is not.
        x: integers of shape (B, *shape).
        context: what the model is conditioned on.
        fronts: whether sites come in the order of fronts (`chainrule.models.front_walk`), and not in that of the walk.

    Returns:
        int32 (sites, B, 2) on the CPU: the sum of the frequencies of all levels below that of the entry, and its own.

    Example:
        >>> import chainrule as cr
        >>> edges(cr.MADE((2,), levels=4), torch.zeros(3, 2, dtype=torch.long))[:, :, 0].tolist()
        [[0, 0, 0], [0, 0, 0]]
    """
    found = exact(model)
    y = found.with_auxiliaries(found.checked(x))
    found = found.like(y)
    context = found.checked_context(context, len(y))
    with torch.no_grad(), sampling.evaluating(found):
        if (quick := sampling.engines.edges(found, y, context, fronts=fronts)) is not None:
            return quick
        table = edges_by_passes(found, y, context)
    if not fronts:
        return table
    place = torch.empty(len(table), dtype=torch.long)
    place[order_of(found)] = torch.arange(len(table))  # of each entry, its site
    return table[place[front_order(*found.shape)]]


def edges_by_passes(model: AutoregressiveModel, y: Tensor, context: Any = None) -> Tensor:
    """The same by parallel passes in the order of the walk, in bounded memory.

    They take a few events at a time, and of a large picture a few rows, with as many above them as features know of.
    """
    if not isinstance(model, ImageModel) or (model.head.tabulates and not model.coded_by_fronts):
        return edges_of(y.cpu().flatten(1)[:, order_of(model)].T, by_passes(model, y, context))
    (height, width), reach = y.shape[2:], int(model.trunk.reach)
    most = max(1, PASS_ENTRIES // y.shape[1] // model.levels) if model.head.tabulates else PASS_PIXELS
    events = max(1, most // (height * width))
    rows = height if height * width <= most or reach >= height else max(1, most // width - reach)
    found = []
    for first in range(0, len(y), events):
        given = None if context is None else context[first : first + events]
        strips = []
        for top in range(0, height, rows):
            begin = max(0, top - reach)
            strip = y[first : first + events, :, begin : top + rows]
            strips.append(_edges_of_rows(model, strip, given, top - begin).to(torch.int32).cpu())
        found.append(torch.cat(strips, 1).flatten(1, 3).transpose(0, 1))
    return torch.cat(found, 1) if found else torch.empty(height * width * y.shape[1], 0, 2, dtype=torch.int32)


def _edges_of_rows(model: ImageModel, y: Tensor, context: Any, skipped: int) -> Tensor:
    """(B, H − skipped, W, C, 2) of all rows but the first, which others know of."""
    v = model._float(y)
    if model.head.tabulates:
        table = model.softmax.frequencies(model._logits(v, context)[:, :, skipped:])
        return edges_of(y[:, :, skipped:], table).permute(0, 2, 3, 1, 4)
    features = model.features(v, context)[:, skipped:]
    found: Tensor = model.head.edges(features, v.permute(0, 2, 3, 1)[:, skipped:])
    return found


def edges_of(symbols: Tensor, frequencies: Tensor) -> Tensor:
    """Where symbols (…) lie in their frequencies (…, levels): the sum of what is below, and their own, (…, 2)."""
    chosen = symbols.long().unsqueeze(-1)
    own = frequencies.gather(-1, chosen)
    return torch.cat([frequencies.cumsum(-1, dtype=frequencies.dtype).gather(-1, chosen) - own, own], -1)


def by_passes(model: AutoregressiveModel, y: Tensor, context: Any = None) -> Tensor:
    """The same by parallel passes, a few events at a time."""
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
