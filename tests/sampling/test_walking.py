"""Drawing and completing: inverse CDF, the one loop, and what `complete` promises."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule import sampling
from chainrule.contract import Chooser
from chainrule.errors import DataError, ModelError
from chainrule.models import MADE, ConditionalMLP, Histogram, PixelCNN, PixelCNNMADE
from laws import chi_square_p, codes, enumerate_events, events, of_each_class, randomised, some_known

ALMOST_ONE = 1 - 2.0**-53


class Choosing(Chooser):
    """A chooser made of a function."""

    def __init__(self, choose):
        self.choose = choose

    def __call__(self, position, site, conditional):
        return self.choose(position, site, conditional)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------------------- inverse CDF


PROBABILITIES = st.one_of(st.just(0.0), st.floats(0, 1), st.floats(0, 1e-300), st.sampled_from([5e-324, 1e-17, 0.1]))
UNIFORMS = st.one_of(st.sampled_from([0.0, 5e-324, 0.5, ALMOST_ONE]), st.floats(0, ALMOST_ONE))


@settings(deadline=None, max_examples=500)
@given(st.lists(PROBABILITIES, min_size=2, max_size=12).filter(lambda p: sum(p) > 0), UNIFORMS)
def test_inverse_cdf_never_draws_what_cannot_be(weights, u):
    """A level of probability zero is never drawn, whatever the uniform, normalised or not."""
    pmf, uniform = torch.tensor([weights], dtype=torch.float64), torch.tensor([u], dtype=torch.float64)
    value = int(sampling.inverse_cdf(pmf, uniform))
    assert 0 <= value < len(weights)
    assert weights[value] > 0


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 8), min_size=2, max_size=9).filter(any), st.integers(0, 999))
def test_inverse_cdf_is_its_definition(weights, numerator):
    """The drawn level is the first whose cumulative weight exceeds the uniform's share: exact in integers."""
    total = sum(weights)
    pmf = torch.tensor([weights], dtype=torch.float64)
    drawn = int(sampling.inverse_cdf(pmf, torch.tensor([numerator / 1024], dtype=torch.float64)))
    cumulative = np.cumsum(weights)
    assert drawn == next(k for k, c in enumerate(cumulative) if c * 1024 > numerator * total)


def test_inverse_cdf_at_the_edges():
    """Uniform 0 gives the first possible level, almost 1 the last possible."""
    pmf = torch.tensor([[0.0, 0.3, 0.7, 0.0]], dtype=torch.float64)
    assert sampling.inverse_cdf(pmf, torch.tensor([0.0], dtype=torch.float64)).tolist() == [1]
    assert sampling.inverse_cdf(pmf, torch.tensor([ALMOST_ONE], dtype=torch.float64)).tolist() == [2]


def test_inverse_cdf_with_single_precision_tables():
    """A float32 table whose sum is not quite 1 still never yields an impossible level."""
    pmf = torch.full((1, 49), 1 / 49)
    pmf[:, -9:] = 0
    for u in (0.0, 0.5, ALMOST_ONE):
        assert float(pmf[0, sampling.inverse_cdf(pmf, torch.tensor([u], dtype=torch.float64))]) > 0


def test_inverse_cdf_rows_are_independent():
    """Each row uses its own uniform and its own distribution."""
    generator = seeded(5)
    pmf = torch.rand(200, 7, generator=generator, dtype=torch.float64)
    u = torch.rand(200, generator=generator, dtype=torch.float64)
    together = sampling.inverse_cdf(pmf, u)
    assert together.tolist() == [int(sampling.inverse_cdf(pmf[k : k + 1], u[k : k + 1])) for k in range(200)]
    assert len(together.unique()) == 7


# ----------------------------------------------------------------------------------------------------------- sampling


@of_each_class
def test_same_seed_same_samples_other_seed_others(model):
    """A generator's seed decides the samples."""
    n = 40
    first = model.sample(n, generator=seeded(1))
    assert torch.equal(first, model.sample(n, generator=seeded(1)))
    assert not torch.equal(first, model.sample(n, generator=seeded(2)))
    assert first.shape == (n, *model.shape)
    assert first.dtype == torch.long
    assert int(first.min()) >= 0
    assert int(first.max()) < model.levels


def test_batches_do_not_matter(case):
    """Row k belongs to event k alone: however many walk together, the events are the same."""
    model = randomised(case.build())
    whole = sampling.sample(model, 11, generator=seeded(4), batch=100)
    for batch in (1, 4, 11):
        assert torch.equal(whole, sampling.sample(model, 11, generator=seeded(4), batch=batch))
    assert torch.equal(whole[:5], sampling.sample(model, 5, generator=seeded(4)))


