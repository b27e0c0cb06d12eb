"""Measures of samples: their laws on sets whose distances are known."""

from __future__ import annotations

import math

import pytest
import torch

from chainrule.errors import DataError
from chainrule.lab.quality import (
    DigitClassifier,
    class_entropy_bits,
    compare,
    frechet_distance,
    marginal_error,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_moments(mean, root, n=500, seed=0):
    """A set whose mean and covariance are these to the last digit: covariance root · rootᵀ."""
    x = normal(n, len(mean), seed=seed)
    x = x - x.mean(0)
    whitened = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return whitened @ root.T + mean


def test_a_set_is_at_no_distance_from_itself():
    x = normal(300, 8)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x.flip(0)) == pytest.approx(0, abs=1e-9)


def test_a_shift_costs_its_square():
    x, shift = normal(200, 5), normal(5, seed=1)
    assert frechet_distance(x, x + shift) == pytest.approx(float(shift.square().sum()), abs=1e-9)


def test_gaussians_with_independent_coordinates():
    """|m - n|² + Σ (s - t)²."""
    m, n, s, t = normal(6, seed=1), normal(6, seed=2), normal(6, seed=3).abs(), normal(6, seed=4).abs()
    expected = float(((m - n) ** 2).sum() + ((s - t) ** 2).sum())
    a, b = with_moments(m, torch.diag(s)), with_moments(n, torch.diag(t), n=700, seed=5)
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-9)


def test_gaussians_with_any_covariances():
    """In two dimensions tr (Σ₁ Σ₂)^½ is √(tr Σ₁Σ₂ + 2 √det Σ₁Σ₂), without a matrix root."""
    a = with_moments(normal(2, seed=1), normal(2, 2, seed=2))
    b = with_moments(normal(2, seed=3), normal(2, 2, seed=4), seed=5)
    s, t = torch.cov(a.T), torch.cov(b.T)
    root = math.sqrt(torch.trace(s @ t) + 2 * math.sqrt(torch.det(s @ t)))
    expected = float(((a.mean(0) - b.mean(0)) ** 2).sum() + torch.trace(s) + torch.trace(t) - 2 * root)
    assert expected > 0.1
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, abs=1e-9)


def test_singular_covariances_have_a_distance():
    """Fewer images than features, as samples may be; rotations change nothing."""
    a, b = normal(5, 9), normal(6, 9, seed=1) * 2
    rotation = torch.linalg.qr(normal(9, 9, seed=2))[0]
    distance = frechet_distance(a, b)
    assert distance > 0
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(distance, abs=1e-8)
    with pytest.raises(DataError, match="at least 2"):
        frechet_distance(a[:1], b)


def test_class_entropy():
    """All classes alike: log2 of how many there are. One class, or no idea: 0, and log2 K again."""
    even = torch.eye(10).repeat(3, 1)
    assert class_entropy_bits(even) == pytest.approx(math.log2(10))
    assert class_entropy_bits(even[:1]) == 0
    assert class_entropy_bits(torch.full((4, 10), 0.1)) == pytest.approx(math.log2(10))


def test_marginal_error():
    """1 for sets that share no level anywhere, 0 for a reordered set, and the share of entries that differ."""
    x = torch.randint(0, 4, (50, 3, 5, 4), generator=torch.Generator().manual_seed(0))
    assert marginal_error(x, x.flip(0), 4) == 0
    assert marginal_error(x // 2, x // 2 + 2, 4) == 1
    y = torch.zeros(3, 10, dtype=torch.long)
    z = y.clone()
    z[:, :3] = 1
    assert marginal_error(y, z[:2], 2) == pytest.approx(0.3)


def test_real_images_are_compared_with_the_other_half():
    """Both rows against every second test image; the reference has as many images as there are samples."""
    torch.manual_seed(0)
    test = torch.randint(0, 4, (20, 3, 28, 28), dtype=torch.uint8)
    classifier = DigitClassifier().eval()
    rows = compare(test[0::2][:6], test, classifier)
    assert rows["samples"] == rows["real"]
    assert (rows["real"]["images"], rows["real"]["against"]) == (6, 10)
    same = compare(test[1::2], test, classifier)
    assert same["samples"]["frechet_distance"] == pytest.approx(0, abs=1e-9)
    assert same["samples"]["marginal_error"] == 0
    assert same["real"]["images"] == 10
    assert same["real"]["frechet_distance"] > 1e-6


def test_other_images_are_refused():
    test = torch.zeros(8, 3, 28, 28, dtype=torch.uint8)
    with pytest.raises(DataError, match="classifier takes"):
        compare(test[:, :1], test, DigitClassifier().eval())
    with pytest.raises(DataError, match="0 to 3"):
        compare(test + 4, test, DigitClassifier().eval())
