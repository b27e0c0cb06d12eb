"""Attention: over a sequence and step by step, float and exact; and what an exact attention is near to."""

from __future__ import annotations

import pytest
import torch

import chainrule as cr
from chainrule import sampling
from chainrule.errors import ModelError
from chainrule.fixedpoint.exact_attention import ExactCausalAttention
from chainrule.nn import AttentionTrunk, CausalAttention


@pytest.mark.parametrize("length", [1, 2, 33])
def test_exact_attention_is_attention(length) -> None:
    """Within the grids, whatever the scores; and a step has the very bits of the pass, whatever the batch."""
    torch.manual_seed(0)
    exact, real = ExactCausalAttention(), CausalAttention()
    q, k, v = (torch.randn(3, 2, length, 4) * scale for scale in (3.0, 3.0, 2.0))
    found, wanted = exact(q, k, v), real(q, k, v)
    assert (found - wanted).abs().max() < 0.02
    assert torch.equal(exact(q[1:2], k[1:2], v[1:2])[0], found[1])
    for n in range(1, length + 1):
        step = exact.step(q[:, :, n - 1], k[:, :, :n], v[:, :, :n])
        assert torch.equal(step, found[:, :, n - 1])


def test_rows_at_a_time(monkeypatch) -> None:
    """Long sequences are taken in pieces that fit the memory, which changes no bit."""
    from chainrule.fixedpoint import exact_attention

    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 29, 4).unbind(0)
    whole = ExactCausalAttention()(q, k, v)
    monkeypatch.setattr(exact_attention, "PASS", 29 * 2 * 3)
    assert torch.equal(ExactCausalAttention()(q, k, v), whole)


def test_walk_and_pass_on_larger_images() -> None:
    """With several heads, blocks and rows; the exact model's walk has the pass's bits."""
    torch.manual_seed(0)
    model = cr.ImageGPT((3, 5, 6), 4, filters=64, blocks=2)
    assert model.trunk.blocks[0].look.heads == 2
    x = model.sample(2, generator=torch.Generator().manual_seed(0))
    double = cr.ImageGPT((3, 5, 6), 4, filters=64, blocks=2).double()
    double.load_state_dict(model.state_dict())
    assert (sampling.score(double, x) - double.site_log_probs(x)).abs().max() < 1e-10
    exact = cr.exact(model)
    assert torch.equal(sampling.score(exact, x), exact.site_log_probs(x))
    assert (exact.log_prob(x) - model.log_prob(x)).abs().max() < 0.5


def test_labels_move_every_block() -> None:
    """A label changes the likelihood once its weights are not zero, in pass and walk alike."""
    torch.manual_seed(0)
    model = cr.ImageGPT((1, 3, 3), 3, "factorised", filters=8, blocks=2, classes=3).double()
    x = torch.zeros(3, 1, 3, 3, dtype=torch.long)
    labels = torch.arange(3)
    assert model.log_prob(x, labels).unique().numel() == 1
    for block in model.trunk.blocks:
        torch.nn.init.normal_(block.context.weight)
    assert model.log_prob(x, labels).unique().numel() == 3
    found = sampling.score(model, x, labels)
    assert (found - model.site_log_probs(x, labels)).abs().max() < 1e-10


def test_refusals() -> None:
    """Attention knows the size of its images."""
    with pytest.raises(ModelError, match="no events of shape"):
        cr.ImageGPT((1, None, None), 3)
    with pytest.raises(ModelError, match="give the shape a height and a width"):
        AttentionTrunk(1, 8, 1, True)


def test_pixelsnail_begins_as_the_pixelcnn_whose_weights_it_takes() -> None:
    """Bit for bit, since what attention finds is multiplied by zero; every weight has a gradient, so that it learns."""
    torch.manual_seed(0)
    plain = cr.PixelCNNMADE((3, 5, 6), 4, filters=16, blocks=9)
    model = cr.PixelSNAIL((3, 5, 6), 4, filters=16, blocks=9)
    taken = plain.state_dict()
    assert taken.keys() < model.state_dict().keys()
    model.load_state_dict(model.state_dict() | taken)
    assert model.trunk.places == [4, 8]
    x = model.sample(3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.log_prob(x), plain.log_prob(x))
    assert (cr.exact(model).log_prob(x) - model.log_prob(x)).abs().max() < 0.5
    assert torch.equal(sampling.score(model.double(), x), sampling.score(plain.double(), x))
    for look in model.trunk.looks:
        torch.nn.init.normal_(look.gather.weight)
    assert not torch.equal(model.log_prob(x), plain.log_prob(x))
    model.loss(x).backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in model.trunk.looks.parameters())
