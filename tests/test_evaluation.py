"""Measuring: means over all events, exact tables, receptive fields."""

from __future__ import annotations

import inspect
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from chainrule import evaluation, metrics
from chainrule.data import Dataset
from chainrule.errors import DataError, ModelError
from chainrule.evaluation import (
    bits_per_dim,
    check_splits,
    log2_joint,
    log_probs,
    part_of,
    receptive_field,
    splits_of,
)
from chainrule.lab import independence
from chainrule.lab.independence import independent_bits_per_dim, independent_log_prob
from chainrule.models import MADE, ConditionalMLP, GatedPixelCNNMADE, Histogram, PixelCNN, PixelCNNMADE
from laws import events, may_see, randomised, tiny_dataset


def test_arrays_are_as_good_as_tensors():
    """As for `log_prob`; and what is neither, or no split, is one sentence."""
    model = randomised(PixelCNN((1, 2, 3), 4, 6, 1))
    x = events(model, 5)
    assert bits_per_dim(model, x.numpy()) == bits_per_dim(model, x.tolist()) == bits_per_dim(model, x)
    with pytest.raises(DataError):
        bits_per_dim(model, None)
    with pytest.raises(DataError, match="no split 'tset': use train, validation, test"):
        bits_per_dim(MADE((3,), 4), tiny_dataset(), "tset")
    assert log_probs(model, x[:0]).shape == (0,)


def test_every_event_counts_once(monkeypatch):
    """A last batch that is not full weighs as much as it holds: the mean over events, not over batches."""
    model = randomised(PixelCNN((1, 2, 3), 4, 6, 1), std=1.0)
    x = events(model, 23)
    direct = model.log_prob(x).detach()
    monkeypatch.setattr(evaluation, "ENTRIES", 7 * 6)
    torch.testing.assert_close(log_probs(model, x), direct, rtol=0, atol=1e-12)
    monkeypatch.undo()
    assert bits_per_dim(model, x) == pytest.approx(-float(direct.mean()) / math.log(2) / 6, abs=1e-12)


def test_batches_are_bounded(monkeypatch):
    """Events go in batches of about as many entries, however large or small they are: never all at once."""
    model, seen = Histogram(3), []
    monkeypatch.setattr(model, "log_prob", lambda x, context: seen.append(len(x)) or torch.zeros(len(x)))
    log_probs(model, torch.zeros(500_000, 1, dtype=torch.uint8))
    assert sum(seen) == 500_000
    assert max(seen) == 235_200
    for dims, batch in ((2352, 100), (3 * 128 * 128, 4), (3 * 2000 * 2000, 1)):
        seen.clear()
        log_probs(model, torch.zeros(1, dtype=torch.uint8).expand(250, dims))
        assert (sum(seen), max(seen)) == (250, batch)


def test_few_frames_lie_between_a_person_and_the_model(monkeypatch):
    """From `bits_per_dim` to the model's `log_prob` are two functions of this file."""
    model, seen = Histogram(3), []

    def log_prob(x, context):
        seen.append([frame.function for frame in inspect.stack() if frame.filename == evaluation.__file__])
        return torch.zeros(len(x))

    monkeypatch.setattr(model, "log_prob", log_prob)
    bits_per_dim(model, torch.zeros(5, 1, dtype=torch.uint8))
    assert seen == [["log_probs", "bits_per_dim"]]


def test_splits_are_known_by_their_content():
    """Not by name, type in memory or layout; by every value, the shape, the levels, the labels and the order."""
    x = torch.arange(24).view(4, 2, 3) % 5
    data = Dataset("one", 5, x, x[:3], x[:2], labels={"train": torch.arange(4)})
    known = splits_of(data)
    assert known["train"].startswith("4 events, sha256 ")
    assert (
        splits_of(replace(data, name="other", notes=("a note",), train=x.mT.contiguous().mT.to(torch.uint8))) == known
    )
    others = {
        "value": replace(data, train=(x + (torch.arange(24).view(4, 2, 3) == 23)) % 5),
        "order": replace(data, train=x.flip(0)),
        "levels": replace(data, levels=6),
        "labels": replace(data, labels={"train": torch.arange(4).flip(0)}),
        "no labels": replace(data, labels={}),
        "shape": Dataset("one", 5, x.view(4, 3, 2), x[:3].view(3, 3, 2), x[:2].view(2, 3, 2), labels=data.labels),
        "many levels": replace(data, levels=300),
    }
    found = [known["train"], *(splits_of(other)["train"] for other in others.values())]
    assert len(set(found)) == len(found)


