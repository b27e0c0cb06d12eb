"""A folder of pictures of mixed sizes, some transparent: train, evaluate, sample, complete."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from chainrule.cli import main

TINY = ["--train.steps", "6", "--train.batch-size", "4", "--train.eval-every", "3", "--train.crop", "8"]
SMALL = ["--model.filters", "6", "--model.blocks", "1", "--model.components", "2", "--train.precision", "float32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty ramps with noise, 4×3 to 23×22, RGBA or RGB, and a run trained on them."""
    where = tmp_path_factory.mktemp("icons")
    draw = np.random.RandomState(0)
    (where / "icons").mkdir()
    for k in range(20):
        height, width = 4 + k, 3 + k
        ramp = np.add.outer(np.arange(height) * 5, np.arange(width) * 7)[..., None] + draw.randint(0, 20, (1, 1, 4))
        ramp[..., 3] = 255 if k % 2 else ramp[..., 3] * 3 % 256
        Image.fromarray(ramp.astype(np.uint8)[..., : 3 + (k % 2 == 0)]).save(where / "icons" / f"{k}.png")
    words = ["train", "images", "--data", where / "icons", "--out", where / "run", *TINY, *SMALL, "--json"]
    assert main([str(word) for word in words]) == 0
    return where


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_the_run_says_what_it_saw(folder) -> None:
    """Shape, splits and the size of the samples."""
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["shape"] == [4, None, None]
    assert result["train_events"] + result["test_events"] == 18
    assert (folder / "run" / "samples.png").exists()
    assert "scales" in json.loads((folder / "run" / "model" / "config.json").read_text())


def test_evaluate(folder, capsys) -> None:
    """On the run's own pictures, whole; the figure is that of the run."""
    capsys.readouterr()
    assert run("evaluate", folder / "run", "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    result = json.loads((folder / "run" / "result.json").read_text())
    assert figures["bits_per_dim"] == pytest.approx(result["test_bits_per_dim"])


def test_sample_and_complete(folder, capsys) -> None:
    """Samples have the size that was asked for; what is kept of a picture is kept, its alpha too."""
    assert run("sample", folder / "run", "-n", 3, "--size", 5, 9, "-o", folder / "s.npy") == 0
    assert np.load(folder / "s.npy").shape == (3, 5, 9, 4)
    assert run("sample", folder / "run", "-n", 2, "-o", folder / "s.png") == 2
    assert "--size 64 96" in capsys.readouterr().err
    picture = folder / "icons" / "4.png"
    assert run("complete", folder / "run", picture, "--keep-rows", 3, "-o", folder / "c.png") == 0
    with Image.open(folder / "c.png") as done, Image.open(picture) as whole:
        assert done.size == whole.size
        assert done.mode == "RGBA"
        assert (np.array(done)[:3] == np.array(whole)[:3]).all()


def test_an_image_recipe_needs_data(capsys) -> None:
    """Nothing is trained on what nobody named."""
    assert run("train", "images") == 2
    assert "pass --data FOLDER" in capsys.readouterr().err


def test_its_report(folder) -> None:
    """A run on pictures of any size has its row, its curve and its samples on the page."""
    assert run("report", folder / "run", "-o", folder / "report") == 0
    page = (folder / "report" / "index.html").read_text()
    results = json.loads((folder / "report" / "results.json").read_text())
    assert "any size" in page
    assert results
