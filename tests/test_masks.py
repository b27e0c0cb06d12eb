"""Masks: the rules of rank and raster order, checked against their definitions entry by entry."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.masks import hidden_ranks, kernel_mask, rank_mask

RANKS = st.lists(st.integers(0, 6), min_size=1, max_size=8)


@settings(deadline=None, max_examples=50)
@given(RANKS, RANKS, st.booleans())
def test_rank_mask_is_its_definition(inputs, outputs, strict):
    """Output o sees input i exactly if its rank is at least (strict: above) the input's."""
    mask = rank_mask(torch.tensor(inputs), torch.tensor(outputs), strict=strict)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[i < o if strict else i <= o for i in inputs] for o in outputs]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(0, 30))
def test_hidden_ranks_are_dealt_evenly(count, extra):
    """Every rank gets a unit, none gets two more than another, and they ascend."""
    ranks = list(range(1, count + 1))
    dealt = hidden_ranks(count + extra, ranks)
    shares = [int((dealt == rank).sum()) for rank in ranks]
    assert sum(shares) == count + extra
    assert min(shares) >= 1
    assert max(shares) - min(shares) <= 1
    assert dealt.tolist() == sorted(dealt.tolist())


def test_hidden_ranks_refuse_too_narrow_a_layer():
    """A rank without a unit would cut an input off: refused, with both numbers."""
    with pytest.raises(ValueError, match="width 2 is too narrow for 3"):
        hidden_ranks(2, [0, 1, 2])


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("mask_type", ["A", "B"])
def test_kernel_mask_keeps_earlier_pixels(kernel, mask_type):
    """A tap is kept if it lies earlier in raster order than the centre, or (type B) is the centre."""
    radius, mask = kernel // 2, kernel_mask(kernel, mask_type)
    assert mask.shape == (radius + 1, kernel)
    for i in range(radius + 1):
        for j in range(kernel):
            earlier = (i, j) < (radius, radius)
            assert bool(mask[i, j]) == (earlier or (mask_type == "B" and (i, j) == (radius, radius)))


def test_kernel_mask_counts():
    """The figures of the literature: 24 of 49 taps for 7×7 type A, 5 of 9 for 3×3 type B."""
    assert int(kernel_mask(7, "A").sum()) == 24
    assert int(kernel_mask(3, "B").sum()) == 5


@pytest.mark.parametrize("kernel", [0, -1, 2, 4])
def test_kernel_mask_refuses_even_kernels(kernel):
    """Without a centre pixel there is no mask."""
    with pytest.raises(ValueError, match="odd"):
        kernel_mask(kernel, "A")