def test_a_change_of_data_is_said():
    """Which split, and how many events it had; splits that nobody asks for may change."""
    x = torch.arange(8)[:, None] % 5
    data = Dataset("pictures", 5, x, x[:3], x[:2])
    record = splits_of(data)
    check_splits(record, data)
    grown = replace(data, train=torch.cat([x, x]), test=x[2:4])
    check_splits(record, grown, ["validation"])
    with pytest.raises(
        DataError, match=r"pictures is not .*train had 8 events and has 16 events; test has other events"
    ):
        check_splits(record, grown)
    for broken in (None, 5, [], {}, {"test": 3}):
        with pytest.raises(DataError, match="give it the same data"):
            check_splits(broken, data, ["test"])


def test_splits_of_a_dataset():
    """The named split is measured, test by default."""
    model, data = randomised(MADE((3,), 4, (8,))), tiny_dataset()
    figures = {split: bits_per_dim(model, data, split) for split in ("train", "validation", "test")}
    assert len(set(figures.values())) == 3
    assert bits_per_dim(model, data) == figures["test"]
    for split, figure in figures.items():
        assert figure == bits_per_dim(model, getattr(data, split))


def test_nothing_to_evaluate_is_refused():
    """The mean of no events is no number."""
    with pytest.raises(DataError, match="no events"):
        bits_per_dim(Histogram(3), torch.zeros(0, 1, dtype=torch.long))


def test_evaluation_leaves_the_model_as_it_was():
    """Evaluated without dropout and gradients; training mode comes back."""
    model = MADE((3,), 4, (8,)).train()
    assert not log_probs(model, events(model, 3)).requires_grad
    assert model.training


@pytest.mark.parametrize("build", [lambda: MADE((2,), 5, (7,)), lambda: ConditionalMLP(5, "onehot", (7,))])
def test_log2_joint_is_the_whole_table(build):
    """Entry [i, j] is log2 p(i, j), and the table sums to 1."""
    model = randomised(build())
    table = log2_joint(model)
    assert table.shape == (5, 5)
    assert np.exp2(table).sum() == pytest.approx(1, abs=1e-12)
    assert table[1, 4] == pytest.approx(float(model.log_prob(torch.tensor([[1, 4]])).detach()) / math.log(2), abs=1e-12)
    # The exact cross-entropy is what a large sample's bits per dimension tend to.
    p = np.random.RandomState(0).dirichlet(np.ones(25)).reshape(5, 5)
    x = torch.from_numpy(np.stack(np.divmod(np.random.RandomState(1).choice(25, 200_000, p=p.ravel()), 5), 1))
    assert metrics.cross_entropy_bits(p, table) / 2 == pytest.approx(bits_per_dim(model, x), abs=0.01)


def test_log2_joint_is_for_pairs():
    """Other shapes have no such table."""
    with pytest.raises(ModelError, match=r"\(2,\)"):
        log2_joint(MADE((3,), 4))


@pytest.mark.parametrize("levels", [4, 20])
@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE])
@pytest.mark.parametrize("channel", [0, 1])
def test_receptive_field_is_the_models_reach(cls, channel, levels):
    """Non-zero exactly where the conditional may look; never below or right of its pixel."""
    model = randomised(cls((2, 9, 9), levels, 24, 1), dtype=torch.float32)
    site = (channel, 5, 4)
    found = np.zeros((9, 9), bool)
    for seed in range(30):
        field = receptive_field(model, site, seed)
        assert field.shape == (9, 9)
        assert field.dtype == np.float64
        assert (field >= 0).all()
        found |= field > 0
    allowed = np.zeros((9, 9), bool)
    for _, i, j in may_see(model)[site]:
        allowed[i, j] = True
    assert (found == allowed).all()


