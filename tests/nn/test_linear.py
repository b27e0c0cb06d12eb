"""The masked linear layer."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from chainrule.nn import MaskedLinear

MASK = torch.tensor([[True, False, True], [False, False, False], [True, True, True], [False, True, False]])


def test_is_a_linear_layer_with_a_masked_weight():
    """y = (mask ∘ W) x + b, for any leading sides."""
    layer, x = MaskedLinear(MASK).double(), torch.randn(2, 5, 3, dtype=torch.float64)
    wanted = F.linear(x, torch.where(MASK, layer.weight, 0.0), layer.bias)
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=0)
    assert torch.equal(layer.masked_weight(), torch.where(MASK, layer.weight, 0.0))


def test_jacobian_is_the_mask():
    """Output o depends on input i exactly where the mask says so."""
    jacobian = torch.autograd.functional.jacobian(MaskedLinear(MASK), torch.randn(3))
    assert torch.equal(jacobian != 0, MASK)


def test_mask_is_applied_on_use():
    """The stored weight stays whole; masked entries get no gradient; only weight and bias are saved."""
    layer = MaskedLinear(MASK)
    assert (layer.weight[~MASK] != 0).all()
    layer(torch.randn(7, 3)).sum().backward()
    assert layer.weight.grad[~MASK].eq(0).all()
    assert layer.weight.grad[MASK].ne(0).all()
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_initial_scale_follows_the_connections():
    """An output of few connections starts with larger weights: its variance does not depend on their number."""
    torch.manual_seed(0)
    mask = torch.zeros(2, 400, dtype=torch.bool)
    mask[0, :4], mask[1] = True, True
    outputs = torch.cat([MaskedLinear(mask)(torch.randn(50, 400)) for _ in range(60)])
    few, many = outputs.var(0).tolist()
    assert 0.8 < few / many < 1.25
