"""Measuring a trained model: likelihoods on data, exact figures where the truth is known, receptive fields."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule import metrics
from chainrule.data import Dataset, Pictures
from chainrule.errors import DataError, ModelError
from chainrule.models import AutoregressiveModel
from chainrule.sampling import evaluating

ENTRIES = 100 * 28 * 28 * 3
"""Entries in one evaluation pass."""
SPLITS = ("train", "validation", "test")
Events = Tensor | Pictures


def log_probs(model: AutoregressiveModel, x: Events, context: Any = None) -> Tensor:
    """log p of each of many events, batch by batch and without gradients: nats, float64, shape (N,)."""
    with torch.no_grad(), evaluating(model):
        found = []
        for part, given in in_batches(x, context):
            found.append(model.log_prob(part, given).double().cpu())
    return torch.cat([torch.zeros(0, dtype=torch.float64), *found])


def in_batches(x: Events, context: Any, entries: int | None = None) -> Iterator[tuple[Tensor, Any]]:
    """Events and their context in batches of about so many entries; pictures of mixed sizes one by one."""
    batch = 1 if isinstance(x, Pictures) else max(1, (entries or ENTRIES) // max(x[:1].numel(), 1))
    for i in range(0, len(x), batch):
        part: Tensor = x.pictures[i][None] if isinstance(x, Pictures) else x[i : i + batch]
        yield part, None if context is None else context[i : i + batch]


def bits_per_dim(
    model: AutoregressiveModel, dataset: Dataset | Events, split: str = "test", context: Any = None
) -> float:
    """Negative log-likelihood in bits for each entry, averaged over *all* events of a split.

    Args:
        model: any likelihood model.
        dataset: a `Dataset`, or events as integers of shape (N, *model.shape), or `Pictures` of mixed sizes.
        split: "test", "validation" or "train", where a Dataset is given; its labels are the context of a model that
            is conditioned on them.
        context: what the model is conditioned on, where events are given.

    Raises:
        DataError: there are no events, no such split, or no labels where they are needed.
        ModelError: the model has no likelihood, or gives one that is not a number.

    Example:
        >>> import chainrule as cr
        >>> round(cr.bits_per_dim(cr.Histogram(4), torch.tensor([[0], [1], [3]])), 6)
        2.0
    """
    if not model.has_likelihood:
        raise ModelError(f"{type(model).__name__} has no likelihood, and so no bits/dim: evaluate a likelihood model")
    if isinstance(dataset, Dataset):
        if split not in SPLITS:
            raise DataError(f"there is no split {split!r}: use {', '.join(SPLITS)}")
        x = getattr(dataset, split)
        context = context_of(model, dataset, split) if context is None else context
    else:
        x = dataset if isinstance(dataset, Tensor | Pictures) else model.checked(dataset)
    if not len(x):
        raise DataError("there are no events to evaluate: give at least one")
    nats = -float(log_probs(model, x, context).sum())
    if math.isnan(nats):
        raise ModelError("the model's probabilities are not numbers: its weights are damaged, train it again")
    return metrics.bits_per_dim(nats, x.numel())


def part_of(dataset: Dataset, split: str, n: int | None = None, redraw: bool = False) -> Dataset:
    """The dataset with only the first `n` events of a split, which `redraw` draws anew from seed 0.

    A model that does better on its training events than on the same events drawn anew has memorised part of them.

    Raises:
        DataError: `n` is less than 1, or the split cannot be drawn anew.

    Example:
        >>> from chainrule.data import warmup
        >>> len(part_of(warmup(), "test", 10).test)
        10
    """
    if n is not None and n < 1:
        raise DataError(f"-n {n}: measure at least 1 event")
    events = getattr(dataset, split)
    if redraw:
        if split != "train" or dataset.redraw is None:
            raise DataError(f"--redraw: the {split} split of {dataset.name} is not drawn anew: leave it out")
        torch.manual_seed(0)
        events = dataset.redraw(torch.arange(len(events)))
    changes: dict[str, Any] = {split: events[:n]}
    for what in ("labels", "masks"):
        parts = getattr(dataset, what)
        changes[what] = {name: part[:n] if name == split else part for name, part in parts.items()}
    return replace(dataset, **changes)


def context_of(model: Any, dataset: Dataset, split: str) -> Tensor | None:
    """The labels of a split for a model that is conditioned on them; None for other models.

    Raises:
        DataError: the model needs labels, and the data have none, or some outside its classes.
    """
    if not model.needs_context:
        return None
    if split not in dataset.labels:
        raise DataError(f"{type(model).__name__} is conditioned on labels, and {dataset.name} has none: use other data")
    labels = dataset.labels[split]
    model.checked_context(labels, len(labels))
    return labels


def splits_of(dataset: Dataset) -> dict[str, str]:
    """Which events a dataset holds: of each split their number, and the SHA-256 of shape, levels, values and labels.

    Example:
        >>> from chainrule.data import warmup
        >>> splits_of(warmup())["test"][:26]
        '2000 events, sha256 21b90f'
    """
    found = {}
    for split in SPLITS:
        x = getattr(dataset, split)
        digest = hashlib.sha256(f"{tuple(x.shape)} {dataset.levels}".encode())
        for part in x.bytes() if isinstance(x, Pictures) else [as_bytes(x, dataset.levels)]:
            digest.update(part)
        if split in dataset.labels:
            digest.update(np.asarray(dataset.labels[split].cpu(), "<i8", order="C").data)
        found[split] = f"{len(x)} events, sha256 {digest.hexdigest()}"
    return found


def as_bytes(x: Tensor, levels: int) -> Any:
    """The values of events in memory order, one byte each, or two, little-endian, beyond 256 levels."""
    return np.asarray(x.cpu(), "u1" if levels <= 256 else "<i2", order="C").data


def check_splits(recorded: Any, dataset: Dataset, splits: Sequence[str] = SPLITS) -> None:
    """Compare a dataset with the one that a run's record describes.

    Args:
        recorded: what `splits_of` gave then.
        splits: those that matter.

    Raises:
        DataError: the events differ; the message says in which split, and how many.
    """
    changes = []
    for split, now in splits_of(dataset).items():
        then = str(recorded.get(split)) if isinstance(recorded, dict) else "no record"
        if split in splits and then != now:
            had, has = then.partition(",")[0], now.partition(",")[0]
            changes.append(f"{split} has other events" if had == has else f"{split} had {had} and has {has}")
    if changes:
        raise DataError(f"{dataset.name} is not what the run began with ({'; '.join(changes)}): give it the same data")


def validation_loss(model: Any, dataset: Dataset, split: str = "validation") -> float:
    """What decides which weights a run keeps: bits/dim, or the mean of a model's own loss if it has no likelihood."""
    if model.has_likelihood:
        return bits_per_dim(model, dataset, split)
    x, context = getattr(dataset, split), context_of(model, dataset, split)
    total = 0.0
    with torch.no_grad(), evaluating(model):
        for part, given in in_batches(x, context):
            total += len(part) * float(model.loss(part.to(model.device), given))
    return total / len(x)


