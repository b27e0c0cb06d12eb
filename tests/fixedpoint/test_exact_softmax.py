"""The exact softmax: frequencies in integers."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch

from chainrule.errors import ModelError
from chainrule.fixedpoint import ExactSoftmax, calibrate, exact
from chainrule.fixedpoint.exact_softmax import LOGIT_BITS, TOTAL_BITS, WEIGHT_BITS, exp_table
from chainrule.heads import Softmax
from chainrule.models import Histogram


def test_table_is_the_rounded_exponential():
    """Every entry is the nearest integer, against 60 digits of mpmath."""
    table = exp_table()
    with mpmath.workdps(60):
        for d in [*range(0, len(table), 97), 1, len(table) - 1]:
            assert table[d] == int(mpmath.floor(mpmath.exp(mpmath.mpf(-d) / 2**LOGIT_BITS) * 2**WEIGHT_BITS + 0.5))
        assert mpmath.exp(mpmath.mpf(-len(table)) / 2**LOGIT_BITS) * 2**WEIGHT_BITS < 0.5


@pytest.mark.parametrize("levels", [2, 3, 4, 100, 256, 5000])
@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 30.0, 1e6])
def test_frequencies_sum_to_the_total_and_none_is_zero(levels, spread):
    logits = torch.randn(50, levels, generator=torch.Generator().manual_seed(levels)) * spread
    frequency = ExactSoftmax().frequencies(logits)
    assert frequency.dtype == torch.int64
    assert bool((frequency.sum(-1) == 2**TOTAL_BITS).all())
    assert int(frequency.min()) >= 1


def test_frequencies_follow_the_formula_in_python_integers():
    levels, table = 7, [*exp_table(), 0]
    logits = torch.randn(30, levels, generator=torch.Generator().manual_seed(1)) * 4
    logits[0] = 2.5  # all alike: the remainder goes to the first
    logits[1, 3] = logits[1, 5] = 50.0
    found = ExactSoftmax().frequencies(logits)
    for row, frequency in zip(logits.tolist(), found.tolist(), strict=True):
        whole = [round(value * 2**LOGIT_BITS) for value in row]
        weight = [table[min(max(whole) - value, len(table) - 1)] for value in whole]
        expected = [1 + w * (2**TOTAL_BITS - levels) // sum(weight) for w in weight]
        expected[whole.index(max(whole))] += 2**TOTAL_BITS - sum(expected)
        assert frequency == expected


def test_close_to_the_softmax():
    logits = torch.randn(1000, 5, generator=torch.Generator().manual_seed(2)) * 3
    few, soft = ExactSoftmax(), Softmax()
    x = logits.argmax(-1)
    assert (few.pmf(logits) - soft.pmf(logits)).abs().max() < 1e-3
    assert (few.log_prob(logits, x) - soft.log_prob(logits, x)).abs().max() < 2e-3
    assert torch.equal(few.log_prob(logits, x), few.log_pmf(logits).gather(-1, x[:, None])[:, 0])
    assert few.log_prob(logits, x).dtype == torch.float64


def test_the_carrier_of_the_logits_does_not_matter():
    logits = torch.randn(100, 9, generator=torch.Generator().manual_seed(3)) * 20
    head = ExactSoftmax()
    assert torch.equal(head.frequencies(logits), head.frequencies(logits.double()))


def test_least_probability_is_bounded():
    log_pmf = ExactSoftmax().log_pmf(torch.tensor([0.0, -1e30, -1e38]))
    assert log_pmf[1:].tolist() == [-TOTAL_BITS * math.log(2)] * 2


def test_impossible_levels_have_no_mass():
    """A logit of -inf: the others share everything, as if it were not there, wherever it stands."""
    logits = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * 5
    gone = torch.tensor([True, False, False, True, False, True])
    head = ExactSoftmax()
    found = head.frequencies(logits.masked_fill(gone, float("-inf")))
    assert torch.equal(found[:, gone], torch.zeros(50, 3, dtype=torch.long))
    assert torch.equal(found[:, ~gone], head.frequencies(logits[:, ~gone]))
    far = torch.tensor([float("-inf"), -1e38, -1e38])
    assert head.frequencies(far).tolist() == [0, 2**21, 2**21]


def test_too_many_levels_are_refused():
    """Their frequencies would leave no room for probabilities; as many as fit are fine."""
    with pytest.raises(ModelError, match="65,537 levels are more than exact mode has frequencies for"):
        exact(Histogram(2**16 + 1))
    most = Histogram(2**16)
    assert exact(most, calibrate(most, torch.zeros(1, 1, dtype=torch.long))).softmax.exact


def test_integers_are_frequencies_already():
    """An exact mixture gives them in the place of logits."""
    given = torch.tensor([[2**21, 2**21 - 1, 1]])
    assert ExactSoftmax().frequencies(given) is given
    assert ExactSoftmax().pmf(given).tolist() == [[0.5, 0.5 - 2.0**-22, 2.0**-22]]


def test_the_table_is_not_stored():
    assert not ExactSoftmax().state_dict()
