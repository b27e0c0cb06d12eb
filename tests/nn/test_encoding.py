"""One-hot vectors that can be differentiated."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from chainrule.nn import one_hot


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("levels", [2, 3, 4, 17])
def test_is_one_hot_at_whole_numbers(levels, gradient):
    """At levels it is torch's one_hot, exactly, whether or not a derivative is wanted."""
    x = torch.arange(levels).repeat(2, 1)
    v = x.double().requires_grad_(gradient)
    encoded = one_hot(v, levels)
    assert encoded.dtype == torch.float64
    assert torch.equal(encoded, F.one_hot(x, levels).double())


@settings(deadline=None, max_examples=100)
@given(st.integers(2, 9), st.floats(0, 1), st.booleans())
def test_mixes_two_neighbours_in_between(levels, share, gradient):
    """The vector sums to 1, has mean v, and at most two neighbouring entries."""
    v = torch.tensor([share * (levels - 1)], dtype=torch.float64, requires_grad=gradient)
    encoded = one_hot(v, levels)[0].detach()
    assert float(encoded.sum()) == pytest.approx(1)
    assert float((encoded * torch.arange(levels)).sum()) == pytest.approx(float(v.detach()))
    places = encoded.nonzero().flatten()
    assert int(places.max() - places.min()) <= 1
    assert float(encoded.min()) >= 0


@pytest.mark.parametrize("v", [0.0, 0.4, 1.0, 2.9, 3.0])
def test_derivative_exists_everywhere(v):
    """Moving v shifts weight from one level to its neighbour: never a zero derivative, the last level included."""
    jacobian = torch.autograd.functional.jacobian(lambda v: one_hot(v, 4), torch.tensor([v]))[0, :, 0]
    assert sorted(jacobian.tolist()) == [-1, 0, 0, 1]
