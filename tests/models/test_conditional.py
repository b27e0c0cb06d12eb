"""The laws of models with a context: one distribution for each label, computed two ways, that looks only back."""

from __future__ import annotations

import itertools

import pytest
import torch

from chainrule import sampling, zoo
from chainrule.errors import DataError, ModelError
from chainrule.models import GatedPixelCNN, GatedPixelCNNMADE
from chainrule.nn import GatedBlock
from laws import enumerate_events, events, randomised


@pytest.fixture
def model(conditional_case):
    return randomised(conditional_case.build())


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(classes=3, cls=GatedPixelCNNMADE):
    torch.manual_seed(0)
    return cls((2, 3, 4), 3, 6, 2, classes=classes)


def test_probabilities_of_every_class_sum_to_one(model):
    """And no two classes have the same distribution."""
    x = enumerate_events(model)
    found = [model.log_prob(x, torch.full((len(x),), label)).detach().exp() for label in range(model.classes)]
    assert all(abs(float(p.sum()) - 1) < 1e-10 for p in found)
    assert all((p - q).abs().max() > 1e-3 * p.max() for p, q in itertools.combinations(found, 2))


@pytest.mark.parametrize("method", ["cached", "naive"])
def test_parallel_equals_stepwise(model, method):
    """Events of several classes walk together."""
    x, labels = events(model, 12), model.example_context(12)
    stepwise = sampling.score(model, x, labels, method=method)
    assert (stepwise - model.site_log_probs(x, labels)).abs().max() < 1e-10
    assert (stepwise.flatten(1).sum(1) - model.log_prob(x, labels)).abs().max() < 1e-10


def test_each_event_is_judged_by_its_own_label(model):
    x, labels = events(model, 12), model.example_context(12)
    together = model.log_prob(x, labels)
    for k in range(12):
        assert (model.log_prob(x[k : k + 1], labels[k : k + 1])[0] - together[k]).abs() < 1e-12


def test_naive_and_cached_draws_are_identical(model):
    """Samples and completions, also where the draw is cut into batches."""
    labels = model.example_context(30)
    x = model.sample(30, labels, seeded(3))
    assert torch.equal(x, model.sample(30, labels, seeded(3), method="naive"))
    assert torch.equal(x, sampling.sample(model, 30, labels, seeded(3), batch=7))
    known = torch.rand(x.shape, generator=seeded(9)) < 0.5
    y = model.complete(x, known, labels, seeded(1))
    assert torch.equal(y[known], x[known])
    assert torch.equal(y, model.complete(x, known, labels, seeded(1), method="naive"))


def test_unseen_entries_change_nothing(model):
    """Whatever the label, a conditional looks only back."""
    x, labels, sites = events(model, 8), model.example_context(8), model.sites()
    pmf = model.log_pmf(x, labels)
    for position, site in enumerate(sites):
        y = x.clone()
        for later in sites[position:]:
            y[sampling.at(later)] = (y[sampling.at(later)] + 1) % model.levels
        where = sampling.at(site)
        assert (model.log_pmf(y, labels)[where] - pmf[where]).abs().max() < 1e-12


def test_the_label_reaches_every_conditional(model):
    """Of each entry, the first included."""
    x = events(model, 8)
    if model.classes > 1:
        first, second = (model.log_pmf(x, torch.full((8,), label)) for label in (0, 1))
        assert bool(((first - second).abs().amax(-1).amax(0) > 1e-6).all())


def test_wrong_contexts_are_refused():
    """By every way in, in one sentence."""
    model, x = small(), torch.zeros(2, 2, 3, 4, dtype=torch.long)
    for use in (lambda c: model.log_prob(x, c), lambda c: model.sample(2, c), lambda c: sampling.score(model, x, c)):
        with pytest.raises(ModelError, match="conditional on 3 classes: give `context`"):
            use(None)
        for wrong, said in [
            (torch.tensor([0]), r"shape \(1,\).*2 events"),
            (torch.tensor([[0], [1]]), "shape"),
            (torch.tensor([0, 3]), "0 to 3.*3 classes, 0 to 2"),
            (torch.tensor([-1, 0]), "-1 to 0"),
            (torch.tensor([0.0, 1.0]), "float32"),
            ("ab", "."),
        ]:
            with pytest.raises(DataError, match=said):
                use(wrong)
    for call in (lambda: model(x), lambda: model.start(2)):
        with pytest.raises(ModelError, match="give `context`"):
            call()
    with pytest.raises(ModelError, match="no conditioning"):
        small(0).log_prob(x, torch.tensor([0, 1]))
    for classes, blocks in [(-1, 2), (3, 0)]:
        with pytest.raises(ModelError, match="no conditional model"):
            GatedPixelCNN((1, 3, 3), 2, 4, blocks, classes=classes)


@pytest.mark.parametrize("labels", [[2, 0], torch.tensor([2, 0], dtype=torch.uint8)])
def test_labels_may_be_any_integers(labels):
    model, x = small(), torch.zeros(2, 2, 3, 4, dtype=torch.long)
    assert torch.equal(model.log_prob(x, labels), model.log_prob(x, torch.tensor([2, 0])))


@pytest.mark.parametrize("cls", [GatedPixelCNN, GatedPixelCNNMADE])
def test_without_classes_nothing_is_added(cls):
    """The other weights of the same seed are those of the model without labels, under the same names."""
    plain, conditional = small(0, cls).state_dict(), small(3, cls).state_dict()
    assert {name for name in conditional if name not in plain} == {
        f"blocks.{k}.{stack}_context.{kind}"
        for k in range(2)
        for stack in ("vertical", "horizontal")
        for kind in ("weight", "bias")
    }
    assert all(torch.equal(conditional[name], tensor) for name, tensor in plain.items())


def test_saved_and_loaded(tmp_path):
    model, x = small(), torch.zeros(2, 2, 3, 4, dtype=torch.long)
    model.save_pretrained(tmp_path)
    again = zoo.load(tmp_path)
    assert again.needs_context
    assert torch.equal(again.log_prob(x, [0, 2]), model.log_prob(x, [0, 2]))


@pytest.mark.parametrize("sides", [(5, 4), (1, 1), (5, 1), (1, 4)])
def test_a_block_takes_any_map(sides):
    """A context that varies over rows, columns, both or neither, in the pass and in the walk."""
    torch.manual_seed(0)
    block = GatedBlock(6)
    block.condition(3)
    block = randomised(block)
    v, h, context = (torch.randn(2, c, *s, dtype=torch.float64) for c, s in ((6, (5, 4)), (6, (5, 4)), (3, sides)))
    with torch.no_grad():
        expected = block(v, h, context)
        cache = block.start(2, 4, context)
        for row in range(5):
            line = block.step_row(v[:, :, row].transpose(1, 2), cache)
            assert (line - expected[0][:, :, row].transpose(1, 2)).abs().max() < 1e-12
            for column in range(4):
                pixel = block.step(h[:, :, row, column], cache, column)
                assert (pixel - expected[1][:, :, row, column]).abs().max() < 1e-12
