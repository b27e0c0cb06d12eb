"""The digit classifier: what it learns, and the one that ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

import chainrule
from chainrule import zoo
from chainrule.data import Dataset
from chainrule.errors import DataError, ModelError
from chainrule.lab.quality import DigitClassifier, accuracy, load_classifier, train_classifier
from chainrule.lab.quality.classifier import SHIPPED, describe

FOLDER = Path(chainrule.__file__).parent / "shipped" / SHIPPED


def squares(n=60):
    """Three classes of images: one bright corner each, over noise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (n, 3, 28, 28), generator=generator).to(torch.uint8)
    labels = torch.randint(0, 3, (n,), generator=generator)
    for k, (row, column) in enumerate([(0, 0), (0, 18), (18, 0)]):
        x[labels == k, :, row : row + 10, column : column + 10] += 2
    return Dataset("squares", 4, x, x[:1], x[:1]), labels


def test_it_learns_and_a_seed_says_what():
    """What is plain to see is learnt in a few steps, and the same seed gives the same weights."""
    data, labels = squares()
    first, second = (train_classifier(data, labels, steps=12, seed=1, batch_size=16) for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    trained = train_classifier(data, labels, steps=30, seed=1, batch_size=16)
    assert accuracy(trained, data.train, labels) == 1


def test_labels_that_do_not_fit_are_refused():
    data, labels = squares()
    with pytest.raises(DataError, match="have labels of shape"):
        train_classifier(data, labels[:-1], steps=1)


def test_the_shipped_classifier_is_small_good_and_recorded():
    record = json.loads((FOLDER / "training.json").read_text())
    assert record["parameters"] == sum(p.numel() for p in load_classifier().parameters()) <= 150_000
    assert record["test_accuracy"] >= 0.975
    assert record["test_events"] == 10_000
    assert {"seed", "commit", "command", "seconds", "machine", "versions"} <= record.keys()
    assert "train_classifier.py" in record["command"]


def test_the_shipped_classifier_reads_digits():
    """A ring is a zero and a stroke is a one, whatever is inverted: hand-drawn, on a plain ground."""
    i, j = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    ring = (((i - 14) / 8.5) ** 2 + ((j - 14) / 6) ** 2).sqrt()
    shapes = torch.stack([(ring - 1).abs() < 0.2, ((j - 14).abs() < 1.5) & ((i - 14).abs() < 9)])
    x = torch.where(shapes[:, None], 3, 0).expand(2, 3, 28, 28).to(torch.uint8)
    classifier = load_classifier()
    for images in (x, 3 - x):
        assert describe(classifier, images)[1].argmax(-1).tolist() == [0, 1]


def test_it_is_no_model_to_draw_from():
    """The folder lies among the shipped models and is none: neither listed nor loaded."""
    assert FOLDER.is_dir()
    assert not any("classifier" in name for name in zoo.shipped())
    with pytest.raises(ModelError, match="there is no model"):
        zoo.load(SHIPPED)


def test_a_damaged_folder_is_one_sentence(tmp_path):
    with pytest.raises(ModelError, match="no digit classifier"):
        load_classifier(tmp_path)
    weights = {key: value.contiguous() for key, value in DigitClassifier().state_dict().items() if key != "output.bias"}
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="no digit classifier"):
        load_classifier(tmp_path)
