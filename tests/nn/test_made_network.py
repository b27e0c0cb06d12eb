"""MADE's network: exact dependence on earlier variables and the auxiliary vector, walked and at once."""

from __future__ import annotations

import pytest
import torch

from chainrule.nn import MADENetwork
from laws import randomised

SHAPES = [
    (1, 3, (4,), 0),
    (1, 2, (3, 3), 2),
    (2, 3, (7,), 0),
    (3, 4, (8, 5), 3),
    (4, 2, (9, 4, 11), 0),
    (4, 2, (7, 6), 5),
]


@pytest.mark.parametrize(("variables", "levels", "hidden", "auxiliary"), SHAPES)
class TestMADENetwork:
    def test_each_output_sees_earlier_inputs_and_the_auxiliary(self, variables, levels, hidden, auxiliary):
        """The Jacobian's pattern over many weights is the allowed one exactly."""
        network = MADENetwork(variables, levels, hidden, auxiliary)
        seen = torch.zeros(variables, variables, dtype=torch.bool)
        helped = torch.zeros(variables, dtype=torch.bool)
        for seed in range(40):
            randomised(network, seed=seed)
            v = (torch.rand(30, variables, dtype=torch.float64) * (levels - 1)).requires_grad_()
            a = torch.randn(30, auxiliary, dtype=torch.float64, requires_grad=True) if auxiliary else None
            mixed = network(v, a) @ torch.randn(levels, dtype=torch.float64)
            for d in range(variables):
                (gradient,) = torch.autograd.grad(mixed[:, d].sum(), v, retain_graph=True)
                seen[d] |= gradient.abs().amax(0) > 0
                if auxiliary:
                    (gradient,) = torch.autograd.grad(mixed[:, d].sum(), a, retain_graph=True)
                    helped[d] |= bool((gradient.abs().amax(0) > 0).all())
        assert torch.equal(seen, torch.ones(variables, variables, dtype=torch.bool).tril(-1))
        assert helped.all() == bool(auxiliary)

    def test_the_walk_gives_the_same_logits(self, variables, levels, hidden, auxiliary):
        """Variable by variable, each hidden unit computed once, asked twice or not at all."""
        network = randomised(MADENetwork(variables, levels, hidden, auxiliary))
        x = torch.randint(0, levels, (6, variables))
        a = torch.randn(6, auxiliary, dtype=torch.float64) if auxiliary else None
        with torch.no_grad():
            whole = network(x.double(), a)
            for times in (0, 1, 2):
                walk = network.start(6, a)
                for d in range(variables):
                    for _ in range(times if d < variables - 1 else 1):
                        torch.testing.assert_close(network.logits(walk), whole[:, d], rtol=0, atol=1e-12)
                    walk = network.observe(walk, x[:, d])


def test_leading_sides_are_free():
    """Logits of many pixels at once are those of each pixel."""
    network = randomised(MADENetwork(3, 4, (9,), 2))
    v, a = torch.randint(0, 4, (2, 5, 3)).double(), torch.randn(2, 5, 2, dtype=torch.float64)
    assert network(v, a).shape == (2, 5, 3, 4)
    torch.testing.assert_close(network(v, a)[1, 2], network(v[1, 2], a[1, 2]), rtol=0, atol=1e-12)
