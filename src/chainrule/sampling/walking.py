"""The one loop: draw, complete and score an event entry by entry.

At each site the model gives the distribution of the next value, somebody chooses, the model is told. Who chooses makes
the difference: a random number (sampling), a known entry (completion), a given event (scoring); later an entropy
decoder. This file knows the contract of `models/base.py` and no model.

Randomness is the inverse CDF of one uniform per site, so that two walks that are given the same uniforms and the same
distributions return the same event, however the distributions were computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from chainrule.errors import DataError, ModelError
from chainrule.sampling import graphs

if TYPE_CHECKING:
    from chainrule.models import AutoregressiveModel, GenerativeModel, Site

Method = Literal["cached", "naive"]
Conditional = Tensor | Callable[[Tensor], Tensor]
"""The distribution of one entry: probabilities (B, levels), or its inverse CDF, from uniforms (B,) to values (B,)."""
Choose = Callable[[int, "Site", Any], Tensor]

BATCH = 250
"""Events that walk together: enough to fill the processor, few enough that the caches stay small."""

GPU_BATCH = 5000
"""The same on a GPU, where a step takes hardly longer for many events than for few."""


class NaiveWalk:
    """The contract by full passes: one parallel pass over the whole event for every site.

    What most published code does, kept as the yardstick: slow, obviously right, and the reference that the cached walk
    of every model is tested against.
    """

    def __init__(self, model: GenerativeModel) -> None:
        self.model = model

    def start(self, batch: int, context: Any = None) -> dict[str, Any]:
        x = torch.zeros(batch, *self.model.walk_shape, dtype=torch.long, device=self.model.device)
        return {"x": x, "context": context, "position": 0, "sites": self.model.sites()}

    def conditional(self, state: dict[str, Any]) -> Conditional:
        return self.model.full_conditional(state["x"], state["sites"][state["position"]], state["context"])

    def observe(self, state: dict[str, Any], value: Tensor) -> dict[str, Any]:
        state["x"][at(state["sites"][state["position"]])] = value
        state["position"] += 1
        return state


def inverse_cdf(pmf: Tensor, uniforms: Tensor) -> Tensor:
    """The values at which the cumulative distributions first exceed the uniforms.

    Args:
        pmf: probabilities (or weights) of shape (B, levels).
        uniforms: shape (B,), in [0, 1).

    Returns:
        Integers of shape (B,). A value of probability zero is never returned.

    >>> inverse_cdf(torch.tensor([[0.25, 0.0, 0.75]]).expand(2, 3), torch.tensor([0.2, 0.25])).tolist()
    [0, 2]
    """
    cdf = pmf.cumsum(-1)
    value = (cdf <= (uniforms * cdf[:, -1])[:, None]).sum(-1)
    last = pmf.shape[-1] - 1 - (pmf > 0).int().flip(-1).argmax(-1)  # rounding may carry a uniform of almost 1 past it
    return torch.minimum(value, last)


def walk(
    model: GenerativeModel, batch: int, choose: Choose, *, context: Any = None, method: Method = "cached"
) -> Tensor:
    """Walk over the sites of `batch` events at once.

    Args:
        choose: called as `choose(position, site, conditional)`, where the conditional is probabilities of shape
            (batch, site.levels), float64, or an inverse CDF; returns the chosen values, integers of shape (batch,).
            It may have a method `at_once(state)`: all values, where this state can take all steps at once, or None.
        method: "cached" uses the model's own steps, "naive" a full pass for each site.

    Returns:
        Events: integers of shape (batch, *model.shape).
    """
    if method not in ("cached", "naive"):
        raise ModelError(f"the sampling method {method!r} does not exist: use 'cached' or 'naive'")
    x = torch.zeros(batch, *model.walk_shape, dtype=torch.long, device=model.device)
    walking = graphs.walker(model, batch) if method == "cached" else nullcontext(NaiveWalk(model))
    with torch.no_grad(), evaluating(model), walking as walker:
        state = walker.start(batch, context)
        at_once = None if {"conditional", "observe"} & vars(walker).keys() else getattr(choose, "at_once", None)
        if at_once is not None and (whole := at_once(state)) is not None:
            return model.without_auxiliaries(whole.to(x.device))
        for position, site in enumerate(model.sites()):
            value = choose(position, site, walker.conditional(state))
            x[at(site)] = value
            state = walker.observe(state, value)
    return model.without_auxiliaries(x)


def sample(
    model: GenerativeModel,
    n: int,
    context: Any = None,
    generator: torch.Generator | None = None,
    method: Method = "cached",
    batch: int | None = None,
) -> Tensor:
    """Draw `n` events; see `GenerativeModel.sample`."""
    if n < 0:
        raise DataError(f"cannot draw {n} samples: ask for 0 or more")
    context = model.checked_context(context, n)
    parts = [torch.zeros(0, *model.shape, dtype=torch.long, device=model.device)]
    for rows in batches(model, n, batch):
        choose = Draw(uniforms(model, rows.stop - rows.start, generator))
        parts.append(drawn(model, choose, None if context is None else context[rows], method))
    return torch.cat(parts)


def complete(
    model: GenerativeModel,
    x: Tensor,
    known: Tensor,
    context: Any = None,
    generator: torch.Generator | None = None,
    method: Method = "cached",
    batch: int | None = None,
) -> Tensor:
    """Keep the known entries and draw the others; see `GenerativeModel.complete`."""
    x = model.checked(x)
    known = torch.as_tensor(known)
    if known.dtype != torch.bool:
        raise DataError(f"`known` holds {known.dtype}: it must be a boolean mask, True where the entry is given")
    try:
        known = known.to(model.device).broadcast_to(x.shape)
    except RuntimeError:
        raise DataError(
            f"`known` has shape {tuple(known.shape)}, which does not fit the events' shape {tuple(x.shape)}"
        ) from None
    context = model.checked_context(context, len(x))
    parts = [x[:0].long()]
    for rows in batches(model, len(x), batch):
        given, is_known = model.with_auxiliaries(x[rows].long()), model.known_sites(known[rows])
        choose = Draw(uniforms(model, len(given), generator), given, is_known)
        parts.append(drawn(model, choose, None if context is None else context[rows], method))
    return torch.cat(parts)


def batches(model: GenerativeModel, n: int, batch: int | None) -> Iterator[slice]:
    """The rows of `n` events that walk together."""
    batch = batch or (GPU_BATCH if model.device.type == "cuda" else BATCH)
    for start in range(0, n, batch):
        yield slice(start, min(start + batch, n))


def drawn(model: GenerativeModel, choose: Draw, context: Any, method: Method) -> Tensor:
    """Walk with all events of a `Draw` together, or in halves where a GPU has too little memory for that."""
    try:
        return walk(model, len(choose.u), choose, context=context, method=method)
    except RuntimeError as error:
        if "out of memory" not in str(error) or len(choose.u) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(choose.u) // 2
    halves = slice(0, middle), slice(middle, None)
    return torch.cat([drawn(model, choose.of(h), None if context is None else context[h], method) for h in halves])


def score(model: AutoregressiveModel, x: Tensor, context: Any = None, method: Method = "cached") -> Tensor:
    """log p of each entry given the earlier ones, found by walking: the slow twin of `model.site_log_probs(x)`.

    Returns:
        Nats, float64, of shape (B, *walk_shape).
    """
    x = model.with_auxiliaries(model.checked(x).long())
    context = model.checked_context(context, len(x))
    result = torch.zeros(x.shape, dtype=torch.float64, device=x.device)

    def choose(position: int, site: Site, pmf: Tensor) -> Tensor:
        index = at(site)
        result[index] = pmf.gather(1, x[index][:, None])[:, 0].log()
        return x[index]

    walk(model, len(x), choose, context=context, method=method)
    return result


def uniforms(model: GenerativeModel, n: int, generator: torch.Generator | None) -> Tensor:
    """One uniform for every site of `n` events, float64 of shape (n, sites); row k belongs to event k alone."""
    device = "cpu" if generator is None else generator.device
    drawn = torch.rand(n, len(model.sites()), generator=generator, dtype=torch.float64, device=device)
    return drawn.to(model.device)


@dataclass(frozen=True)
class Draw:
    """Choose by the inverse CDF of the uniforms `u`, (B, sites); keep what is known of given events, if anything."""

    u: Tensor
    given: Tensor | None = None  # integers (B, *walk_shape)
    known: Tensor | None = None  # bools of the same shape

    def __call__(self, position: int, site: Site, conditional: Conditional) -> Tensor:
        value = quantile(conditional, self.u[:, position])
        if self.given is None or self.known is None:
            return value
        return torch.where(self.known[at(site)], self.given[at(site)], value)

    def of(self, rows: slice) -> Draw:
        """The same for some of the events."""
        given = None if self.given is None else self.given[rows]
        return Draw(self.u[rows], given, None if self.known is None else self.known[rows])

    def at_once(self, state: Any) -> Tensor | None:
        """The same for all sites, integers (B, *walk_shape), where the state can do it: its `drawn`; None elsewhere."""
        drawn = getattr(state, "drawn", None) if type(self) is Draw else None  # a subclass may choose otherwise
        return None if drawn is None else drawn(self.u, self.given, self.known)


def quantile(conditional: Conditional, u: Tensor) -> Tensor:
    """The values at which a distribution's CDF first exceeds the uniforms, (B,)."""
    return inverse_cdf(conditional, u) if isinstance(conditional, Tensor) else conditional(u)


def at(site: Site) -> Any:
    """The index of a site in a batch of events."""
    return (slice(None), *site.index)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout, on a GPU with convolutions in full precision, and back to how it was.

    There cuDNN rounds the inputs of float32 convolutions to eleven bits unless told otherwise, and matrix products are
    left as they are: a parallel pass would be further from the steps than the last digit.
    """
    backend: Any = torch.backends.cudnn
    was_training, convolutions = model.training, backend.conv
    precision = convolutions.fp32_precision if next(model.parameters()).is_cuda else None
    model.eval()
    try:
        if precision is not None:
            convolutions.fp32_precision = "ieee"
        yield
    finally:
        if precision is not None:
            convolutions.fp32_precision = precision
        model.train(was_training)
