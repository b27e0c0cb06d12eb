"""A run knows its data: what was added to a folder or taken from it is said before anything is measured on it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from chainrule.cli import main
from chainrule.evaluation import splits_of
from chainrule.lab.experiment import open_data

TINY = ["--train.steps", "4", "--model.filters", "4", "--model.blocks", "1", "--train.batch-size", "4"]


def picture(path, seed):
    pixels = np.random.RandomState(seed).randint(4, size=(4, 4, 3)) * 85
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def trained(tmp_path, capsys):
    """(a folder of pictures, a run on it)."""
    folder, run = tmp_path / "a" / "data", tmp_path / "run"
    folder.mkdir(parents=True)
    for seed in range(12):
        picture(folder / f"{seed}.png", seed)
    assert main(["train", "pixelcnn", "--data", str(folder), "--out", str(run), *TINY]) == 0
    capsys.readouterr()
    return folder, run


def test_a_runs_record_holds_the_splits(trained):
    folder, run = trained
    config = json.loads((run / "config.json").read_text())
    assert config["splits"] == splits_of(open_data(str(folder)))


def test_a_picture_more_is_said(trained, capsys):
    """Training pictures are not tested in silence because a split has moved; the old pictures are measured as ever."""
    folder, run = trained
    assert main(["evaluate", str(run)]) == 0
    before = capsys.readouterr().out
    picture(folder / "more.png", 99)
    for data in ([], ["--data", str(folder)]):
        assert main(["evaluate", str(run), *data]) == 2
        out, errors = capsys.readouterr()
        assert out == ""
        assert "data is not what the run began with (train ha" in errors
    assert main(["train", "pixelcnn", "--data", str(folder), "--out", str(run), "--resume", *TINY]) == 2
    assert "is not what the run began with" in capsys.readouterr().err
    (folder / "more.png").unlink()
    assert main(["evaluate", str(run)]) == 0
    assert capsys.readouterr().out == before


def test_other_data_under_the_same_name(trained, tmp_path, capsys):
    """A resumed run is refused them; to be evaluated on data of one's choice, a model needs no permission."""
    _, run = trained
    other = tmp_path / "b" / "data"
    other.mkdir(parents=True)
    for seed in range(12):
        picture(other / f"{seed}.png", 100 + seed)
    assert main(["train", "pixelcnn", "--data", str(other), "--out", str(run), "--resume", *TINY]) == 2
    assert "train has other events; validation has other events" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--data", str(other)]) == 0
