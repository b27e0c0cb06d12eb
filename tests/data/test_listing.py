"""One listing for training and for archives: what is left out is named, and what cannot be looked at is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chainrule.data import load_images
from chainrule.data.listing import list_folder
from chainrule.errors import DataError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_everything_is_either_listed_or_named(tmp_path) -> None:
    """Links to folders are entered, each folder once, whatever circles they make; the rest is named by kind."""
    top, other = tmp_path / "top", tmp_path / "other"
    touch(top / "b" / "2.PNG", top / "1.jpg", top / "a" / "3.gif", top / "notes.txt", top / ".git" / "4.png")
    touch(top / "photo.avif", other / "5.webp", other / ".DS_Store")
    (top / "circle").symlink_to(top, target_is_directory=True)
    (top / "again").symlink_to(top / "b", target_is_directory=True)
    (top / "elsewhere").symlink_to(other, target_is_directory=True)
    (other / "back").symlink_to(top, target_is_directory=True)
    (top / "broken").symlink_to(tmp_path / "nothing")
    (top / "6.png").symlink_to(other / "5.webp")
    os.mkfifo(top / "pipe")
    listing = list_folder(top)
    assert names(listing.pictures, top) == ["1.jpg", "6.png", "a/3.gif", "b/2.PNG", "elsewhere/5.webp"]
    assert listing.left_out == {
        "no picture": ["notes.txt", "photo.avif"],
        "hidden": [".git", "elsewhere/.DS_Store"],
        "listed already": ["again", "circle", "elsewhere/back"],
        "broken link": ["broken"],
        "special file": ["pipe"],
    }
    assert "2 × no picture (notes.txt, photo.avif)" in listing.note


@pytest.mark.parametrize("what", ["link", "loop", "pipe"])
def test_a_picture_that_is_none_is_refused(tmp_path, what: str) -> None:
    """It is never opened, since a pipe would never end."""
    path = tmp_path / "x.png"
    if what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if what == "loop" else tmp_path / "nothing")
    for read in (list_folder, load_images):
        with pytest.raises(DataError, match=r"x\.png"):
            read(tmp_path)
    if what == "pipe":
        with pytest.raises(DataError, match="pipe or a device"):
            load_images(path)


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
def test_a_folder_that_may_not_be_read_is_refused(tmp_path, mode: int) -> None:
    """Not left out. As another user, since nothing is closed to root."""
    touch(tmp_path / "open" / "1.png", tmp_path / "closed" / "2.png")
    (tmp_path / "closed").chmod(mode)
    user = os.geteuid()
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(DataError, match=r"closed.* may not be read"):
            list_folder(tmp_path)
    finally:
        os.seteuid(user)
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["training", "testing"], {"train": 1, "test": 1}),
        (["Train", "Test", "VALID"], {"train": 1, "test": 1, "validation": 1}),
        (["train_images", "test-images", "Dev"], {"train": 1, "test": 1, "validation": 1}),
        (["TRAIN"], {"train": 1}),
        (["cats", "dogs"], {"train": 2}),
        (["trainers", "contest"], {"train": 2}),
    ],
)
def test_splits_have_their_usual_names(tmp_path, folders: list[str], splits: dict[str, int]) -> None:
    touch(*(tmp_path / folder / "deep" / "1.png" for folder in folders))
    assert {split: len(paths) for split, paths in list_folder(tmp_path).by_split().items()} == splits


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        (["train", "Training"], "two subfolders for one split"),
        (["test", "cats"], "no train/"),
        (["val", "cats"], "no train/"),
        (["train", "test", "extra"], r"1 × pictures beside its splits test, train \(extra/1.png\)"),
        (["train", "."], "beside its splits"),
        (["cats/train", "cats/test", "dogs/train"], "deeper down"),
        (["data/Train", "data/Test"], "deeper down"),
    ],
)
def test_splits_that_are_not_clear_are_refused(tmp_path, folders: list[str], sentence: str) -> None:
    """No picture is pooled with a split that it does not belong to, and none is called no picture."""
    touch(*(tmp_path / folder / "1.png" for folder in folders))
    with pytest.raises(DataError, match=sentence):
        list_folder(tmp_path).by_split()


def test_linked_splits_are_splits(tmp_path) -> None:
    touch(tmp_path / "disk" / "x" / "1.png", tmp_path / "disk" / "y" / "2.png")
    for name, target in (("train", "x"), ("test", "y")):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).symlink_to(tmp_path / "disk" / target, target_is_directory=True)
    found = list_folder(tmp_path / "set").by_split()
    assert [path.name for split in found.values() for path in split] == ["2.png", "1.png"]


@pytest.mark.parametrize("target", ["../disk", "train", "train/x"])
def test_splits_that_are_one_folder_are_refused_for_that(tmp_path, target: str) -> None:
    """They are not empty: what is wrong is that no split has pictures of its own."""
    top = tmp_path / "set"
    touch(tmp_path / "disk" / "1.png")
    if target == "../disk":
        top.mkdir()
        (top / "train").symlink_to(target, target_is_directory=True)
    else:
        touch(top / "train" / "x" / "2.png")
    (top / "test").symlink_to(target, target_is_directory=True)
    with pytest.raises(DataError, match=r"of its own, as others lead to the same folder \((test|train)\)"):
        list_folder(top).by_split()
