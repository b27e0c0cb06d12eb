"""The softmax against torch.distributions."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical

from chainrule.errors import ModelError
from chainrule.heads import Softmax

softmax = Softmax()


@pytest.fixture
def logits():
    return torch.randn(4, 3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4


def test_agrees_with_the_distribution(logits):
    """log_prob, log_pmf and pmf are Categorical's."""
    x = torch.randint(0, 7, (4, 3))
    oracle = Categorical(logits=logits)
    torch.testing.assert_close(softmax.log_prob(logits, x), oracle.log_prob(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(softmax.log_pmf(logits), oracle.logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(softmax.pmf(logits), oracle.probs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precision_of_the_result(logits, dtype):
    """Likelihoods are in float32 at least, walks always in float64; inputs of few bits are widened first."""
    few, x = logits.to(dtype), torch.zeros(4, 3, dtype=torch.uint8)
    wide = dtype if dtype == torch.float64 else torch.float32
    assert softmax.log_prob(few, x).dtype == softmax.log_pmf(few).dtype == wide
    assert softmax.pmf(few).dtype == torch.float64
    torch.testing.assert_close(softmax.pmf(few).sum(-1), torch.ones(4, 3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(softmax.log_prob(few, x), softmax.log_pmf(few.to(wide))[..., 0], rtol=0, atol=1e-6)


def test_extreme_logits_stay_finite():
    """Large differences of logits give a very small probability, never a NaN."""
    logits = torch.tensor([[1e4, -1e4, 0.0]])
    assert softmax.log_prob(logits, torch.tensor([1])).tolist() == [-2e4]
    assert softmax.pmf(logits)[0].tolist() == [1, 0, 0]
    assert torch.isfinite(softmax.log_pmf(logits)).all()


def test_gradient_is_that_of_cross_entropy(logits):
    """d log p(x) / d logits = onehot(x) - pmf."""
    x = torch.randint(0, 7, (4, 3))
    leaf = logits.clone().requires_grad_()
    softmax.log_prob(leaf, x).sum().backward()
    wanted = torch.nn.functional.one_hot(x, 7) - softmax.pmf(logits)
    torch.testing.assert_close(leaf.grad, wanted, rtol=0, atol=1e-12)


def test_there_are_no_frequencies(logits):
    """Those are what an exact model has; and nothing is stored."""
    for ask in (lambda: softmax.frequencies(logits), lambda: softmax.log_probs_of(logits, logits, [])):
        with pytest.raises(ModelError, match="only an exact model"):
            ask()
    assert not softmax.exact
    assert not softmax.state_dict()
