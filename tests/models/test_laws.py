"""The laws that every likelihood model keeps: one distribution, computed two ways, that looks only back."""

from __future__ import annotations

import pytest
import torch

from chainrule import sampling
from chainrule.models import (
    MADE,
    REGISTRY,
    AutoregressiveModel,
    GatedPixelCNN,
    GatedPixelCNNMADE,
    LogisticPixelCNN,
    PixelCNN,
    PixelCNNMADE,
    PixelIQN,
)
from laws import CASES, chi_square_p, codes, does_see, enumerate_events, events, may_see, randomised


def test_every_model_of_the_registry_is_held_to_the_laws():
    """A class that is added to the registry must be added to the cases."""
    assert {case.cls for case in CASES} == set(REGISTRY.values()) - {PixelIQN}
    assert all(issubclass(cls, AutoregressiveModel) for cls in REGISTRY.values())
    assert all(cls.__name__ == name for name, cls in REGISTRY.items())


def test_probabilities_sum_to_one(model):
    """Σ p(x) over every outcome is 1."""
    total = model.log_prob(enumerate_events(model)).detach().exp().sum()
    assert abs(float(total) - 1) < 1e-10


def test_distribution_is_not_trivial(model):
    """The randomised models differ from the uniform distribution, so that the other laws have something to find."""
    log_prob = model.log_prob(enumerate_events(model)).detach()
    assert float(log_prob.max() - log_prob.min()) > 0.05


@pytest.mark.parametrize("method", ["cached", "naive"])
def test_parallel_equals_stepwise(model, method):
    """The walk finds the parallel pass's log-probabilities, entry by entry."""
    x = events(model, 40)
    stepwise = sampling.score(model, x, method=method)
    assert (stepwise - model.site_log_probs(x)).abs().max() < 1e-10
    assert (stepwise.flatten(1).sum(1) - model.log_prob(x)).abs().max() < 1e-10


def test_every_level_of_every_conditional_agrees(model):
    """Not only the observed level: the walk's whole distribution is the parallel pass's."""
    x = events(model, 9)
    pmf = model.log_pmf(x).exp()
    x = model.with_auxiliaries(x)
    walk = model.start(len(x))
    for site in model.sites():
        where = (slice(None), *site.index)
        conditional = walk.conditional()
        assert conditional.dtype == torch.float64
        assert conditional.shape == (len(x), site.levels)
        assert (conditional - pmf[where][:, : site.levels]).abs().max() < 1e-10
        assert not bool(pmf[where][:, site.levels :].any())
        walk.observe(x[where])


def test_observe_without_asking(model):
    """A value may be handed over without its conditional having been looked at."""
    x, sites = events(model, 5), model.sites()
    y = model.with_auxiliaries(x)
    walk = model.start(len(x))
    for site in sites[:-1]:
        walk.observe(y[(slice(None), *site.index)])
    last = (slice(None), *sites[-1].index, slice(sites[-1].levels))
    assert (walk.conditional() - model.log_pmf(x)[last].exp()).abs().max() < 1e-10


def test_asking_twice_gives_the_same(model):
    """A conditional may be looked at more than once."""
    walk, y = model.start(4), model.with_auxiliaries(events(model, 4))
    for site in model.sites():
        first = walk.conditional().clone()
        assert torch.equal(walk.conditional(), first)
        walk.observe(y[(slice(None), *site.index)])


def test_walks_do_not_share_state(model):
    """Two walks taken in turns on one model are two walks."""
    x, y = events(model, 3, seed=1), events(model, 3, seed=2)
    pairs = [(x, model.start(3)), (y, model.start(3))]
    for site in model.sites():
        where = (slice(None), *site.index)
        for given, walk in pairs:
            expected = model.log_pmf(given)[where][:, : site.levels].exp()
            assert (walk.conditional() - expected).abs().max() < 1e-10
            walk.observe(model.with_auxiliaries(given)[where])


def test_sites_name_each_entry_once(model):
    """The order of factorisation visits every entry; channels innermost in images."""
    indices = [site.index for site in model.sites()]
    assert sorted(indices) == [tuple(index) for index in torch.ones(model.walk_shape).nonzero().tolist()]
    if model.walk_shape != model.shape:
        return
    assert all(site.levels == model.levels for site in model.sites())
    if len(model.shape) == 3:
        assert indices == sorted(indices, key=lambda index: (index[1], index[2], index[0]))


def test_naive_and_cached_samples_are_identical(model):
    """The same uniforms give the same events, in float64."""
    draw = lambda method: model.sample(60, generator=torch.Generator().manual_seed(3), method=method)  # noqa: E731
    assert torch.equal(draw("cached"), draw("naive"))