def log2_joint(model: AutoregressiveModel) -> np.ndarray:
    """log2 p of every outcome of a two-dimensional model, float64 of shape (levels, levels)."""
    if model.shape != (2,):
        raise ModelError(f"a joint table is for events of shape (2,), not {model.shape}")
    outcomes = torch.cartesian_prod(torch.arange(model.levels), torch.arange(model.levels))
    joint = log_probs(model, outcomes).view(model.levels, model.levels)
    return joint.numpy() / np.log(2)


def receptive_field(model: AutoregressiveModel, site: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """|∂ log p(x at site) / ∂ x|, the maximum over the input's channels: which pixels a conditional looks at.

    The image is random, and the derivative is taken in the levels as they enter the network.

    Args:
        model: an image model; for the assignment's picture, at random initialisation.
        site: (channel, row, column).

    Returns:
        Float64 of shape (H, W).
    """
    if not model.has_likelihood:
        raise ModelError(f"{type(model).__name__} has no log p to differentiate: look at a likelihood model")
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, model.levels, (1, *model.shape), generator=generator).to(model.device)
    x = model.with_auxiliaries(x)
    v = model._float(x).requires_grad_()
    with evaluating(model), torch.enable_grad():
        log_pmf = model._logits(v, model.example_context(1)).log_softmax(-1)
        (gradient,) = torch.autograd.grad(log_pmf[(0, *site, int(x[(0, *site)]))], v)
    return gradient[0].abs().amax(0).double().cpu().numpy()
