"""Folders of any names, kinds, links, permissions and sizes: packed and back the same, or refused by one sentence."""

from __future__ import annotations

import os
import stat
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from chainrule.codec import compress_files, decompress_file
from chainrule.codec.picture_files import read_file
from chainrule.errors import ChainruleError, DataError
from chainrule.fixedpoint import exact
from chainrule.models import PixelCNN

STEMS = [
    "a",
    "A",
    "b.c",
    "Ä",
    "a\u0308",
    "日本",
    "nul",
    "Con",
    "x" * 240,
    "あ" * 78,
    "あ" * 84,
    "-o",
    "x y",
    "e" * 251,
    "~",
]
STEMS += [
    "a:b",
    "q?",
    "dot.",
    " ",
    "\x1b[31m",
    "\u202e",
    "{}[],",
    "'\"",
    "a\nb",
    "lpt1.tar",
    "\udcff",
    "ﬁ",
    "K",
    "\u212a",
]
SUFFIXES = [".png", ".PNG", ".gif", ".bmp", ".webp", ".tif", ".jpg", ".txt", ""]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return exact(PixelCNN((1, 3, 4), 256, 4, 0))


@pytest.fixture
def another_user():
    """Nothing is closed to root, so that this is somebody else's work."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def picture(rand: np.random.RandomState) -> Image.Image:
    """Gray as a rule, in any mode; sometimes of another size, in colour, transparent, or of a kind that is refused."""
    size = (3, 4) if rand.rand() < 0.95 else (4, 4)
    gray = Image.fromarray(rand.randint(0, 256, size).astype(np.uint8))
    if rand.rand() < 0.9:
        return gray.convert(["L", "L", "L", "P", "1"][rand.randint(5)])
    return gray.convert(["RGB", "LA", "RGBA", "I;16", "CMYK"][rand.randint(5)])


def plant(folder: Path, rand: np.random.RandomState, depth: int = 0) -> None:
    """Something in a folder; what the file system refuses is left out."""
    for _ in range(rand.randint(1, 5)):
        path = folder / (STEMS[rand.randint(len(STEMS))] + SUFFIXES[min(rand.geometric(0.35) - 1, len(SUFFIXES) - 1)])
        try:
            kind = rand.choice(
                ["picture", "folder", "link", "broken", "loop", "garbage", "pipe"], p=[0.7, 0.1] + [0.04] * 5
            )
            if os.path.lexists(path):
                continue
            if kind == "folder" and depth < 3:
                path.mkdir()
                plant(path, rand, depth + 1)
            elif kind == "link":
                path.symlink_to(folder if rand.rand() < 0.5 else Path("a.png"))
            elif kind == "broken":
                path.symlink_to("nothing")
            elif kind == "loop":
                path.symlink_to(path.name)
            elif kind == "garbage":
                path.write_bytes(bytes(rand.randint(0, 256, rand.randint(0, 60)).astype(np.uint8)))
            elif kind == "pipe":
                os.mkfifo(path)
            else:
                picture(rand).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
            if rand.rand() < 0.02 and not path.is_symlink():
                path.chmod(int(rand.choice([0, stat.S_IRUSR, stat.S_IXUSR, stat.S_IRWXU])))
        except (OSError, ValueError, KeyError):
            continue


def below(folder: Path) -> dict[str, Path]:
    """Every file below a folder, links to folders followed once."""
    found, seen, waiting = {}, set(), [folder]
    while waiting:
        here = waiting.pop(0)
        if os.path.realpath(here) in seen:
            continue
        seen.add(os.path.realpath(here))
        for path in sorted(here.iterdir(), key=lambda path: (path.is_symlink(), path.name)):
            if path.is_dir():
                waiting.append(path)
            elif path.is_file():
                found[path.relative_to(folder).as_posix()] = path
    return found


def there_and_back(model, seed: int, top: Path) -> bool:
    """Whether a tree was packed; if it was, every picture in it came back, and nothing else did."""
    rand = np.random.RandomState(seed)
    source, archive, back = top / "source", top / "a.crz", top / "back"
    source.mkdir()
    plant(source, rand)
    try:
        compress_files(source, model, archive, verify=bool(seed % 2))
    except ChainruleError:
        assert not archive.exists()
        assert not list(top.glob(".*"))
        return False
    written = decompress_file(archive, back, model)
    pictures = {
        name: path for name, path in below(source).items() if not any(p.startswith(".") for p in name.split("/"))
    }
    pictures = {name: path for name, path in pictures.items() if path.suffix.lower() in SUFFIXES[:7]}
    assert len(written) == len(pictures)
    names = {path.relative_to(back).as_posix() for path in written}
    assert names == set(pictures)
    for name, path in pictures.items():
        assert read_file(back / name).same(read_file(path))
    folded = {unicodedata.normalize("NFC", name).casefold() for name in names}
    assert len(folded) == len(names)
    return True


def trees(model, seeds: range) -> int:
    packed = 0
    for seed in seeds:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as top:
            packed += there_and_back(model, seed, Path(top))
            for root, folders, _ in os.walk(top):  # so that it can be removed
                for name in folders:
                    os.chmod(os.path.join(root, name), 0o700, follow_symlinks=True)
    return packed


def test_trees(model, another_user) -> None:
    """Some of each: the law is empty if all are refused."""
    assert 5 < trees(model, range(60)) < 60


@pytest.mark.thorough
def test_two_thousand_trees(model, another_user) -> None:
    assert trees(model, range(1000, 3000)) > 200


@pytest.mark.parametrize("length", [200, 235, 251, 255])
def test_names_as_long_as_a_system_takes_them(model, length: int) -> None:
    """What is packed can be unpacked: the temporary name is shorter than any."""
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        (top / "p").mkdir()
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(top / "p" / ("x" * (length - 4) + ".png"))
        compress_files(top / "p", model, top / "a.crz", verify=True)
        assert len(decompress_file(top / "a.crz", top / ("y" * 255), model)) == 1


@pytest.mark.parametrize("obstacle", ["file", "folder", "link", "parent"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_in_the_way_leaves_all_as_it_was(model, obstacle: str, overwrite: bool) -> None:
    """Of five pictures, none appears if one cannot."""
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        (top / "p" / "z").mkdir(parents=True)
        for name in ("1.png", "2.png", "3.png", "4.png", "z/5.png"):
            Image.fromarray(np.zeros((3, 4), np.uint8)).save(top / "p" / name)
        compress_files(top / "p", model, top / "a.crz")
        back = top / "back"
        back.mkdir()
        if obstacle == "file":
            (back / "4.png").write_text("mine")
        elif obstacle == "folder":
            (back / "4.png").mkdir()
        elif obstacle == "link":
            (back / "z").symlink_to(top / "p")
        else:
            (back / "z").write_text("mine")
        if obstacle == "file" and overwrite:
            assert len(decompress_file(top / "a.crz", back, model, overwrite=True)) == 5
            return
        before = sorted(top.rglob("*"))
        with pytest.raises(DataError, match="is there already"):
            decompress_file(top / "a.crz", back, model, overwrite=overwrite)
        assert sorted(top.rglob("*")) == before


def test_a_failure_at_the_very_end_takes_everything_back(model, monkeypatch) -> None:
    """Also what was replaced comes back."""
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        (top / "p" / "z").mkdir(parents=True)
        for name in ("1.png", "2.png", "z/3.png"):
            Image.fromarray(np.zeros((3, 4), np.uint8)).save(top / "p" / name)
        compress_files(top / "p", model, top / "a.crz")
        (top / "back").mkdir()
        (top / "back" / "1.png").write_text("mine")
        before, real = sorted(top.rglob("*")), os.replace

        def replace(source, target):
            if str(target).endswith("back/z/3.png"):
                raise OSError(28, "No space left on device")
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(DataError, match="No space"):
            decompress_file(top / "a.crz", top / "back", model, overwrite=True)
        assert sorted(top.rglob("*")) == before
        assert (top / "back" / "1.png").read_text() == "mine"


def test_labels_come_back_beside_their_images(model) -> None:
    """A file of images and labels is packed whole: what is no event is kept as it is."""
    with tempfile.TemporaryDirectory() as folder:
        top, rand = Path(folder), np.random.RandomState(0)
        arrays = {"x_train": rand.randint(0, 256, (9, 3, 4)).astype(np.uint8), "y_train": np.arange(9)}
        arrays |= {"mean": rand.rand(12), "names": np.array(["a", "b"])}
        np.savez(top / "mnist.npz", **arrays)
        compress_files(top / "mnist.npz", model, top / "a.crz", verify=True)
        decompress_file(top / "a.crz", top / "back", model)
        with np.load(top / "back" / "mnist.npz") as found:
            assert found.files == list(arrays)
            for name, array in arrays.items():
                assert found[name].dtype == array.dtype
                assert (found[name] == array).all()
