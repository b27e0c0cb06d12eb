"""Scikit-learn's images: the same for everyone, and no test pixel in any training crop."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from chainrule.data import digits, from_name, photos, scikit
from chainrule.data.reading import sha256
from chainrule.data.scikit import PHOTOS, SIDE, corners
from chainrule.errors import DataError

SPLITS = ("train", "validation", "test")


def covered(places) -> np.ndarray:
    """Which pixels of the photographs the crops show."""
    seen = np.zeros((len(PHOTOS), 427, 640), bool)
    for photo, row, column in places:
        assert 0 <= row <= 427 - SIDE
        assert 0 <= column <= 640 - SIDE
        seen[photo, row : row + SIDE, column : column + SIDE] = True
    return seen


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_pixel_is_in_two_splits(seed) -> None:
    train, validation, test = (covered(corners(seed=seed)[split]) for split in SPLITS)
    assert not (train & test).any()
    assert not (train & validation).any()
    assert not (validation & test).any()
    # held-out crops tile their blocks: every pixel is measured once
    assert [part.sum() for part in (validation, test)] == [12 * 64 * 64, 24 * 64 * 64]
    assert train.mean(axis=(1, 2)).min() > 0.6


def test_the_corners_are_the_seeds() -> None:
    assert corners(50, seed=3) == corners(50, seed=3)
    assert corners(50, seed=3)["test"] != corners(50, seed=4)["test"]
    with pytest.raises(DataError, match="at least 1"):
        corners(0)


def test_photos() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    data = from_name("photos")
    assert (data.name, data.levels, data.shape, data.pixel_values) == ("photos", 256, (3, 16, 16), None)
    assert [len(getattr(data, split)) for split in SPLITS] == [20_000, 192, 384]
    sources = [datasets.load_sample_image(name) for name in PHOTOS]
    if [sha256(source) for source in sources] == list(PHOTOS.values()):
        assert data.notes == ()
    places = corners()
    for split, number in (("train", 7), ("test", 200)):
        photo, row, column = places[split][number]
        crop = sources[photo][row : row + 16, column : column + 16].transpose(2, 0, 1)
        np.testing.assert_array_equal(getattr(data, split)[number].numpy(), crop)
    assert torch.equal(photos(50).test, data.test)


def test_digits() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    data = from_name("digits")
    assert (data.name, data.levels, data.shape) == ("digits", 17, (1, 8, 8))
    assert [len(getattr(data, split)) for split in SPLITS] == [1257, 180, 360]
    everything = torch.cat([getattr(data, split) for split in SPLITS]).numpy()
    original = datasets.load_digits().images.astype(np.uint8)
    assert sorted(x.tobytes() for x in everything) == sorted(x.tobytes() for x in original)
    assert not torch.equal(digits(seed=1).test, data.test)
    with pytest.raises(DataError, match="17 levels, not 4"):
        from_name("digits", levels=4)


def test_without_scikit_learn(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    for name in ("photos", "digits"):
        with pytest.raises(DataError, match="need scikit-learn: pip install"):
            from_name(name)


def test_other_bytes_are_said_aloud(monkeypatch) -> None:
    black, small = np.zeros((427, 640, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    fake = SimpleNamespace(
        load_sample_image=lambda name: black, load_digits=lambda: SimpleNamespace(images=np.zeros((9, 8, 8)))
    )
    monkeypatch.setattr(scikit, "_datasets", lambda: fake)
    assert [note.split(" differ")[0] for note in photos(5).notes] == [f"The pixels of {name}" for name in PHOTOS]
    with pytest.raises(DataError, match="not the 1,797"):
        digits()
    fake.load_sample_image = lambda name: small
    with pytest.raises(DataError, match=r"china\.jpg is \(2, 2, 3\)"):
        photos()

    def missing(name):
        raise FileNotFoundError(name)

    fake.load_sample_image = missing
    with pytest.raises(DataError, match=r"china\.jpg cannot be read"):
        photos()


def test_a_folder_of_that_name_is_not_passed_over(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"photos is a path here and a dataset's name: write \./photos"):
        from_name("photos")
    for path in ("./photos", "photos/"):
        with pytest.raises(DataError, match="holds no pictures"):
            from_name(path)
