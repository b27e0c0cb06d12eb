"""Figures: units, and exact information measures against direct sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule import metrics

WEIGHTS = st.lists(st.integers(0, 20), min_size=2, max_size=9).filter(any)


def normalised(weights):
    return np.array(weights, float) / sum(weights)


def test_units():
    """One bit is ln 2 nats, and a dimension's share is the total's by their number."""
    assert metrics.bits(math.log(2)) == 1
    assert metrics.bits(0.0) == 0
    assert metrics.bits_per_dim(12 * math.log(2), 3) == pytest.approx(4)


@settings(deadline=None, max_examples=100)
@given(WEIGHTS)
def test_entropy_is_the_sum(weights):
    """Entropy is -Σ p log2 p over the outcomes of positive probability, between 0 and that of the uniform."""
    p = normalised(weights)
    direct = -sum(v * math.log2(v) for v in p if v > 0)
    assert metrics.entropy_bits(p) == pytest.approx(direct, abs=1e-12)
    assert -1e-12 <= metrics.entropy_bits(p) <= math.log2(len(p)) + 1e-12


@settings(deadline=None, max_examples=100)
@given(WEIGHTS, st.integers(0, 1000))
def test_kl_is_not_negative_and_splits(weights, seed):
    """KL ≥ 0, is 0 for the truth itself, and cross-entropy = entropy + KL, zeros of p included."""
    p = normalised(weights)
    q = np.random.RandomState(seed).dirichlet(np.ones(len(p)) * 2) * 0.9 + 0.1 / len(p)
    kl = metrics.kl_bits(p, np.log2(q))
    assert kl >= -1e-12
    assert kl == pytest.approx(sum(a * math.log2(a / b) for a, b in zip(p, q, strict=True) if a > 0), abs=1e-12)
    assert metrics.cross_entropy_bits(p, np.log2(q)) == pytest.approx(metrics.entropy_bits(p) + kl, abs=1e-12)
    with np.errstate(divide="ignore"):
        assert metrics.kl_bits(p, np.log2(p)) == pytest.approx(0, abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(WEIGHTS)
def test_total_variation_is_the_largest_difference_of_any_set(weights):
    """½ Σ |p - q| is the largest p(A) - q(A), found by looking at every set of outcomes."""
    p = normalised(weights)
    q = np.roll(p, 1)
    differences = p - q
    largest = max(sum(d for k, d in enumerate(differences) if s >> k & 1) for s in range(2 ** len(p)))
    assert metrics.total_variation(p, q) == pytest.approx(largest, abs=1e-12)
    assert metrics.total_variation(p, p) == 0


def test_single_precision_input_is_summed_in_double():
    """A float32 table of a million entries keeps its entropy."""
    p = np.full(2**20, 2.0**-20, np.float32)
    assert metrics.entropy_bits(p) == 20
