"""Where the bits of a coloured digit are: in the background, or in the digit that inverts it.

A pixel is either its background, b, or the inverse of it, b̄. By p(x) = (p(b) + p(b̄)) · p(x | b or b̄), each pixel's
bits are the sum of two: for not knowing the background, and for not knowing whether the digit covers it. The first
add up to at least the entropy of a crop (`data.colored.crop_bits`), the second to at least that of a digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from chainrule.data import Dataset
from chainrule.data.colored import crop_bits
from chainrule.data.hopper import portrait
from chainrule.errors import DataError, ModelError
from chainrule.evaluation import context_of, in_batches
from chainrule.models import ImageModel
from chainrule.sampling import evaluating

DIGIT_BITS = 80.0, 90.0
"""A thresholded digit's entropy, as models of digits alone put it: an estimate, not a bound."""


@dataclass(frozen=True)
class SplitBits:
    """Bits of an event, on average over events."""

    background: float
    """For not knowing the background."""
    digit: float
    """For not knowing what the digit covers."""
    digit_pixels: float
    """Of the sum of both, what is paid at pixels that the digit covers."""
    background_floor: float
    """What any model pays for the background: the entropy of a crop."""
    digit_floor: tuple[float, float] = DIGIT_BITS
    """A digit's entropy is estimated to lie between these."""


def split_pixel_log_prob(model: ImageModel, x: Tensor, context: object = None) -> tuple[Tensor, Tensor]:
    """The log-probability of each pixel as a sum of two: for the pair {b, b̄}, and for which of the pair it is.

    Args:
        model: any image model with a likelihood.
        x: integers (B, C, H, W); the inverse of a level l is levels − 1 − l.
        context: as for `log_prob`.

    Returns:
        Nats, float64, each (B, H, W).

    Raises:
        DataError: `x` or the context is not as the model takes it.
        ModelError: the model's pixels are not predicted one after the other from features of a trunk.

    Example:
        >>> import chainrule as cr
        >>> _ = torch.manual_seed(0)
        >>> model, x = cr.PixelCNN((1, 2, 2), 2, filters=4, blocks=0), torch.zeros(1, 1, 2, 2).long()
        >>> pair, which = split_pixel_log_prob(model, x)
        >>> bool(pair.abs().max() < 1e-6)      # with one channel of two levels b and b̄ are all there is
        True
        >>> bool((which.sum() - model.log_prob(x)).abs() < 1e-5)
        True
    """
    if not isinstance(model, ImageModel) or not model.has_likelihood:
        raise ModelError(f"{type(model).__name__} does not tell a pixel's bits apart: use a PixelCNN with a likelihood")
    v = model._float(model.checked(x))
    features = model.features(v, model.checked_context(context, len(x)))
    v = v.permute(0, 2, 3, 1)
    found, other = (-model.head.loss(features, pixels).double().sum(-1) for pixels in (v, model.levels - 1 - v))
    pair = torch.logaddexp(found, other)
    return pair, found - pair


def split_bits(model: ImageModel, dataset: Dataset, split: str = "test") -> SplitBits:
    """Where a model's bits are, on average over a split of the Hopper set.

    Args:
        model: an image model with a likelihood.
        dataset: one that has `masks`; its labels are the context of a model that is conditioned on them.
        split: "test", "validation" or "train".

    Raises:
        DataError: the dataset does not say which pixels are a digit's, or has no labels where they are needed.
        ModelError: the model does not tell a pixel's bits apart.
    """
    if split not in dataset.masks:
        raise DataError(f"{dataset.name} does not say which pixels are a digit's: use hopper-mnist")
    x, mask, context = getattr(dataset, split), dataset.masks[split], context_of(model, dataset, split)
    total, begin = torch.zeros(3, dtype=torch.float64), 0
    with torch.no_grad(), evaluating(model):
        for part, given in in_batches(x, context):
            pair, which = (found.cpu() for found in split_pixel_log_prob(model, part, given))
            covered = (pair + which)[mask[begin : begin + len(part)] > 0]
            total += torch.stack([pair.sum(), which.sum(), covered.sum()])
            begin += len(part)
    pairs, digits, covered_pixels = (abs(value) for value in (total / -math.log(2) / len(x)).tolist())
    return SplitBits(pairs, digits, covered_pixels, crop_bits(portrait() >> 6, *x.shape[2:]))