@of_each_class
def test_no_samples_is_an_empty_batch(model):
    """n = 0 is allowed and gives an event-shaped nothing."""
    assert model.sample(0).shape == (0, *model.shape)


def test_a_negative_number_is_refused():
    """Fewer than none cannot be drawn."""
    with pytest.raises(DataError, match="-1"):
        Histogram(3).sample(-1)


def test_an_unknown_method_is_refused():
    """The error names the method and the choices."""
    with pytest.raises(ModelError, match=r"'quick' does not exist: use one of cached, .*naive"):
        Histogram(3).sample(1, method="quick")


@of_each_class
@pytest.mark.parametrize("method", ["cached", "naive"])
def test_context_is_refused_by_models_without(model, method):
    """Conditioning that would be ignored is an error."""
    with pytest.raises(ModelError, match="no conditioning"):
        model.sample(2, context=torch.zeros(2), method=method)
    with pytest.raises(ModelError, match="no conditioning"):
        model.log_prob(events(model, 2), torch.zeros(2))


@of_each_class
def test_sampling_leaves_the_model_as_it_was(model):
    """Training mode comes back, even after an error, and no gradients are recorded."""
    model.train()
    assert not model.sample(2).requires_grad
    assert model.training
    with pytest.raises(ZeroDivisionError):
        sampling.walk(model, 1, Choosing(lambda *_: 1 // 0))
    assert model.training


def test_walk_asks_for_every_site_in_order():
    """A chooser sees positions 0, 1, … with the sites of the model, and its values are what comes back."""
    model = randomised(PixelCNNMADE((2, 2, 3), 5, 4, 1))
    asked = []

    def choose(position, site, pmf):
        asked.append((position, site))
        assert pmf.shape == (3, 5)
        return torch.tensor([position % 5, 0, 4])

    x = sampling.walk(model, 3, Choosing(choose))
    assert asked == list(enumerate(model.sites()))
    assert [int(x[(0, *site.index)]) for _, site in asked] == [position % 5 for position, _ in asked]
    assert x[1].eq(0).all()
    assert x[2].eq(4).all()


# --------------------------------------------------------------------------------------------------------- completing


@pytest.mark.parametrize("method", ["cached", "naive"])
def test_known_entries_are_kept(model, method):
    """Whatever is drawn around them."""
    x = events(model, 20, seed=8)
    known = some_known(model, x)
    y = model.complete(x, known, generator=seeded(), method=method)
    assert torch.equal(y[known], x[known])
    assert y.shape == x.shape


@of_each_class
def test_nothing_known_is_sampling(model):
    """With an all-false mask, complete is sample with the same uniforms."""
    x = events(model, 30, seed=8)
    y = model.complete(x, torch.zeros(x.shape, dtype=torch.bool), generator=seeded(6))
    assert torch.equal(y, model.sample(30, generator=seeded(6)))


@of_each_class
def test_everything_known_is_the_identity(model):
    """With an all-true mask, complete returns its input."""
    x = events(model, 30, seed=8)
    assert torch.equal(model.complete(x, torch.ones(x.shape, dtype=torch.bool)), x)


def test_naive_and_cached_completions_are_identical(model):
    """Completion walks as sampling does."""
    x = events(model, 20, seed=8)
    known = some_known(model, x)
    first, second = (model.complete(x, known, generator=seeded(), method=method) for method in ("cached", "naive"))
    assert torch.equal(first, second)


def test_unknown_entries_given_do_not_matter(model):
    """What stands at an unknown entry has no influence."""
    x = events(model, 20, seed=8)
    known = some_known(model, x)
    other = torch.where(known, x, (x + 1) % model.levels)
    first, second = (model.complete(given, known, generator=seeded()) for given in (x, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize("mask", [True, [True, False], [[True, False]], [[[True, False]]], [[[True], [False]]]])
def test_masks_broadcast(mask):
    """A mask of fewer sides means the same for every event."""
    torch.manual_seed(0)
    model = randomised(PixelCNN((3, 2, 2), 4, 4, 1))
    x, known = events(model, 6), torch.tensor(mask)
    full = known.broadcast_to(x.shape)
    assert torch.equal(model.complete(x, known, generator=seeded()), model.complete(x, full, generator=seeded()))
    assert torch.equal(model.complete(x, known)[full], x[full])


def test_batched_completion_keeps_rows_together(monkeypatch):
    """More events than walk together: each keeps its own mask, values and uniforms."""
    model = randomised(MADE((3,), 4, (8,)))
    x = events(model, 25)
    known = torch.rand(x.shape, generator=seeded(2)) < 0.5
    whole = sampling.complete(model, x, known, generator=seeded(), batch=100)
    assert torch.equal(whole, sampling.complete(model, x, known, generator=seeded(), batch=4))


@pytest.mark.parametrize(
    ("known", "match"),
    [
        (torch.zeros(3, 4, dtype=torch.bool), "shape"),
        (torch.zeros(1, 1, 1, 3, dtype=torch.bool), "shape"),
        (torch.zeros(4, 3), "boolean"),
        (torch.zeros(4, 3, dtype=torch.long), "boolean"),
    ],
)
def test_bad_masks_are_refused(known, match):
    """A mask of numbers, or one that does not fit, is a DataError that says so."""
    with pytest.raises(DataError, match=match):
        MADE((3,), 4, (8,)).complete(torch.zeros(4, 3, dtype=torch.long), known)


def test_a_numpy_mask_is_as_good_as_a_tensor():
    """Events may come as NumPy arrays, and so may masks."""
    model = randomised(MADE((3,), 4, (8,)))
    x = np.zeros((4, 3), np.int64)
    known = np.array([True, False, True])
    y = model.complete(x, known, generator=seeded())
    assert torch.equal(y, model.complete(torch.from_numpy(x), torch.from_numpy(known), generator=seeded()))


def test_completing_checks_the_events():
    """Bad events are refused as in log_prob."""
    with pytest.raises(DataError, match="4 levels"):
        MADE((3,), 4, (8,)).complete(torch.full((1, 3), 4), torch.tensor(True))


@pytest.mark.parametrize(
    "build",
    [
        lambda: ConditionalMLP(5, "onehot", (6,)),
        lambda: MADE((3,), 4, (9,)),
        lambda: PixelCNN((2, 2, 1), 3, 6, 1),
        lambda: PixelCNNMADE((3, 1, 2), 2, 6, 1),
    ],
)
@pytest.mark.parametrize("prefix", [1, 2])
def test_completion_of_a_known_prefix_is_the_conditional(build, prefix):
    """χ²: given the first entries, the others follow p(others | first)."""
    torch.manual_seed(0)
    model = randomised(build(), std=0.6)
    prefix = min(prefix, model.dims - 1)
    n, known = 20_000, torch.zeros(model.shape, dtype=torch.bool)
    x = events(model, 1, seed=3)
    for site in model.sites()[:prefix]:
        known[site.index] = True
    drawn = sampling.complete(model, x.expand(n, *model.shape), known, generator=seeded(12), batch=n)
    outcomes = enumerate_events(model)
    joint = model.log_prob(outcomes).detach().exp()
    fits = (outcomes[:, known] == x[:, known]).all(1)
    counts = codes(drawn, model.levels).bincount(minlength=len(outcomes))
    assert counts[~fits].sum() == 0
    conditional = joint[fits] / joint[fits].sum()
    assert chi_square_p(counts[fits], conditional) > 1e-4
    other = model.log_prob(outcomes).detach().exp().roll(7)[fits]
    assert chi_square_p(counts[fits], other / other.sum()) < 1e-4  # the test can fail


def test_score_of_nothing_is_nothing():
    """An empty batch scores to an empty batch."""
    assert sampling.score(MADE((3,), 4, (8,)), torch.zeros(0, 3, dtype=torch.long)).shape == (0, 3)


def test_evaluation_on_a_gpu_is_in_full_precision():
    """Convolutions are not rounded to TF32 while a model on a GPU is evaluated, nor are they after an error; on a CPU
    the switch is left alone."""

    class Placed(torch.nn.Module):
        def __init__(self, is_cuda):
            super().__init__()
            self.device = torch.device("cuda" if is_cuda else "cpu")

        def arithmetic(self):
            return nullcontext()

    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    with sampling.evaluating(Placed(True)):
        assert convolutions.fp32_precision == "ieee"
    assert convolutions.fp32_precision == before != "ieee"
    with pytest.raises(ZeroDivisionError), sampling.evaluating(Placed(True)):
        print(1 // 0)
    assert convolutions.fp32_precision == before
    with sampling.evaluating(Placed(False)):
        assert convolutions.fp32_precision == before
