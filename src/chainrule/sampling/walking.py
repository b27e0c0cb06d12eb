"""The one loop: draw, complete and score an event entry by entry.

At each site the walk gives the distribution of the next value, a chooser picks it, and the walk is told. The chooser
makes the difference: a random number (sampling), a known entry (completion), a given event (scoring), an entropy
decoder. This file knows `chainrule.contract` and no model.

Randomness is the inverse CDF of one uniform per site, so that two walks that are given the same uniforms and the same
distributions return the same event, however the distributions were computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from chainrule.contract import Chooser, Conditional, Model, Site, Walk
from chainrule.errors import DataError, ModelError
from chainrule.sampling import engines

BATCH = 250
"""Events that walk together: enough to fill the processor, few enough that the caches stay small."""

GPU_BATCH = 5000
"""The same on a GPU, where a step takes hardly longer for many events than for few."""


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


def walk(model: Model, batch: int, choose: Chooser, *, context: Any = None, method: str = "cached") -> Tensor:
    """Walk over the sites of `batch` events at once.

    Args:
        choose: says which value each entry takes.
        method: "cached" takes the fastest engine, "naive" a full pass for each site; or any engine's name.

    Returns:
        Events: integers of shape (batch, *model.shape).

    Raises:
        ModelError: there is no such engine, or a distribution is not finite.
    """
    if not batch:
        return model.without_auxiliaries(torch.zeros(0, *model.walk_shape, dtype=torch.long, device=model.device))
    with torch.no_grad(), evaluating(model):
        walker = engines.start(model, batch, context, method)
        try:
            y = choose.whole(walker)
            y = step_by_step(model, walker, batch, choose) if y is None else y.to(model.device)
        finally:
            walker.close()
    return model.without_auxiliaries(y)


def step_by_step(model: Model, walker: Walk, batch: int, choose: Chooser) -> Tensor:
    """All sites in turn, integers (batch, *walk_shape). A GPU is asked only at the end whether all was finite."""
    y = torch.zeros(batch, *model.walk_shape, dtype=torch.long, device=model.device)
    bad = torch.zeros((), dtype=torch.bool, device=model.device)
    for position, site in enumerate(model.sites()):
        conditional = walker.conditional()
        value = choose(position, site, conditional)
        bad |= ~conditional.sum().isfinite() if isinstance(conditional, Tensor) else (value < 0).any()
        if bad.device.type == "cpu" and bad:
            raise ModelError(f"the model's distribution at {site.index} is not finite: its weights are damaged")
        y[at(site)] = value
        walker.observe(value)
    if bad:
        raise ModelError("a distribution of the model is not finite: its weights are damaged")
    return y


def sample(
    model: Model,
    n: int,
    context: Any = None,
    generator: torch.Generator | None = None,
    method: str = "cached",
    batch: int | None = None,
) -> Tensor:
    """Draw `n` events; see `AutoregressiveModel.sample`."""
    if n < 0:
        raise DataError(f"cannot draw {n} samples: ask for 0 or more")
    context = model.checked_context(context, n)
    parts = [torch.zeros(0, *model.shape, dtype=torch.long, device=model.device)]
    for rows in batches(model, n, batch):
        choose = Draw(uniforms(model, rows.stop - rows.start, generator))
        parts.append(drawn(model, choose, None if context is None else context[rows], method))
    return torch.cat(parts)


def complete(
    model: Model,
    x: Tensor,
    known: Tensor,
    context: Any = None,
    generator: torch.Generator | None = None,
    method: str = "cached",
    batch: int | None = None,
) -> Tensor:
    """Keep the known entries and draw the others; see `AutoregressiveModel.complete`."""
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


def batches(model: Model, n: int, batch: int | None) -> Iterator[slice]:
    """The rows of `n` events that walk together."""
    batch = batch or (GPU_BATCH if model.device.type == "cuda" else BATCH)
    for start in range(0, n, batch):
        yield slice(start, min(start + batch, n))


def drawn(model: Model, choose: Draw, context: Any, method: str) -> Tensor:
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


def score(model: Model, x: Tensor, context: Any = None, method: str = "cached") -> Tensor:
    """log p of each entry given the earlier ones, found by walking: what `model.site_log_probs(x)` finds in one pass.

    Returns:
        Nats, float64, of shape (B, *walk_shape).
    """
    y = model.with_auxiliaries(model.checked(x).long())
    choose, model = Given(y), model.like(y)
    walk(model, len(y), choose, context=model.checked_context(context, len(y)), method=method)
    return choose.log_probs


def uniforms(model: Model, n: int, generator: torch.Generator | None) -> Tensor:
    """One uniform for every site of `n` events, float64 of shape (n, sites); row k belongs to event k alone."""
    device = "cpu" if generator is None else generator.device
    drawn = torch.rand(n, len(model.sites()), generator=generator, dtype=torch.float64, device=device)
    return drawn.to(model.device)


class Given(Chooser):
    """Choose the entries of given events (B, *walk_shape), and note their log-probabilities in nats, float64."""

    def __init__(self, y: Tensor) -> None:
        self.y, self.log_probs = y, torch.zeros(y.shape, dtype=torch.float64, device=y.device)

    def __call__(self, position: int, site: Site, conditional: Conditional) -> Tensor:
        if not isinstance(conditional, Tensor):
            raise ModelError("this model has no likelihood: there is nothing to score")
        value = self.y[at(site)]
        self.log_probs[at(site)] = conditional.gather(1, value[:, None])[:, 0].log()
        return value


@dataclass(frozen=True)
class Draw(Chooser):
    """Choose by the inverse CDF of the uniforms `u`, (B, sites); keep what is known of given events, if anything.

    A subclass that chooses otherwise has a `whole` of its own.
    """

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

    def whole(self, walk: Walk) -> Tensor | None:
        return walk.draw(self.u, self.given, self.known)


def quantile(conditional: Conditional, u: Tensor) -> Tensor:
    """The values at which a distribution's CDF first exceeds the uniforms, (B,)."""
    return inverse_cdf(conditional, u) if isinstance(conditional, Tensor) else conditional(u)


def at(site: Site) -> Any:
    """The index of a site in a batch of events."""
    return (slice(None), *site.index)


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Without dropout, under the model's own arithmetic, on a GPU with convolutions in full precision; then restored.

    On a GPU cuDNN rounds the inputs of float32 convolutions to eleven bits unless told otherwise, but not those of
    matrix products: a parallel pass would differ from the steps in more than the last digit.

    Raises:
        ModelError: a weight is not finite, which a saturating gate or a ReLU would hide.
    """
    found = [parameter.isfinite().all() for parameter in model.parameters()]
    if found and not bool(torch.stack(found).all()):
        raise ModelError("the model has a number that is not finite: its weights are damaged, train it again")
    backend: Any = torch.backends.cudnn
    was_training, convolutions = model.training, backend.conv
    precision = convolutions.fp32_precision if model.device.type == "cuda" else None
    model.eval()
    try:
        if precision is not None:
            convolutions.fp32_precision = "ieee"
        with model.arithmetic():
            yield
    finally:
        if precision is not None:
            convolutions.fp32_precision = precision
        model.train(was_training)
