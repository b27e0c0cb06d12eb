"""Any trunk goes with any head: the laws of their pairs, whichever has a name."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from chainrule import sampling, zoo
from chainrule.codec import compress, decompress
from chainrule.errors import DataError, ModelError
from chainrule.fixedpoint import exact
from chainrule.heads import HEADS, FactorisedHead
from chainrule.models import (
    GatedPixelCNN,
    GatedPixelCNNMADE,
    ImageModel,
    LogisticPixelCNN,
    PixelCNN,
    PixelCNNMADE,
    PixelIQN,
)
from chainrule.models.image import TRUNKS
from laws import ChannelsFlipped, does_see, enumerate_events, events, may_see, randomised

PAIRS = list(itertools.product(TRUNKS, HEADS))
LIKELIHOODS = [(trunk, head) for trunk, head in PAIRS if HEADS[head].has_likelihood]
EXACT = [(trunk, head) for trunk, head in LIKELIHOODS if HEADS[head].composes_exactly]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def build(trunk, head, shape=(2, 5, 4), levels=3, filters=6, blocks=2, **options):
    torch.manual_seed(0)
    model = ImageModel(shape, levels, trunk, head, filters, blocks, **options)
    return randomised(model, std=1.0 if head == "quantile" else 0.3)  # so that its values differ


@pytest.mark.parametrize(
    "options", [{"levels": 4}, {"levels": 256, "prediction": 0}, {"levels": 256, "encoding": "onehot"}]
)
def test_without_a_prediction_there_are_no_copies(options):
    """A recipe asks for both, and the data say how levels enter: its model is the one without them."""
    options = {"prediction": 2} | options
    torch.manual_seed(0)
    found = ImageModel((1, 4, 4), head="logistic", filters=4, blocks=1, copies=4, **options)
    torch.manual_seed(0)
    plain = ImageModel((1, 4, 4), head="logistic", filters=4, blocks=1, **options | {"prediction": 0})
    assert torch.equal(found.log_prob(x := events(found, 3)), plain.log_prob(x))


@pytest.mark.parametrize("trunk", ["gated", "attention"])
def test_labels_change_nothing_at_first(trunk):
    """A model with labels begins as the one without, and has a gradient for each of them."""
    torch.manual_seed(0)
    plain = ImageModel((1, 4, 3), 3, trunk, "made", 6, 2)
    torch.manual_seed(0)
    model = ImageModel((1, 4, 3), 3, trunk, "made", 6, 2, classes=2)
    x, labels = events(model, 5), torch.tensor([0, 1, 1, 0, 1])
    assert torch.equal(model.log_prob(x, labels), plain.log_prob(x))
    model.loss(x, labels).backward()
    assert all(p.grad.count_nonzero() for name, p in model.named_parameters() if "context" in name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"head": "made", "copies": 3}, "a made head has no copies"),
        ({"head": "logistic", "prediction": 1.5}, "no 1.5 kinds"),
        ({"head": "logistic", "prediction": 1, "copies": 11}, "use 0 to 10"),
        ({"head": "logistic", "prediction": 2, "copies": 11}, "use 0 to 10"),
        ({"head": "factorised", "prediction": 1}, "starts from no prediction"),
    ],
)
def test_arguments_of_others_are_refused(options, said):
    """Never left out in silence."""
    options = {"levels": 256, "trunk": "masked"} | options
    with pytest.raises(ModelError, match=said):
        ImageModel((1, 4, 4), filters=4, blocks=1, **options)


@pytest.mark.parametrize(("trunk", "head"), LIKELIHOODS)
def test_probabilities_sum_to_one(trunk, head):
    model = build(trunk, head, (2, 2, 2), 2, 5, 1)
    assert abs(float(model.log_prob(enumerate_events(model)).detach().exp().sum()) - 1) < 1e-10


@pytest.mark.parametrize("method", ["steps", "naive"])
@pytest.mark.parametrize(("trunk", "head"), LIKELIHOODS)
def test_parallel_equals_stepwise(trunk, head, method):
    model = build(trunk, head)
    x = events(model, 9)
    assert (sampling.score(model, x, method=method) - model.site_log_probs(x)).abs().max() < 1e-10


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize(("trunk", "head"), PAIRS)
def test_naive_and_cached_draws_are_identical(trunk, head, classes):
    """Samples and completions from the same uniforms; with labels where the trunk takes them."""
    if classes and trunk in ("masked", "snail"):
        with pytest.raises(ModelError, match="takes no context"):
            build(trunk, head, classes=classes)
        return
    model = build(trunk, head, classes=classes)
    x, context = events(model, 9), model.example_context(9)
    known = torch.rand(x.shape, generator=seeded(9)) < 0.5
    drawn = [model.sample(9, context, seeded(3), method) for method in ("cached", "naive")]
    assert torch.equal(*drawn)
    assert len(drawn[0].unique()) > 1
    done = [model.complete(x, known, context, seeded(1), method) for method in ("cached", "naive")]
    assert torch.equal(*done)
    assert torch.equal(done[0][known], x[known])


@pytest.mark.parametrize(("trunk", "head"), LIKELIHOODS)
def test_each_conditional_sees_exactly_what_it_may(trunk, head):
    torch.manual_seed(0)
    model = randomised(ImageModel((2, 5, 6), 3, trunk, head, 16, 1))
    assert does_see(model, points=30) == may_see(model)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_quantiles_see_exactly_what_they_may(trunk):
    """The same for the head whose output is a function of τ."""
    torch.manual_seed(0)
    model = randomised(ImageModel((2, 6, 7), 3, trunk, "quantile", 16, 1))
    v = (torch.rand(40, *model.shape, generator=seeded(), dtype=torch.float64) * 2).requires_grad_()
    tau = torch.rand(40, *model.shape, generator=seeded(1), dtype=torch.float64)
    last = v.permute(0, 2, 3, 1)
    q = model.head.quantiles(model.head(model.features(v), last), tau.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    for index, allowed in may_see(model).items():
        (gradient,) = torch.autograd.grad(q[(slice(None), *index)].sum(), v, retain_graph=True)
        assert {tuple(found) for found in gradient.abs().amax(0).nonzero().tolist()} == allowed


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_sample_is_the_rounded_quantile_of_its_uniforms(trunk):
    """The walk and the parallel pass have the same functions of τ, in every entry."""
    model = build(trunk, "quantile")
    x = model.sample(5, generator=seeded())
    u, tau = torch.rand(5, len(model.sites()), generator=seeded(), dtype=torch.float64), x.double()
    for position, site in enumerate(model.sites()):
        tau[sampling.at(site)] = u[:, position]
    assert torch.equal(model.quantiles(x, tau).round().clamp(0, model.levels - 1).long(), x)


@pytest.mark.parametrize(("trunk", "head"), EXACT)
def test_a_head_that_says_so_has_an_exact_form(trunk, head):
    """Whose walk finds the bits of its parallel pass, and whose naive and cached samples are identical."""
    torch.manual_seed(0)
    model = exact(ImageModel((2, 3, 4), 5, trunk, head, 8, 1))
    x = events(model, 9)
    assert torch.equal(sampling.score(model, x), model.site_log_probs(x))
    assert torch.equal(model.sample(9, generator=seeded()), model.sample(9, generator=seeded(), method="naive"))


@pytest.mark.parametrize(("trunk", "head"), PAIRS)
def test_saved_and_loaded(trunk, head, tmp_path):
    """Pairs without a name of their own are kept by those of their trunk and head."""
    model = build(trunk, head).float()
    model.save_pretrained(tmp_path)
    again, x = zoo.load(tmp_path), events(model, 4)
    assert again.config == model.config
    assert torch.equal(again.sample(4, generator=seeded()), model.sample(4, generator=seeded()))
    assert torch.equal(again.eval().loss(x), model.eval().loss(x))


class PlainHead(FactorisedHead):
    """A head that nothing else knows: it has an argument of its own, and does not say that it has an exact form."""

    composes_exactly = False

    def __init__(self, channels, levels, filters, encoding, components=7):
        super().__init__(channels, levels, filters, encoding)
        self.components = components


def test_one_line_in_the_table_of_heads_is_enough(monkeypatch, tmp_path):
    """Its arguments reach it by name, it is sampled and kept as any other, and exact mode says what is missing."""
    monkeypatch.setitem(HEADS, "plain", PlainHead)
    for components, given in ((7, {}), (3, {"components": 3})):
        model = build("masked", "plain", levels=20, **given).float()
        assert model.head.components == components
    with pytest.raises(ModelError, match="a plain head has no embedding: leave it out"):
        build("masked", "plain", embedding=3)
    with pytest.raises(ModelError, match="a plain head starts from no prediction: leave it out"):
        build("masked", "plain", levels=20, prediction=True)
    model.save_pretrained(tmp_path)
    assert torch.equal(zoo.load(tmp_path).sample(4, generator=seeded()), model.sample(4, generator=seeded()))
    with pytest.raises(ModelError, match="no exact form: its part head is a PlainHead"):
        exact(model)


class BlueFirst(ChannelsFlipped, PixelCNNMADE):
    """Another order of entries, and nothing else."""

    composes_exactly = True


def test_another_order_of_channels():
    """What the plain model has to say of flipped events, in every way of asking, and through an archive."""
    torch.manual_seed(0)
    plain, other = (randomised(cls((3, 2, 3), 3, 6, 1), dtype=torch.float32) for cls in (PixelCNNMADE, BlueFirst))
    x = events(other, 9)
    known = torch.rand(x.shape, generator=seeded()) < 0.5
    assert torch.equal(other.log_prob(x), plain.log_prob(x.flip(1)))
    assert not torch.allclose(other.log_prob(x), plain.log_prob(x))
    torch.testing.assert_close(sampling.score(other, x).flatten(1).sum(1).float(), other.log_prob(x))
    assert torch.equal(other.sample(9, generator=seeded()).flip(1), plain.sample(9, generator=seeded()))
    completed = other.complete(x, known, generator=seeded())
    assert torch.equal(completed.flip(1), plain.complete(x.flip(1), known.flip(1), generator=seeded()))
    assert torch.equal(completed[known], x[known])
    images = x.permute(0, 2, 3, 1).numpy().astype(np.uint8)
    assert np.array_equal(decompress(other, compress(other, images)), images)


@pytest.mark.parametrize(
    ("named", "trunk", "head"),
    [
        (PixelCNN, "masked", "factorised"),
        (PixelCNNMADE, "masked", "made"),
        (GatedPixelCNN, "gated", "factorised"),
        (GatedPixelCNNMADE, "gated", "made"),
        (LogisticPixelCNN, "masked", "logistic"),
        (PixelIQN, "masked", "quantile"),
    ],
)
def test_a_name_stands_for_a_pair(named, trunk, head):
    """The same weights from the same seed, under the same names."""
    models = []
    for make in (lambda: named((2, 4, 3), 5, 6, 1), lambda: ImageModel((2, 4, 3), 5, trunk, head, 6, 1)):
        torch.manual_seed(0)
        models.append(make().eval())
    first, second = models
    assert list(first.state_dict()) == list(second.state_dict())
    assert all(name.startswith(("trunk.", "head.")) for name in first.state_dict())
    assert torch.equal(first.loss(x := events(first, 3)), second.loss(x))


def test_quantiles_belong_to_a_quantile_head():
    """And a likelihood to the others; each is refused with a sentence."""
    quantile, softmax = build("gated", "quantile"), build("gated", "factorised")
    x = events(quantile, 2)
    for ask in (quantile.log_prob, quantile.site_log_probs, quantile.log_pmf, lambda x: sampling.score(quantile, x)):
        with pytest.raises(ModelError, match="no likelihood"):
            ask(x)
    assert (quantile.has_likelihood, quantile.loss_unit) == (False, "quantile loss")
    assert (softmax.has_likelihood, softmax.loss_unit) == (True, "bits/dim")
    with pytest.raises(ModelError, match="use a quantile head"):
        softmax.quantiles(x, 0.5)
    with pytest.raises(DataError, match="from 0 to 1"):
        quantile.quantiles(x, 1.5)
