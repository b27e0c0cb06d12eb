"""Integer grids: the certificate is the true worst case, and rows are as fine as it allows."""

from __future__ import annotations

import itertools

import pytest
import torch

from chainrule.errors import ModelError
from chainrule.fixedpoint.arithmetic import LIMITS
from chainrule.fixedpoint.grid import FINEST, Inputs, Part, choose_rows, inputs_from, worst_case


def every_partial_sum(weights, choices, bias):
    """The largest |partial sum| over all inputs and all subsets of terms, of which every order's sums are some."""
    terms = [[w * c for c in (0, *choices)] for w in weights] + [[0, bias]]
    return max(abs(sum(pick)) for pick in itertools.product(*terms))


@pytest.mark.parametrize(("low", "high"), [(0, 3), (-3, 3), (-1, 2)])
@pytest.mark.parametrize("seed", range(5))
def test_worst_case_is_that_of_all_inputs_and_all_orders(low, high, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-9, 10, (3, 5), generator=generator)
    bias = torch.randint(-9, 10, (3,), generator=generator)
    found = worst_case([Part(weight.double(), Inputs(0, low, high))], [weight], bias)
    for row in range(3):
        expected = every_partial_sum(weight[row].tolist(), range(low, high + 1), int(bias[row]))
        assert int(found[row]) == expected


def test_worst_case_of_one_hot_inputs_counts_one_entry_of_each_vector():
    weight = torch.tensor([[5, -2, 3, 4, -7, 1]])
    found = worst_case([Part(weight.double(), Inputs(0, 0, 0, levels=3))], [weight], torch.tensor([-1]))
    assert int(found) == max(5 + 4, 2 + 7 + 1)


def test_worst_case_of_one_hot_inputs_under_a_kernel():
    """Every tap brings a vector of its own; the channels of a vector lie side by side."""
    weight = torch.randint(-9, 10, (2, 2 * 3, 2, 3), generator=torch.Generator().manual_seed(0))
    found = worst_case([Part(weight.double(), Inputs(0, 0, 0, levels=3))], [weight], torch.zeros(2).long())
    groups = weight.view(2, 2, 3, 6)
    up = groups.clamp(min=0).amax(2).sum((1, 2))
    assert found.tolist() == torch.maximum(up, (-groups).clamp(min=0).amax(2).sum((1, 2))).tolist()


@pytest.mark.parametrize("carrier", ["float32", "float64"])
def test_rows_fit_and_could_not_be_finer(carrier):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(40, 30, generator=generator).double() * torch.logspace(-3, 3, 40)[:, None].double()
    bias, inputs = torch.randn(40, generator=generator).double(), Inputs(8, 0, 2000)
    rows = choose_rows("layer", [Part(weight, inputs)], bias, carrier)
    worst = worst_case([Part(weight, inputs)], [rows.weights[0].long()], rows.bias.long())
    assert int(worst.max()) == rows.worst <= LIMITS[carrier]
    for row in range(40):
        f = int(rows.bits[row])
        assert torch.equal(rows.weights[0][row], (weight[row] * 2.0 ** (f - 8)).round())
        finer = [(weight[row : row + 1] * 2.0 ** (f + 1 - 8)).round()]
        beyond = worst_case(
            [Part(weight[row : row + 1], inputs)], finer, (bias[row : row + 1] * 2.0 ** (f + 1)).round()
        )
        assert f == FINEST or float(beyond) > LIMITS[carrier]


def test_what_cannot_be_certified_is_refused_by_name():
    inputs = Inputs(0, 0, 2**20)
    for weight, said in [(1e30, "outgrow"), (float("nan"), "finite"), (float("inf"), "finite"), (2.0**60, "outgrow")]:
        with pytest.raises(ModelError, match=rf"blocks.3.reduce.*{said}"):
            choose_rows(
                "blocks.3.reduce", [Part(torch.full((2, 3), weight).double(), inputs)], torch.zeros(2), "float64"
            )


def test_values_are_rounded_to_even_and_clamped():
    x = torch.tensor([-9.0, 0.125, 0.375, 0.626, 1e9, float("inf"), -float("inf")])
    assert Inputs(2, -4, 7).quantise(x).tolist() == [-4, 0, 2, 3, 7, 7, -4]


@pytest.mark.parametrize(
    "scale",
    [None, 3, {"bits": 1.0}, {"bits": True}, {"high": "9"}, {"low": 3, "high": 2}, {"high": 2**40}, {"bits": 900}, []],
)
def test_damaged_scales_are_refused(scale):
    with pytest.raises(ModelError, match=r"scales of the layer .* damaged"):
        inputs_from("hidden", scale)
