"""What the channels of a pixel tell about each other: bits/dim with each channel predicted without the others."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from chainrule import metrics
from chainrule.data import Dataset
from chainrule.errors import ModelError
from chainrule.evaluation import context_of, in_batches
from chainrule.heads import MADEHead
from chainrule.models import AutoregressiveModel
from chainrule.sampling import evaluating

MOST_COMBINATIONS = 4096

TOGETHER = 6400
"""Combinations of a pixel's values, times events, in one pass."""


def independent_log_prob(model: Any, x: Tensor, context: Any = None) -> Tensor:
    """What `log_prob` would be if each channel were predicted without the others of its pixel.

    Each channel's distribution given the earlier pixels is the marginal of the pixel's joint distribution. What is lost
    against `log_prob` is what the channels of a pixel tell about each other, their total correlation: a factorised
    model of the same features pays that much, whatever its size.

    Args:
        model: a PixelCNN-MADE or gated PixelCNN-MADE: a trunk with a MADE over the channels.
        x: integers (B, C, H, W).
        context: as for `log_prob`.

    Returns:
        Nats, float64, shape (B,).

    Raises:
        DataError: `x` or the context is not as the model takes it.
        ModelError: the channels are not tied by a MADE, or a pixel has more than 4,096 values.

    Reference: Watanabe, Information Theoretical Analysis of Multivariate Correlation, 1960 (total correlation)

    Example:
        >>> _ = torch.manual_seed(0)
        >>> import chainrule as cr
        >>> model = cr.PixelCNNMADE((1, 2, 2), 4, filters=8, blocks=1)
        >>> x = torch.zeros(1, 1, 2, 2).long()
        >>> bool((independent_log_prob(model, x) - model.log_prob(x)).abs() < 1e-5)      # there is but one channel
        True
    """
    if not isinstance(getattr(model, "head", None), MADEHead):
        raise ModelError(
            f"{type(model).__name__} has no joint distribution of a pixel's channels to take apart: use a PixelCNN-MADE"
        )
    channels, levels = model.shape[0], model.levels
    if levels**channels > MOST_COMBINATIONS:
        raise ModelError(
            f"{channels} channels of {levels} levels have too many combinations to add up their probabilities: "
            f"use a model whose pixels have at most {MOST_COMBINATIONS:,}"
        )
    x = model.checked(x).long()
    features = model.features(model._float(x), model.checked_context(context, len(x)))
    pixels, last = x.permute(0, 2, 3, 1), (*features.shape[:3], channels)
    earlier = features.new_zeros(*features.shape[:3], 1, dtype=torch.float64)  # log p of each combination so far
    total = features.new_zeros(len(x), dtype=torch.float64)
    for channel in range(channels):
        conditionals = []
        for values in itertools.product(range(levels), repeat=channel):
            v = features.new_tensor([*values, *[0] * (channels - channel)]).expand(last)
            conditionals.append(model.head(features, v)[..., channel, :].double().log_softmax(-1))
        joint = earlier[..., None] + torch.stack(conditionals, -2)  # (B, H, W, combinations, levels)
        marginal = joint.logsumexp(-2)
        total += marginal.gather(-1, pixels[..., channel, None]).sum((1, 2, 3))
        earlier = joint.flatten(-2)
    return total


def independent_bits_per_dim(model: AutoregressiveModel, dataset: Dataset, split: str = "test") -> float:
    """Bits for each entry if each channel were predicted without the others of its pixel.

    Args:
        model: a PixelCNN-MADE, whose `independent_log_prob` is averaged over all events.
        dataset: its labels are the context of a model that is conditioned on them.
        split: "test", "validation" or "train".

    Raises:
        DataError: there are no labels where they are needed.
        ModelError: the model has no MADE over the channels, or they have too many combinations.

    Example:
        >>> import chainrule as cr
        >>> x = torch.zeros(2, 2, 1, 1).long()
        >>> same = cr.data.Dataset("same", 2, train=x, validation=x, test=x)
        >>> round(independent_bits_per_dim(cr.PixelCNNMADE((2, 1, 1), 2, filters=4, blocks=0), same), 1)
        1.0
    """
    x, context = getattr(dataset, split), context_of(model, dataset, split)
    entries = max(1, TOGETHER // model.levels ** model.shape[0]) * model.dims  # memory grows with the values of a pixel
    total = 0.0
    with torch.no_grad(), evaluating(model):
        for part, given in in_batches(x, context, entries):
            total += float(independent_log_prob(model, part, given).sum())
    return metrics.bits_per_dim(-total / len(x), model.dims)
