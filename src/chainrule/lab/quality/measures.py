"""How good samples are without a likelihood: measures of sets of images against real test images.

    Fréchet distance   |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½), of Gaussians fitted to the features of the two sets
    class entropy      of the mean of the predicted class distributions, in bits: at most log2 10 ≈ 3.322
    sure               the share of images whose likeliest class has a probability above a threshold
    marginal error     mean total variation distance between the histograms of levels of each pixel and channel

None of them is exact and all depend on how many images are compared, so each comes with what real images reach: one
half of the test set, as many of it as there are samples, against the other.

Reference: Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, 2017,
https://arxiv.org/abs/1706.08500 (the Fréchet distance, there in the features of an Inception network)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from chainrule import metrics
from chainrule.errors import DataError
from chainrule.lab.quality.classifier import LEVELS, DigitClassifier, describe

SURE = (0.9, 0.99)
"""Probabilities above which the classifier counts as sure."""


@dataclass(frozen=True)
class Quality:
    """The measures of one set of images."""

    images: int
    against: int
    """Real images that they were compared with."""
    frechet_distance: float
    class_entropy_bits: float
    sure_90: float
    """Share of images with a class of probability above 0.9."""
    sure_99: float
    """The same above 0.99."""
    marginal_error: float


def compare(samples: Tensor, test: Tensor, classifier: DigitClassifier) -> dict[str, Any]:
    """Measure samples, and real images beside them.

    Both rows are compared with every second test image; the row of real images takes the others, as many as there are
    samples (or all, if there are more samples than those).

    Args:
        samples: integers (N, 3, 28, 28) in [0, 4), N ≥ 2.
        test: real images of the same shape, at least 4.

    Returns:
        {"samples": {...}, "real": {...}}, each the fields of `Quality`.

    Raises:
        DataError: too few images, or not of that shape.
    """
    others, real = test[0::2], test[1::2]
    rows = {"samples": samples, "real": others[: len(samples)]}
    return {name: asdict(measure(images, real, classifier)) for name, images in rows.items()}


def measure(images: Tensor, real: Tensor, classifier: DigitClassifier) -> Quality:
    """All measures of `images` (N, 3, 28, 28) against `real` ones (M, 3, 28, 28); see the head of this file."""
    features, classes = describe(classifier, images)
    surest = classes.amax(-1)
    return Quality(
        images=len(images),
        against=len(real),
        frechet_distance=frechet_distance(features, describe(classifier, real)[0]),
        class_entropy_bits=class_entropy_bits(classes),
        sure_90=float((surest > SURE[0]).double().mean()),
        sure_99=float((surest > SURE[1]).double().mean()),
        marginal_error=marginal_error(images, real, LEVELS),
    )


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The Fréchet (2-Wasserstein) distance, squared, between Gaussians fitted to two sets of features.

    With Σ₁ = RᵀR and Σ₂ = SᵀS the trace of (Σ₁ Σ₂)^½ is the sum of the singular values of R Sᵀ; R and S come from QR
    decompositions of the centred features, so no covariance is ever formed or inverted, and singular ones do no harm.
    With few images the fitted covariances are noisy and the distance is biased upwards.

    Args:
        a, b: shape (N, F) and (M, F), two or more of each; taken in float64.

    Raises:
        DataError: there are fewer.

    Example:
        >>> x = torch.tensor([[-1.0], [1.0]])                  # mean 0, variance 2
        >>> round(frechet_distance(x, 2 * x + 3), 6)           # 3² + (√8 - √2)²
        11.0
    """
    if len(a) < 2 or len(b) < 2:
        raise DataError(f"sets of {len(a)} and {len(b)} images have no covariance: take at least 2")
    (m, r), (n, s) = (_mean_and_factor(x.double()) for x in (a, b))
    cross = torch.linalg.svdvals(r @ s.T).sum()
    distance = ((m - n) ** 2).sum() + (r**2).sum() + (s**2).sum() - 2 * cross  # |R|² is the trace of RᵀR
    return max(float(distance), 0.0)


def _mean_and_factor(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (F,) and an R of min(N, F) rows with RᵀR = the covariance."""
    mean = x.mean(0)
    return mean, torch.linalg.qr((x - mean) / (len(x) - 1) ** 0.5, mode="r").R


def class_entropy_bits(classes: Tensor) -> float:
    """Entropy of the mean of class distributions (N, K), in bits: low where a model draws few of the classes.

    >>> class_entropy_bits(torch.eye(4))
    2.0
    """
    return metrics.entropy_bits(classes.double().mean(0).numpy())


def marginal_error(x: Tensor, y: Tensor, levels: int) -> float:
    """Mean over all entries of the total variation distance between the histograms of their levels in two sets.

    Args:
        x, y: integers (N, *shape) and (M, *shape) in [0, levels).

    Example:
        >>> x = torch.tensor([[0, 1], [0, 1]])
        >>> marginal_error(x, x, 2), marginal_error(x, torch.tensor([[1, 1]]), 2)
        (0.0, 0.5)
    """
    p, q = (histograms(part, levels) for part in (x, y))
    return float(0.5 * (p - q).abs().sum(-1).mean())


def histograms(x: Tensor, levels: int) -> Tensor:
    """How often each entry takes each level, (N, *shape) → frequencies (*shape, levels), float64."""
    return torch.stack([(x == level).double().mean(0) for level in range(levels)], -1)
