"""Optimisers: PyTorch's by name, and Muon's two kinds of steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chainrule.models import MADE, REGISTRY, ConditionalMLP, Histogram, PixelCNNMADE
from chainrule.training.optimizers import (
    ADAM_LR_RATIO,
    OPTIMIZERS,
    Muon,
    make_optimizer,
    orthogonalised,
)


def muon_of(model, lr, **options):
    return make_optimizer("muon", model, lr, options.get("weight_decay", 0.0), options.get("betas", (0.9, 0.99)))


@pytest.mark.parametrize(
    ("name", "cls"),
    [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("muon", Muon)],
)
def test_by_name(name, cls):
    """Each name gives its class, with the settings handed on, over every parameter once."""
    model = PixelCNNMADE((2, 3, 3), 3, 4, 1)
    optimizer = make_optimizer(name, model, 0.02, 0.1, (0.8, 0.95))
    assert type(optimizer) is cls
    covered = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(covered) == sorted(id(p) for p in model.parameters())
    for group in optimizer.param_groups:
        assert (group["lr"], group["weight_decay"]) == (0.02, 0.1)
        assert group["momentum"] == 0.8 if name == "sgd" else group["betas"] == (0.8, 0.95)


def test_an_unknown_name_is_refused():
    """A misspelt optimiser must not train silently with another one."""
    with pytest.raises(Exception, match="adagrad"):
        make_optimizer("adagrad", Histogram(3), 0.1, 0.0, (0.9, 0.99))


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (3, 9), (9, 3), (1, 7), (32, 16)])
def test_orthogonalised_has_singular_values_near_one(shape):
    """The iteration keeps the singular vectors and brings every singular value near 1; scale does not matter."""
    generator = torch.Generator().manual_seed(1)
    m = torch.randn(3, *shape, generator=generator)
    u, values, v = torch.linalg.svd(m, full_matrices=False)
    m = u @ torch.diag_embed(values.clamp(min=0.2 * float(values.max()))) @ v
    result = orthogonalised(m)
    assert result.shape == m.shape
    found = torch.linalg.svdvals(result)
    assert float(found.min()) > 0.6
    assert float(found.max()) < 1.25
    torch.testing.assert_close(orthogonalised(m * 1e3), result, rtol=0, atol=1e-3)
    assert float((result * (u @ v)).sum((1, 2)).min()) > 0.6 * min(shape)


def test_orthogonalised_nothing_is_nothing():
    """A zero gradient moves nothing and makes no NaN."""
    assert torch.equal(orthogonalised(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


def test_a_new_optimiser_is_one_line(monkeypatch):
    """What stands in the table can be chosen."""
    monkeypatch.setitem(OPTIMIZERS, "plain", lambda model, lr, decay, betas: torch.optim.SGD(model.parameters(), lr))
    assert type(make_optimizer("plain", Histogram(3), 0.1, 0.0, (0.9, 0.99))) is torch.optim.SGD


SHAPE = ((2, 3, 4), 3, 6, 1)
MASKED = [(3, 6, 1, 1), (3, 3, 2, 3), (6, 3, 1, 1), (6, 6, 1, 1)]
GATED = [(12, 6, 2, 3), (12, 12, 1, 1), (12, 6, 1, 2), (6, 6, 1, 1), (6, 6, 1, 1)]
ATTENTION = [(18, 6, 1, 1), (6, 6, 1, 1), (24, 6, 1, 1), (6, 24, 1, 1), (6, 6, 1, 1)]
LOOK = [(96, 6, 1, 1), (6, 32, 1, 1)]
CHANNELS = [(12, 6), (12, 6)]
HIDDEN = {
    "Histogram": ((4,), []),
    "ConditionalMLP": ((4, "onehot", (8, 6)), [(8, 4), (6, 8), (4, 6)]),
    "MADE": (((3,), 4, (8, 6)), [(8, 12), (6, 8)]),
    "PixelCNN": (SHAPE, MASKED),
    "PixelCNNMADE": (SHAPE, MASKED + CHANNELS),
    "GatedPixelCNN": ((*SHAPE, True, 5), GATED),
    "GatedPixelCNNMADE": ((*SHAPE, True, 5), GATED + CHANNELS),
    "GrayscalePixelCNN": (SHAPE, GATED + GATED + CHANNELS + 2 * [(6, 6, 3, 3)]),
    "LogisticPixelCNN": (SHAPE, MASKED),
    "ImageGPT": ((*SHAPE[:2], "factorised", *SHAPE[2:]), ATTENTION),
    "ImageModel": ((*SHAPE[:2], "gated", "logistic", *SHAPE[2:]), GATED),
    "PixelSNAIL": ((*SHAPE[:2], "factorised", *SHAPE[2:]), MASKED + LOOK),
    "PixelIQN": (SHAPE, [*MASKED, (10, 6), (5, 5)]),
}
"""Arguments of a small model, and the shapes of the weights that are orthogonalised."""


@pytest.mark.parametrize("name", REGISTRY)
def test_muon_leaves_outer_layers_and_vectors_to_adam(name):
    """Matrices and kernels inside are orthogonalised; first layer, logits, context, biases and gains are Adam's."""
    arguments, shapes = HIDDEN[name]
    model = REGISTRY[name](*arguments)
    hidden = model.hidden_parameters()
    assert sorted(tuple(p.shape) for p in hidden) == sorted(shapes)
    groups = {group["matrix"]: [id(p) for p in group["params"]] for group in muon_of(model, 0.1).param_groups}
    assert groups.get(True, []) == [id(p) for p in hidden]
    assert sorted(groups.get(True, []) + groups[False]) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize("model", [Histogram(4), ConditionalMLP(4, "onehot", ()), MADE((2,), 3, (4,))])
