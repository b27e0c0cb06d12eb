"""The quantile-Huber loss: its least lies where a quantile is, and rounding finds the level."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.heads.quantile_loss import kappa, nearest_level, quantile_huber, scaled


@pytest.mark.parametrize("levels", [2, 3, 4, 17, 256])
def test_levels_and_back(levels):
    """Levels fill [-1, 1] evenly, and come back from within half a spacing; beyond the ends they are clamped."""
    x = torch.arange(levels)
    q = scaled(x.double(), levels)
    assert (q[0], q[-1]) == (-1, 1)
    torch.testing.assert_close(q.diff(), torch.full((levels - 1,), 2 * kappa(levels), dtype=torch.float64))
    for shift in (-0.98, 0, 0.98):
        assert torch.equal(nearest_level(q + shift * kappa(levels), levels), x)
    ends = torch.tensor([-9.0, 9.0, -torch.inf, torch.inf, torch.nan])
    assert nearest_level(ends, levels).tolist() == [0, levels - 1, 0, levels - 1, -1]


def test_the_loss_is_smooth_where_it_should_be():
    """Value and slope are continuous where the square ends; over-estimates weigh 1 - τ and under-estimates τ."""
    tau, k = torch.tensor(0.3, dtype=torch.float64), 0.5
    for u in (0.5, -0.5):
        near = torch.tensor([u - 1e-7, u + 1e-7], dtype=torch.float64, requires_grad=True)
        values = quantile_huber(torch.zeros(2, dtype=torch.float64), near, tau, k)
        (slopes,) = torch.autograd.grad(values.sum(), near)
        assert values.diff().abs() < 1e-6
        assert slopes.diff().abs() < 1e-6
    far = quantile_huber(torch.tensor([4.0, -4.0]), torch.zeros(2), torch.tensor(0.3), k)
    assert far.tolist() == pytest.approx([0.3 * 3.75, 0.7 * 3.75])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=7).filter(any), st.floats(0.01, 0.99))
def test_the_rounded_least_is_the_quantile(weights, tau):
    """Whatever the distribution, with κ of half a spacing: min {x: F(x) ≥ τ}, unless τ is too near a step to tell."""
    levels = len(weights)
    p = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    cdf = p.cumsum(0)
    if (cdf - tau).abs().min() < 1e-3:
        return
    q = torch.linspace(-1.2, 1.2, 4801, dtype=torch.float64)
    x = scaled(torch.arange(levels, dtype=torch.float64), levels)
    losses = quantile_huber(x, q[:, None], torch.tensor(tau), kappa(levels)) @ p
    assert int(nearest_level(q[losses.argmin()], levels)) == int((cdf < tau).sum())


def test_a_wider_square_would_miss_it():
    """The law above is about κ: with a much wider one the least is an expectile, and rounds to another level."""
    p = torch.tensor([0.6, 0.0, 0.0, 0.0, 0.4], dtype=torch.float64)
    q, x = torch.linspace(-1, 1, 2001, dtype=torch.float64), scaled(torch.arange(5.0).double(), 5)
    least = [q[(quantile_huber(x, q[:, None], torch.tensor(0.5), k) @ p).argmin()] for k in (kappa(5), 4.0)]
    assert [int(nearest_level(value, 5)) for value in least] == [0, 2]
