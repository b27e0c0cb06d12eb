"""The notebooks of the documentation, run as scripts on a small budget: they finish, and what they claim holds."""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule.data import colored, mnist
from chainrule.heads import HEADS

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


def small_mnist(folder=None):
    """Real digits in MNIST's place, without a download: scikit-learn's, three times as large, with a border."""
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    images = (digits.images * 15.9).astype(np.uint8).repeat(3, axis=1).repeat(3, axis=2)
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    images, labels = np.tile(images, (4, 1, 1)), np.tile(digits.target, 4)  # enough to hold 5,000 out
    return mnist.Mnist(images[:7000], labels[:7000], images[7000:], labels[7000:])


@pytest.fixture
def notebook(monkeypatch, tmp_path):
    """Runs one, in an empty folder; gives the names that it leaves."""
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setenv("CHAINRULE_QUICK", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(colored, "load_mnist", small_mnist)
    backend = mpl.get_backend()
    plt.switch_backend("Agg")

    def run(name):
        return runpy.run_path(str(FOLDER / f"{name}.py"))

    yield run
    plt.close("all")
    plt.switch_backend(backend)
    assert list(tmp_path.iterdir()) == []


def test_part_1(notebook):
    """The histogram learns, and the archive takes what the likelihood says."""
    found = notebook("part1")
    assert found["history"].best_bits < 6.0
    assert found["bits"] == pytest.approx(cr.bits_per_dim(found["model"], found["data"]), rel=0.05)


def test_part_2(notebook):
    """Both models are on their way from uniform to the truth."""
    found = notebook("part2")
    for model in (found["mlp"], found["made"]):
        assert found["entropy"] < cr.bits_per_dim(model, found["data"]) < np.log2(200) - 0.05


def test_part_3(notebook):
    """Both PixelCNNs have learned something; completions keep what is known."""
    found = notebook("part3")
    for model in found["models"].values():
        assert cr.bits_per_dim(model, found["data"]) < 1.9
    known = found["known"]
    assert torch.equal(found["completed"][..., known], found["originals"][..., known].long())
    assert not torch.equal(found["completed"], found["originals"].long())


def test_own_model(notebook):
    """The head of forty lines obeys the laws, beats independent channels, and compresses by its own likelihood."""
    before = dict(HEADS)
    try:
        found = notebook("own-model")
    finally:
        HEADS.clear()
        HEADS.update(before)
    assert found["total"] == pytest.approx(1, abs=1e-12)
    assert found["difference"] < 1e-12
    chain, factorised = (cr.bits_per_dim(found["heads"][name], found["data"]) for name in ("chain", "factorised"))
    assert chain < factorised
