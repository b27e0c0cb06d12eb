"""The gated block in exact arithmetic: its table, its convolutions, its context."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch

from chainrule import sampling
from chainrule.errors import DataError
from chainrule.fixedpoint import calibrate, exact, fingerprint, probe
from chainrule.fixedpoint.exact_gates import GATE_BITS, ExactGate, tanh_table
from chainrule.models import GatedPixelCNN, GatedPixelCNNMADE
from chainrule.nn import Gate
from laws import enumerate_events, events, randomised


def test_the_table_is_tanh_rounded():
    """Each entry, by the exponential series in fractions; monotone, and at its end as good as 1."""
    table = tanh_table()
    for d in (1, 2, 77, 1024, 2048, 9999, len(table) - 2):
        x = Fraction(d, 2**10)
        e = sum((x**k / math.factorial(k) for k in range(140)), Fraction(0))
        assert table[d] == math.floor((e - 1) / (e + 1) * 2**GATE_BITS + Fraction(1, 2))
    assert all(below <= above for below, above in itertools.pairwise(table))
    assert table[0] == 0
    assert table[-2] < table[-1] == 2**GATE_BITS


def test_the_gate_is_the_gate():
    """As near as its grid allows, everywhere; in any type that carries the argument, along any side."""
    x = torch.randn(2, 64, 7, 5, generator=torch.Generator().manual_seed(0)) * 4
    x[0, 0, 0] = torch.tensor([1e30, -1e30, 0.0, 7.7, -7.7])
    gate = ExactGate()
    found = gate(x)
    assert (found - Gate()(x)).abs().max() < 4e-4
    assert torch.equal(gate(x.movedim(1, -1), -1), found.movedim(1, -1))
    assert torch.equal(gate(x.to(memory_format=torch.channels_last)), found)
    assert torch.equal(gate(-torch.cat([x[:, :32], -x[:, 32:]], 1)), -found)
    assert found.dtype == torch.float32


@pytest.fixture
def twin(conditional_case):
    return exact(randomised(conditional_case.build(), dtype=torch.float32))


def test_conditional_walk_equals_parallel_pass(twin):
    """The same integers, event by event under its own label, in any batch; and they sum to 1 for each."""
    x, labels = events(twin, 12), twin.example_context(12)
    log_p = twin.site_log_probs(x, labels)
    assert torch.equal(sampling.score(twin, x, labels), log_p)
    assert torch.equal(torch.cat([twin.site_log_probs(x[k : k + 1], labels[k : k + 1]) for k in range(12)]), log_p)
    outcomes = enumerate_events(twin)
    for label in range(twin.classes):
        total = twin.log_prob(outcomes, torch.full((len(outcomes),), label)).exp().sum()
        assert abs(float(total) - 1) < 1e-10


def test_conditional_twins_are_near_and_identified(conditional_case):
    model = randomised(conditional_case.build(), dtype=torch.float32)
    twin = exact(model)
    x = enumerate_events(model)[:500]
    labels = model.example_context(len(x))
    assert (twin.log_prob(x, labels) - model.log_prob(x, labels).double()).abs().max() < 0.15
    again = exact(model)
    assert (fingerprint(again), probe(again)) == (fingerprint(twin), probe(twin))
    with torch.no_grad():
        model.trunk.blocks[0].vertical_context.weight[0, 0] += 0.5
    assert fingerprint(model) != fingerprint(twin)


def test_conditional_models_are_calibrated_on_given_contexts():
    torch.manual_seed(0)
    model = randomised(GatedPixelCNNMADE((1, 4, 4), 3, 6, 2, classes=2), dtype=torch.float32)
    x = events(model, 40)
    given = calibrate(model, x, torch.zeros(40, dtype=torch.long))
    assert given != calibrate(model, x)
    with pytest.raises(DataError, match="shape"):
        calibrate(model, x, torch.zeros(3, dtype=torch.long))
    exact(model, given)


@pytest.mark.parametrize("cls", [GatedPixelCNN, GatedPixelCNNMADE])
def test_the_gates_share_one_table(cls):
    """On disk there is none; in the fingerprint one."""
    torch.manual_seed(0)
    twin = exact(cls((1, 3, 3), 2, 4, 3))
    assert [name for name, _ in twin.named_buffers() if name.endswith("gate.table")] == ["trunk.blocks.0.gate.table"]
    assert not any("table" in name for name in twin.state_dict())
