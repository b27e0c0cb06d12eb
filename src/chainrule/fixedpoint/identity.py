"""What an exact model is known by: its certificate, its fingerprint, and a probe of the arithmetic that runs it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from chainrule.fixedpoint.arithmetic import ARITHMETIC_VERSION
from chainrule.fixedpoint.conversion import canonical, exact_layers
from chainrule.fixedpoint.exact_model import exact
from chainrule.fixedpoint.exact_softmax import TOTAL_BITS
from chainrule.models import AutoregressiveModel
from chainrule.sampling import at, engines, evaluating

PROBE_EVENTS = 3
PROBE_SIZE = (24, 20)
"""Size of the probe's events, where the model takes any."""
PROBE_SITES = 200
"""Sites that the probe walks over, besides the parallel pass over all."""


@dataclass(frozen=True)
class Certified:
    """One layer of an exact model: no sum in it can exceed `worst`, and up to `limit` its carrier is exact."""

    layer: str
    worst: int
    limit: int
    carrier: str


def certificate(model: AutoregressiveModel) -> list[Certified]:
    """The proof that a model's sums are exact, layer by layer; a float model is made exact for it.

    The worst case is over all inputs on the layer's grid and all orders of summation, in units of the output's grid.

    Raises:
        ModelError: a layer cannot be certified; it is named.

    Example:
        >>> import chainrule as cr
        >>> rows = certificate(cr.MADE((2,), levels=4))
        >>> all(row.worst <= row.limit for row in rows), rows[-1].layer
        (True, 'network.output')
    """
    return [Certified(name, layer.worst, layer.limit, layer.carrier) for name, layer in exact_layers(exact(model))]


def fingerprint(model: AutoregressiveModel) -> bytes:
    """32 bytes that tell exact models apart: SHA-256 over all that their probabilities depend on.

    The arithmetic's version, the class and its arguments, the scales, and every tensor (float weights, integers made
    from them, tables) under its name, as little-endian float64 or int64.
    """
    found = exact(model)
    digest = hashlib.sha256(f"chainrule exact {ARITHMETIC_VERSION}\n".encode())
    digest.update(json.dumps(found.config, sort_keys=True).encode())
    tensors = [*found.named_parameters(), *found.named_buffers()]
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        digest.update(f"\n{name} {list(tensor.shape)}\n".encode())
        digest.update(canonical(tensor))
    return digest.digest()


def probe(model: AutoregressiveModel) -> bytes:
    """32 bytes that tell whether the arithmetic at hand keeps its promise: SHA-256 over frequencies on fixed events.

    The parallel pass over all sites of three events, then the walk over their first 200 sites. Two machines that give
    the same probe agree in practice; one that does not must not be trusted to decode what the other encoded.
    """
    found = exact(model)
    found = found.sized(*PROBE_SIZE) if found.any_size else found
    x = found.with_auxiliaries(probe_events(found))
    context, digest = found.example_context(len(x)), hashlib.sha256()
    with torch.no_grad(), evaluating(found):
        logits = found._logits(found._float(x), context)
        digest.update(canonical(found.softmax.frequencies(logits)))
        with contextlib.closing(engines.start(found, len(x), context)) as walk:
            for site in found.sites()[:PROBE_SITES]:
                conditional: Any = walk.conditional()
                digest.update(canonical((conditional * 2.0**TOTAL_BITS).long()))
                walk.observe(x[at(site)])
    return digest.digest()


def probe_events(model: AutoregressiveModel) -> Tensor:
    """Three events made of whole numbers alone, integers of shape (3, *shape): repeating, smooth, and noisy."""
    place = torch.arange(PROBE_EVENTS * model.dims)
    noise = (place * 2654435761 % 2**32) // 2**16
    x = noise.view(PROBE_EVENTS, -1)
    x[0], x[1] = x[0] % 3, place[: model.dims] * model.levels // model.dims
    return (x % model.levels).view(PROBE_EVENTS, *model.shape).to(model.device)
