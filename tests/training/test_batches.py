"""Batches, noise and seeds are functions of (seed, step)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.training.batches import batch_indices, epoch_order, jittered, mixed_seed
from laws import chi_square_p


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 23), st.integers(1, 30), st.integers(0, 5))
def test_each_epoch_visits_each_row_once(count, batch_size, seed):
    """The batches laid end to end are whole permutations, one an epoch."""
    steps = -(-3 * count // batch_size)
    rows = torch.cat([batch_indices(count, batch_size, seed, step) for step in range(steps)]).tolist()
    assert len(rows) == steps * batch_size
    for epoch in range(len(rows) // count):
        assert sorted(rows[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_batches_are_a_function_of_seed_and_step():
    """Asked for in any order, with other things drawn in between; other seeds and epochs give other orders."""
    forward = [batch_indices(50, 8, 3, step) for step in range(20)]
    for step in reversed(range(20)):
        torch.rand(3)
        batch_indices(17, 5, 1, step)
        assert torch.equal(batch_indices(50, 8, 3, step), forward[step])
    assert not torch.equal(batch_indices(50, 8, 4, 0), forward[0])
    epochs = torch.cat([batch_indices(50, 50, 3, step)[None] for step in range(3)])
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[1], epochs[2])


def test_orders_are_uniform():
    """χ²: the first row of an epoch is any row with the same probability."""
    firsts = torch.tensor([int(epoch_order(6, seed, seed % 7)[0]) for seed in range(1200)])
    assert chi_square_p(firsts.bincount(minlength=6), torch.full((6,), 1 / 6)) > 1e-4


def test_mixed_seeds_differ():
    """Neighbouring seeds, steps and streams share nothing."""
    seeds = {mixed_seed(a, b, c) for a in range(-2, 12) for b in range(40) for c in range(-1, 8)}
    assert len(seeds) == 14 * 40 * 9
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("levels", [2, 7, 200])
@pytest.mark.parametrize("sigma", [0.3, 1.5, 50.0])
def test_jitter_stays_within_the_levels(levels, sigma):
    """Reflected at the ends, however wide."""
    torch.manual_seed(0)
    x = torch.arange(levels).repeat(50)[:, None].to(torch.uint8)
    y = jittered(x, levels, sigma)
    assert y.shape == x.shape
    assert int(y.min()) >= 0
    assert int(y.max()) < levels


def test_jitter_is_unbiased_inside():
    """Far from the ends the mean stays and the standard deviation is σ (with the rounding's twelfth)."""
    torch.manual_seed(0)
    n, sigma = 100_000, 1.5
    noise = jittered(torch.full((n,), 100), 200, sigma).double() - 100
    assert abs(float(noise.mean())) < 5 * sigma / math.sqrt(n)
    assert float(noise.std()) == pytest.approx(math.sqrt(sigma**2 + 1 / 12), rel=0.02)


def test_jitter_reflects_and_does_not_wrap():
    """An event near one end never comes out near the other, and at the end half the noise comes back."""
    torch.manual_seed(0)
    low, high = (jittered(torch.full((5000,), end), 200, 1.5) for end in (0, 199))
    assert int(low.max()) < 15
    assert int(high.min()) > 184
    assert 0.8 < float(low.double().mean()) / (float(199 - high.double().mean())) < 1.25


def test_jitter_keeps_the_uniform_distribution():
    """Reflection loses no mass: levels that were uniform remain so, at the ends too (χ²)."""
    torch.manual_seed(0)
    y = jittered(torch.arange(6).repeat(5000), 6, 1.5)
    assert chi_square_p(y.bincount(minlength=6), torch.full((6,), 1 / 6)) > 1e-4