def test_receptive_field_leaves_no_traces():
    """No gradients on the parameters, the mode comes back, and the same seed gives the same field."""
    model = PixelCNN((1, 5, 5), 4, 8, 1).train()
    first = receptive_field(model, (0, 2, 2))
    assert all(p.grad is None for p in model.parameters())
    assert model.training
    assert (first == receptive_field(model, (0, 2, 2))).all()
    assert first.any()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_independent_channels_are_marginals(channels):
    """On one pixel: the product of the marginals of all its outcomes, by enumeration."""
    torch.manual_seed(0)
    model = PixelCNNMADE((channels, 1, 1), 3, filters=12, blocks=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape))
        x = torch.tensor(list(itertools.product(range(3), repeat=channels))).view(-1, channels, 1, 1)
        joint = model.log_prob(x).double().exp().view([3] * channels)
        marginals = [joint.movedim(c, 0).reshape(3, -1).sum(1) for c in range(channels)]
        expected = sum(marginals[c][x[:, c, 0, 0]].log() for c in range(channels))
        assert torch.allclose(independent_log_prob(model, x), expected, atol=1e-5)
        assert channels == 1 or not torch.allclose(model.log_prob(x).double(), expected, atol=1e-3)


def test_independent_channels_on_a_dataset():
    torch.manual_seed(0)
    model = PixelCNNMADE((2, 3, 4), 3, filters=6, blocks=1)
    data = tiny_dataset((2, 3, 4), 3)
    expected = -float(independent_log_prob(model, data.test).detach().mean()) / 24 / math.log(2)
    assert independent_bits_per_dim(model, data) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ModelError, match="PixelCNN has no joint"):
        independent_bits_per_dim(PixelCNN((2, 3, 4), 3, filters=6, blocks=1), data)
    with pytest.raises(ModelError, match="too many combinations"):
        independent_log_prob(PixelCNNMADE((3, 2, 2), 256, filters=6, blocks=1), torch.zeros(1, 3, 2, 2).long())


def test_independent_channels_given_labels(monkeypatch):
    """Each event with its own label, in every batch."""
    monkeypatch.setattr(independence, "TOGETHER", 1)
    model = randomised(GatedPixelCNNMADE((2, 2, 2), 3, filters=6, blocks=1, classes=4), std=0.5)
    x, labels = events(model, 23), torch.arange(23) % 4
    data = Dataset("told", 3, x, x, x, labels={"test": labels})
    expected = -float(independent_log_prob(model, x, labels).detach().mean()) / 8 / math.log(2)
    assert independent_bits_per_dim(model, data) == pytest.approx(expected, abs=1e-9)
    other = independent_log_prob(model, x, 0 * labels).detach()
    assert float((independent_log_prob(model, x, labels).detach() - other).abs().max()) > 1e-3
    with pytest.raises(DataError):
        independent_log_prob(model, x, labels + 1)


def test_a_part_of_a_split_and_its_events_drawn_anew():
    """The first events with their labels; redrawn from the same seed every time, the other splits as they were."""
    x = torch.arange(12).view(6, 2) % 3
    data = Dataset("told", 3, x, x, x, labels={"train": torch.arange(6), "test": torch.arange(6)})
    part = part_of(data, "train", 4)
    assert (len(part.train), len(part.test)) == (4, 6)
    assert (part.labels["train"].tolist(), part.labels["test"].tolist()) == ([0, 1, 2, 3], [0, 1, 2, 3, 4, 5])
    assert torch.equal(part_of(data, "test").test, data.test)
    asked = []
    noisy = replace(data, redraw=lambda rows: asked.append(rows) or torch.randint(3, (len(rows), 2)))
    first, second = part_of(noisy, "train", 4, redraw=True), part_of(noisy, "train", redraw=True)
    assert torch.equal(first.train, second.train[:4])
    assert torch.equal(asked[0], torch.arange(6))
    assert not torch.equal(second.train, data.train)
    for split, n, redraw, sentence in (
        ("test", 0, False, "at least 1"),
        ("test", None, True, "test split of told is not drawn anew"),
        ("train", None, True, "train split of told is not drawn anew"),
    ):
        with pytest.raises(DataError, match=sentence):
            part_of(data, split, n, redraw)


def test_what_is_no_number_is_no_figure(monkeypatch):
    """It is said, rather than bits/dim of nan printed, whether a weight is damaged or weights are too large."""
    model, x = Histogram(4), torch.tensor([[0], [1]])
    monkeypatch.setattr(model, "_logits", lambda v, context=None: v[..., None] * torch.full((4,), torch.nan))
    with pytest.raises(ModelError, match="not numbers"):
        evaluation.bits_per_dim(model, x)
    with torch.no_grad():
        model.theta[0] = torch.nan
    with pytest.raises(ModelError, match="not finite: its weights are damaged"):
        evaluation.bits_per_dim(model, x)
