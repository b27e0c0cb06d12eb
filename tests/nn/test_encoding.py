"""How levels enter: one-hot vectors that can be differentiated, or numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from chainrule.errors import ModelError
from chainrule.nn import LevelEncoding, one_hot


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


@pytest.mark.parametrize(("levels", "kind", "width"), [(16, "auto", 16), (17, "auto", 1), (40, "onehot", 40)])
def test_what_a_channel_puts_in(levels, kind, width):
    """A vector for each level, one channel beside the other; few levels have an input each, many are one number."""
    encoding = LevelEncoding(levels, kind)
    x = torch.randint(0, levels, (5, 3), generator=torch.Generator().manual_seed(0))
    x[0], x[1] = 0, levels - 1
    table = encoding.table(torch.zeros(1, dtype=torch.float64))
    assert table.shape == (levels, width) == (levels, encoding.width)
    assert encoding.one_hot == (width if width > 1 else 0)
    assert torch.equal(encoding(x.double()), table[x].flatten(1))
    if width == 1:
        torch.testing.assert_close(table[:, 0], torch.linspace(-1, 1, levels, dtype=torch.float64))
    else:
        assert torch.equal(table, torch.eye(levels, dtype=torch.float64))


def test_two_levels_may_enter_as_a_number():
    assert LevelEncoding(2, "number")(torch.tensor([[0.0, 1.0]])).tolist() == [[-1.0, 1.0]]
    with pytest.raises(ModelError, match="'binary' does not exist"):
        LevelEncoding(2, "binary")
