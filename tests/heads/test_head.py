"""The five methods that every head has: whole pixels and channel by channel, on the same weights."""

from __future__ import annotations

import itertools

import pytest
import torch

from chainrule.errors import ModelError
from chainrule.heads import HEADS, Softmax
from chainrule.heads.quantile_loss import kappa, quantile_huber, scaled
from chainrule.nn import LevelEncoding
from laws import randomised

SIZES = [(1, 2, 5), (3, 4, 6), (2, 17, 3), (4, 3, 1)]
N = 7


@pytest.fixture(params=[(name, *size) for name in HEADS for size in SIZES], ids=str)
def made(request):
    """A head, features of seven pixels as a trunk gives them, and levels of their channels."""
    name, channels, levels, filters = request.param
    generator = torch.Generator().manual_seed(1)
    head = randomised(HEADS[name](channels, levels, filters, LevelEncoding(levels)), std=0.7)
    features = torch.randn(N, filters, generator=generator, dtype=torch.float64).relu()
    return head, features, torch.randint(0, levels, (N, channels), generator=generator)


def probabilities(head, found, channel):
    """What a head says of a channel, (N, …): probabilities, or the levels at some quantiles."""
    if head.has_likelihood:
        return Softmax().pmf(found)
    inverse = found if callable(found) else head.inverse_cdf(found, channel)
    return torch.stack([inverse(torch.full((N,), u, dtype=torch.float64)) for u in (0.02, 0.3, 0.6, 0.98)], -1).double()


def test_steps_are_the_whole_pixel(made):
    """Asked once, twice or not at all; a pixel after another one, whose prepared weights serve again."""
    head, features, x = made
    with torch.no_grad():
        whole, before = head(features, x.double()), None
        for times in (1, 2, 0):
            state = head.start(features, before)
            for channel in range(head.channels):
                for _ in range(times if channel < head.channels - 1 else 1):
                    found = probabilities(head, head.logits(state), channel)
                    wanted = probabilities(head, whole[:, channel], channel)
                    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
                state = head.observe(state, x[:, channel])
            before = state


def test_leading_sides_are_free(made):
    """Pixels of images come as (B, H, W, filters)."""
    head, features, x = made
    whole = head(features, x.double())
    images = head(features.expand(2, 3, -1, -1), x.double().expand(2, 3, -1, -1))
    torch.testing.assert_close(images, whole.expand(2, 3, *whole.shape), rtol=0, atol=1e-12)


def test_a_channel_sees_features_and_earlier_channels_alone(made):
    """All of them but for the factorised head, which sees no channel."""
    head, features, _ = made
    seen, felt = torch.zeros(head.channels, head.channels), torch.zeros(head.channels)
    for seed in range(20):
        randomised(head, std=0.7, seed=seed)
        v = torch.rand(N, head.channels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        v, given = (v * (head.levels - 1)).requires_grad_(), (features + 0.1).requires_grad_()
        whole = head(given, v)
        mixed = whole @ torch.randn(whole.shape[-1], dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for c in range(head.channels):
            by_level, by_feature = torch.autograd.grad(
                mixed[:, c].sum(), (v, given), retain_graph=True, materialize_grads=True
            )
            seen[c] += by_level.abs().amax(0)
            felt[c] += by_feature.abs().amax()
    allowed = torch.ones(head.channels, head.channels).tril(-1) * (not head.independent_channels)
    assert torch.equal((seen > 0).float(), allowed)
    assert bool((felt > 0).all())


def test_the_loss_is_that_of_the_distribution(made):
    """−log p of each channel; of quantiles, the Huber loss as a mean over a grid, and at random τ while training."""
    head, features, x = made
    loss = head.loss(features, x.double())
    assert loss.shape == x.shape
    if head.has_likelihood:
        torch.testing.assert_close(loss, -Softmax().log_prob(head(features, x.double()), x), rtol=0, atol=1e-9)
        return
    h, total = head(features, x.double()), 0.0
    for k in range(8):
        tau = torch.full(x.shape, (k + 0.5) / 8, dtype=torch.float64)
        total += quantile_huber(scaled(x.double(), head.levels), head.quantiles(h, tau), tau, kappa(head.levels)) / 8
    torch.testing.assert_close(loss, total, rtol=0, atol=1e-12)
    head.train()
    assert not torch.equal(head.loss(features, x.double()), head.loss(features, x.double()))


def test_probabilities_of_a_pixel_sum_to_one(made):
    """Over all levels of all channels."""
    head, features, _ = made
    if not head.has_likelihood or head.levels**head.channels > 300:
        return
    x = torch.tensor(list(itertools.product(range(head.levels), repeat=head.channels)))
    for row in features:
        total = (-head.loss(row.expand(len(x), -1), x.double()).detach()).sum(-1).exp().sum()
        assert abs(float(total) - 1) < 1e-10


def test_a_feature_that_is_no_number_reaches_every_channel(made):
    """In the whole pixel and step by step: probabilities that are none, or a level that is none."""
    head, features, x = made
    features[3, -1] = torch.nan
    with torch.no_grad():
        whole, state = head(features, x.double()), head.start(features)
        for channel in range(head.channels):
            for found in (whole[:, channel], head.logits(state)):
                said = probabilities(head, found, channel)
                broken = said.isnan().all(-1) if head.has_likelihood else (said < 0).all(-1)
                assert broken.tolist() == [k == 3 for k in range(N)]
            state = head.observe(state, x[:, channel])


@pytest.mark.parametrize("one_hot", [0, 4])
def test_the_quantile_head_takes_either_encoding(one_hot):
    """Its masked layer's input is the encoding's."""
    head = HEADS["quantile"](3, 4, 6, LevelEncoding(4, "onehot" if one_hot else "number"))
    assert head.channel_input.weight.shape[1] == 3 * (one_hot or 1)
    assert head.channel_input.one_hot == one_hot


def test_sizes_that_are_none_are_refused():
    for name, options in (("logistic", {"components": 0}), ("quantile", {"embedding": 0})):
        with pytest.raises(ModelError, match="at least 1"):
            HEADS[name](3, 4, 6, LevelEncoding(4), **options)