def test_naive_and_cached_logits_agree_in_float32(case):
    """In single precision the two walks' distributions agree to rounding, at every site."""
    model = randomised(case.build(), dtype=torch.float32)
    x = events(model, 30)
    cached, naive = sampling.score(model, x), sampling.score(model, x, method="naive")
    assert (cached - naive).abs().max() < 1e-4
    assert (cached - model.site_log_probs(x)).abs().max() < 1e-4


def test_samples_follow_the_distribution(model):
    """χ² of 20,000 samples against the probabilities of all outcomes."""
    n, outcomes = 20_000, enumerate_events(model)
    x = sampling.sample(model, n, generator=torch.Generator().manual_seed(11), batch=5000)
    counts = codes(x, model.levels).bincount(minlength=len(outcomes))
    assert chi_square_p(counts, model.log_prob(outcomes).exp().detach()) > 1e-4


def test_each_conditional_sees_exactly_what_it_may(case):
    """The Jacobian's pattern equals the allowed one: no leak, no lost edge (many weights, lest a ReLU hide one)."""
    model = case.build()
    allowed, seen = may_see(model), {index: set() for index in may_see(model)}
    for seed in range(60):
        for index, found in does_see(randomised(model, seed=seed)).items():
            seen[index] |= found
        if seed >= 2 and seen == allowed:
            break
    assert seen == allowed


def test_changing_an_unseen_entry_changes_nothing(model):
    """The integer path, too, looks only back: entries from a site on have no say in its conditional."""
    x, sites = model.with_auxiliaries(events(model, 8)), model.sites()
    pmf = model._log_pmf(x, None).exp()
    for position, site in enumerate(sites):
        y = x.clone()
        for later in sites[position:]:
            where = (slice(None), *later.index)
            y[where] = (y[where] + 1) % later.levels
        where = (slice(None), *site.index)
        assert (model._log_pmf(y, None).exp()[where] - pmf[where]).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("blocks", "shape", "layer_norm", "levels"),
    [(0, (1, 7, 9), True, 3), (1, (3, 6, 7), True, 20), (2, (2, 9, 5), False, 20)],
)
@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE, GatedPixelCNN, GatedPixelCNNMADE, LogisticPixelCNN])
def test_receptive_field_on_larger_images(cls, blocks, shape, layer_norm, levels):
    """On images larger than the kernel the reach is that of the masks, blind spot included, and not a pixel else."""
    torch.manual_seed(0)
    model = randomised(cls(shape, levels, 16, blocks, layer_norm))
    assert does_see(model, points=40) == may_see(model)


def test_the_blind_spot_is_there():
    """The oracle itself: pixels to the right above are not reached by 3×3 kernels beyond the first 7×7."""
    torch.manual_seed(0)
    model = PixelCNN((1, 12, 12), 2, 8, 2)
    seen = may_see(model)[0, 11, 2]
    earlier = {(0, i, j) for i in range(12) for j in range(12) if (i, j) < (11, 2)}
    assert seen < earlier
    assert (0, 9, 6) in seen
    assert (0, 10, 11) not in seen


def test_two_stacks_have_no_blind_spot():
    """With the same layers that leave masked kernels a blind spot, a gated PixelCNN sees every earlier pixel."""
    torch.manual_seed(0)
    masked, gated = (cls((1, 7, 9), 2, 16, 5) for cls in (PixelCNN, GatedPixelCNN))
    earlier = {(0, i, j) for i in range(7) for j in range(9) if (i, j) < (6, 4)}
    assert does_see(randomised(gated))[0, 6, 4] == earlier
    assert earlier - does_see(randomised(masked))[0, 6, 4] == {(0, 5, 8)}


@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE, GatedPixelCNN, GatedPixelCNNMADE, LogisticPixelCNN])
def test_parallel_equals_stepwise_on_larger_images(cls):
    """The caches hold over several rows and columns, wider and higher than the kernels."""
    torch.manual_seed(0)
    model = randomised(cls((2, 9, 8), 4, 10, 3))
    x = events(model, 4)
    assert (sampling.score(model, x) - model.site_log_probs(x)).abs().max() < 1e-10


def test_model_as_constructed_sees_what_it_may():
    """At random initialisation nothing is disconnected by zeros."""
    classes = (PixelCNN, PixelCNNMADE, GatedPixelCNNMADE, LogisticPixelCNN)
    images = [lambda cls=cls: cls((2, 5, 5), 3, 24, 1) for cls in classes]
    for build in (*images, lambda: MADE((4,), 3)):
        torch.manual_seed(1)
        model = build().double()
        assert does_see(model, points=60) == may_see(model)