def test_muon_copes_with_models_without_one_kind(model):
    """A model of vectors alone, or without inner matrices, is trained all the same."""
    optimizer = muon_of(model, 0.01)
    before = [p.detach().clone() for p in model.parameters()]
    (-model.log_prob(torch.zeros(2, *model.shape, dtype=torch.long)).mean()).backward()
    optimizer.step()
    assert any(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_muons_adam_is_adam():
    """What is not a matrix gets torch.optim.Adam's update, at the given fraction of the learning rate."""
    ours, theirs = Histogram(5), Histogram(5)
    muon = muon_of(ours, 0.5, betas=(0.8, 0.9))
    adam = torch.optim.Adam(theirs.parameters(), 0.5 * ADAM_LR_RATIO, betas=(0.8, 0.9))
    for k in range(20):
        for model, optimizer in ((ours, muon), (theirs, adam)):
            optimizer.zero_grad()
            (-model.log_prob(torch.tensor([[k % 5], [1]])).mean()).backward()
            optimizer.step()
        torch.testing.assert_close(ours.theta, theirs.theta, rtol=1e-5, atol=1e-6)


def test_muons_matrix_step():
    """A matrix moves by the learning rate along an orthogonal matrix; kernels as (outputs, inputs · taps)."""
    for layer in (nn.Linear(6, 6, bias=False), nn.Conv2d(3, 4, (1, 2), bias=False), nn.Linear(2, 8, bias=False)):
        weight = layer.weight
        before = weight.detach().clone()
        weight.grad = torch.randn(weight.shape)
        Muon([weight], [], 0.1).step()
        step = (weight.detach() - before).flatten(1)
        rows, columns = step.shape
        scale = 0.1 * max(1, rows / columns) ** 0.5
        values = torch.linalg.svdvals(step) / scale
        assert float(values.max()) < 1.3
        assert float((step * weight.grad.flatten(1)).sum()) < 0


def test_muons_matrices_remember_earlier_gradients():
    """Nesterov's momentum, written out; layers of one shape, which are orthogonalised together, each for itself."""
    weights = [torch.randn(4, 3, requires_grad=True) for _ in range(2)]
    expected = [weight.detach().clone() for weight in weights]
    optimizer, averages = Muon(weights, [], 0.1), [torch.zeros(4, 3) for _ in weights]
    for _ in range(3):
        for k, weight in enumerate(weights):
            weight.grad = torch.randn(4, 3)
            averages[k] = 0.95 * averages[k] + 0.05 * weight.grad
            ahead = 0.95 * averages[k] + 0.05 * weight.grad
            expected[k] -= 0.1 * (4 / 3) ** 0.5 * orthogonalised(ahead[None])[0]
        optimizer.step()
        for weight, wanted in zip(weights, expected, strict=True):
            torch.testing.assert_close(weight.detach(), wanted, rtol=1e-4, atol=1e-5)


def test_muons_weight_decay_shrinks_matrices():
    """Decay is decoupled: a matrix without a gradient's pull shrinks by lr · decay a step."""
    layer = nn.Linear(3, 3)
    before = layer.weight.detach().clone()
    layer.weight.grad, layer.bias.grad = torch.zeros(3, 3), torch.zeros(3)
    Muon([layer.weight], [layer.bias], 0.1, weight_decay=0.5).step()
    torch.testing.assert_close(layer.weight.detach(), before * 0.95)
