"""Models that are conditioned on something: the context reaches every use of the contract, event by event."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import chainrule as cr
from chainrule import sampling
from chainrule.contract import Walk
from chainrule.data import Dataset
from chainrule.errors import DataError, ModelError
from chainrule.evaluation import log_probs
from chainrule.models import AutoregressiveModel
from chainrule.training.fitting import fit


class ByLabel(AutoregressiveModel):
    """A histogram for each label: the smallest model with a context."""

    needs_context = True

    def __init__(self, levels: int, classes: int = 3) -> None:
        super().__init__((1,), levels)
        self.table = nn.Parameter(torch.zeros(classes, levels))

    def checked_context(self, context, n):
        if context is None:
            raise ModelError("this model needs labels")
        if tuple(context.shape) != (n,):
            raise DataError("one label for each event")
        return context

    def _logits(self, v, context=None):
        return self.table[context][:, None]

    def start(self, batch, context=None):
        return LabelWalk(self.table[context])


class LabelWalk(Walk):
    """One site, from the table's rows."""

    def __init__(self, logits):
        self.logits = logits

    def conditional(self):
        return self.logits.double().softmax(-1)

    def observe(self, value):
        """Nothing follows."""


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = ByLabel(4)
    with torch.no_grad():
        model.table.normal_(std=2.0)
    return model


def labelled(n=90, labels=True):
    """Events that equal their label, mostly."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 3, (n,), generator=generator)
    noise = torch.randint(0, 4, (n,), generator=generator)
    x = torch.where(torch.rand(n, generator=generator) < 0.9, classes, noise)[:, None]
    parts = {"train": slice(0, 60), "validation": slice(60, 75), "test": slice(75, n)}
    events = {name: x[rows] for name, rows in parts.items()}
    return Dataset("labelled", 4, **events, labels={name: classes[r] for name, r in parts.items()} if labels else {})


def test_each_event_is_scored_under_its_own_context(model):
    """In one batch, batch by batch, and by walking."""
    x, labels = torch.tensor([[1], [1], [2]]), torch.tensor([0, 2, 1])
    expected = model.table.log_softmax(-1)[labels, x[:, 0]].double()
    assert torch.allclose(model.log_prob(x, labels).double(), expected)
    assert torch.allclose(sampling.score(model, x, labels)[:, 0], expected)
    many = x.repeat(50_000, 1)
    assert torch.allclose(log_probs(model, many, labels.repeat(50_000)), expected.repeat(50_000))


@pytest.mark.parametrize("method", ["cached", "naive"])
def test_samples_and_completions_follow_their_context(model, method):
    """Also where a draw is cut into batches that walk one after the other."""
    labels = torch.arange(3).repeat(400)
    x = sampling.sample(model, 1200, labels, torch.Generator().manual_seed(0), method, batch=100)
    y = sampling.complete(
        model, x, torch.zeros(1, dtype=torch.bool), labels, torch.Generator().manual_seed(1), method, batch=70
    )
    for drawn in (x, y):
        for label in range(3):
            found = drawn[labels == label, 0].bincount(minlength=4) / 400
            assert (found - model.table[label].softmax(-1)).abs().max() < 0.08


def test_missing_or_wrong_context_is_refused(model):
    """Before anything is computed."""
    with pytest.raises(ModelError, match="labels"):
        model.log_prob(torch.zeros(2, 1, dtype=torch.long))
    with pytest.raises(DataError, match="one label"):
        model.sample(3, torch.zeros(2, dtype=torch.long))


def test_training_uses_the_labels_of_the_dataset():
    """With them the events are nearly known; without them they are not."""
    dataset, model = labelled(), ByLabel(4)
    fit(model, dataset, steps=300, batch_size=20, accumulate=3, lr=0.1, precision="float32", device="cpu", quiet=True)
    assert cr.bits_per_dim(model, dataset) < 1.0
    unconditional = cr.Histogram(4)
    fit(unconditional, dataset, steps=300, batch_size=20, lr=0.1, device="cpu", quiet=True)
    assert cr.bits_per_dim(unconditional, dataset) > 1.4
    same = cr.bits_per_dim(model, dataset.test, context=dataset.labels["test"])
    assert same == cr.bits_per_dim(model, dataset)


def test_data_without_labels_are_refused():
    """With a sentence that names the data."""
    with pytest.raises(DataError, match="labelled has none"):
        fit(ByLabel(4), labelled(labels=False), steps=1, batch_size=2, device="cpu", quiet=True)


def test_labels_beyond_the_classes_are_refused():
    """Before training, and by the model's own check."""
    torch.manual_seed(0)
    x = torch.zeros(4, 1, 2, 2, dtype=torch.long)
    splits = {"train": x, "validation": x, "test": x}
    dataset = Dataset("d", 2, **splits, labels={name: torch.arange(4) for name in splits})
    with pytest.raises(DataError, match="3 classes"):
        fit(cr.GatedPixelCNN((1, 2, 2), 2, 4, 1, classes=3), dataset, steps=1, batch_size=2, device="cpu", quiet=True)


def test_labels_must_match_their_events():
    """One integer for each event of the split."""
    x = torch.zeros(4, 1, dtype=torch.long)
    with pytest.raises(DataError, match="labels of the test split"):
        Dataset("d", 2, x, x, x, labels={"test": torch.zeros(3, dtype=torch.long)})
