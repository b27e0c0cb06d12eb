"""MNIST from every source, on a small stand-in; the real one where marked slow."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import multiprocessing
import pickle
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from chainrule.data import colored, load_mnist, mnist
from chainrule.data.arrays import read_arrays
from chainrule.data.idx import from_idx, to_idx
from chainrule.errors import DataError

SHAPES = ((6, 28, 28), (6,), (2, 28, 28), (2,))


@pytest.fixture
def small(monkeypatch) -> dict[str, bytes]:
    """A tiny MNIST, under the real names; no network, and no pip."""
    rand = np.random.RandomState(0)
    files = {
        name: to_idx(rand.randint(0, 256, s).astype(np.uint8)) for name, s in zip(mnist.FILES, SHAPES, strict=True)
    }
    monkeypatch.setattr(mnist, "FILES", {name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    monkeypatch.setenv("CHAINRULE_MNIST_MIRROR", "")
    monkeypatch.setattr(mnist, "PACKAGE", "no-such-package-as-this==0.0.0.0.1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return files


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder behind a web server that stands for the mirror; yields (folder, requested paths)."""
    requests: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            requests.append(self.path)

    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("CHAINRULE_MNIST_MIRROR", f"http://127.0.0.1:{server.server_address[1]}")
        yield folder, requests
        server.shutdown()


def check(found: mnist.Mnist, files: dict[str, bytes]) -> None:
    for array, data in zip(found, files.values(), strict=True):
        np.testing.assert_array_equal(array, from_idx(data, ""))
        assert array.flags.writeable


def put(files: dict[str, bytes], folder: Path, packed: bool) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    for name, data in files.items():
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data, 1) if packed else data)


def test_the_mirror_is_asked_once_and_then_the_cache(small, served, tmp_path, capfd) -> None:
    folder, requests = served
    put(small, folder, packed=True)
    check(load_mnist(cache=tmp_path / "cache"), small)
    assert len(requests) == 4
    assert "Fetching MNIST" in capfd.readouterr().err
    assert sorted(p.name for p in (tmp_path / "cache" / "mnist").iterdir()) == sorted(small)
    check(load_mnist(cache=tmp_path / "cache"), small)
    assert len(requests) == 4
    assert capfd.readouterr() == ("", "")


def test_a_damaged_cache_is_said_aloud_and_fetched_again(small, served, tmp_path, capfd) -> None:
    put(small, served[0], packed=True)
    kept = tmp_path / "cache" / "mnist"
    put(small, kept, packed=False)
    victim = kept / "t10k-images-idx3-ubyte"
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    check(load_mnist(cache=tmp_path / "cache"), small)
    assert re.search(r"t10k-images-idx3-ubyte is damaged", capfd.readouterr().err)
    assert victim.read_bytes() == small[victim.name]


@pytest.mark.parametrize("fault", ["missing", "truncated", "other", "page"])
def test_a_mirror_that_fails_is_not_trusted(small, served, tmp_path, fault: str) -> None:
    folder, _ = served
    put(small, folder, packed=True)
    victim = folder / "t10k-labels-idx1-ubyte.gz"
    if fault == "missing":
        victim.unlink()
    else:
        data = victim.read_bytes()
        victim.write_bytes({"truncated": data[:-3], "other": gzip.compress(b"x"), "page": b"<html>"}[fault])
    words = {"missing": "did not serve it", "truncated": "sent a damaged"}.get(fault, "sent something else as")
    with pytest.raises(DataError, match=f"127.0.0.1:[0-9]+ {words}") as caught:
        load_mnist(cache=tmp_path / "cache")
    assert "name a folder that holds train-images-idx3-ubyte" in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_no_source_ends_in_one_sentence(small, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CHAINRULE_MNIST_MIRROR", "http://127.0.0.1:9/ nonsense")
    with pytest.raises(
        DataError, match=r"MNIST could not be fetched: 127\.0\.0\.1:9 did not .* pip could not download"
    ):
        load_mnist(cache=tmp_path)


def test_a_missing_pip_is_named(small, tmp_path, monkeypatch) -> None:
    done = subprocess.CompletedProcess([], 1, "", f"{sys.executable}: No module named pip\n")
    monkeypatch.setattr(mnist.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(DataError, match="this Python has no pip"):
        load_mnist(cache=tmp_path)


def _wheel(files: dict[str, bytes], path: Path) -> None:
    arrays = [from_idx(data, "") for data in files.values()]
    x, y = arrays[0].reshape(6, 784).astype(np.float32) / 256, arrays[1].astype(np.int64)
    test = arrays[2].reshape(2, 784).astype(np.float32) / 256, arrays[3].astype(np.int64)
    with zipfile.ZipFile(path, "w") as archive:
        parts = ((x[:5], y[:5]), (x[5:], y[5:]), test)
        archive.writestr(mnist.WHEEL_MEMBER, gzip.compress(pickle.dumps(parts, 2)))


def test_the_package_is_turned_back_into_idx(small, tmp_path, monkeypatch) -> None:
    wheel = tmp_path / "wheels" / "digits_as_package-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    _wheel(small, wheel)

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert {"--no-deps", "--only-binary=:all:"} < set(command)
        (Path(command[command.index("--dest") + 1]) / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(mnist.subprocess, "run", run)
    with pytest.raises(DataError, match="its SHA-256 differs"):
        load_mnist(cache=tmp_path / "cache")
    monkeypatch.setattr(mnist, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    check(load_mnist(cache=tmp_path / "cache"), small)


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_ones_own(small, tmp_path, packed: bool) -> None:
    put(small, tmp_path / "mine", packed)
    check(load_mnist(tmp_path / "mine", cache=tmp_path / "cache"), small)
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_is_not_mnist_is_never_replaced(small, served, tmp_path) -> None:
    put(small, served[0], packed=True)
    put(small, tmp_path / "mine", packed=False)
    labels = tmp_path / "mine" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match="is not MNIST's train-labels-idx1-ubyte"):
        load_mnist(tmp_path / "mine", cache=tmp_path / "cache")
    labels.unlink()
    with pytest.raises(DataError, match="does not hold MNIST's train-labels-idx1-ubyte"):
        load_mnist(tmp_path / "mine", cache=tmp_path / "cache")
    assert served[1] == []


def test_a_cache_that_cannot_be_written_is_said_aloud(small, served, tmp_path, capfd) -> None:
    put(small, served[0], packed=True)
    (tmp_path / "cache").write_text("a file where a folder should be")
    check(load_mnist(cache=tmp_path / "cache"), small)
    assert "could not be kept in the cache" in capfd.readouterr().err


def _load(cache: Path, files: dict[str, str]) -> bool:
    mnist.FILES = files
    load_mnist(cache=cache)
    return True


def test_two_processes_fetch_at_once(small, served, tmp_path) -> None:
    put(small, served[0], packed=True)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        done = pool.starmap(_load, [(tmp_path / "cache", mnist.FILES)] * 4, chunksize=1)
    assert all(done)
    assert sorted(p.name for p in (tmp_path / "cache" / "mnist").iterdir()) == sorted(small)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is (not an IDX file|no kind of file)"),
        (b"\0\1\x08\1\0\0\0\0", "is (not an IDX file|no kind of file)"),
        (b"\0\0\x0d\1\0\0\0\0", "type 0x0D"),
        (b"\0\0\x08\3\0\0\0\1", "truncated"),
        (b"\0\0\x08\xff" + bytes(4 * 255), "damaged IDX"),
        (b"\0\0\x08\1\0\0\0\5abc", "promises 5 bytes of data and holds 3"),
        (b"\0\0\x08\3" + b"\xff" * 12, "promises"),
    ],
)
def test_bad_idx_files_are_refused(tmp_path, data: bytes, sentence: str) -> None:
    (tmp_path / "x.idx").write_bytes(data)
    with pytest.raises(DataError, match=sentence) as caught:
        read_arrays(tmp_path / "x.idx")
    assert str(tmp_path) in str(caught.value)


def test_the_background_is_inverted_under_the_digit() -> None:
    digits = np.random.RandomState(0).randint(0, 256, (50, 28, 28)).astype(np.uint8)
    images = colored.color(digits, seed=3)
    assert images.shape == (50, 28, 28, 3)
    # the recipe as the text says it, one image at a time
    rand = np.random.RandomState(3)
    rows, columns = rand.randint(0, 173, 50), rand.randint(0, 173, 50)
    for image, digit, row, column in zip(images, digits, rows, columns, strict=True):
        crop = colored.portrait()[row : row + 28, column : column + 28]
        expected = np.where((digit > 127)[..., None], 255 - crop, crop) >> 6
        np.testing.assert_array_equal(image, expected)


def test_fresh_crops_are_the_recipe_with_other_corners() -> None:
    """Each image is its digit on some crop of the portrait; every corner can be drawn; the generator decides."""
    digits = np.random.RandomState(0).randint(0, 256, (5, 196, 198)).astype(np.uint8)
    fresh, levels = colored.FreshCrops.of(digits), colored.portrait() >> 6
    corners = [(row, column) for row in range(5) for column in range(3)]
    rows = torch.randint(5, (150,), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    images, seen = fresh(rows), set()
    for image, row in zip(images.numpy(), rows.tolist(), strict=True):
        crop = image.transpose(1, 2, 0) ^ np.where(digits[row] > 127, 3, 0)[..., None]
        found = [(i, j) for i, j in corners if np.array_equal(levels[i : i + 196, j : j + 198], crop)]
        assert len(found) == 1
        seen.update(found)
    assert seen == set(corners)
    assert not torch.equal(images, fresh(rows))
    torch.manual_seed(1)
    assert torch.equal(images, fresh(rows))


def test_digits_of_another_type_are_refused() -> None:
    for digits in (np.zeros((2, 28, 28)), np.zeros((28, 28), np.uint8), np.zeros((1, 300, 28), np.uint8)):
        with pytest.raises(DataError, match="digits to colour"):
            colored.color(digits, seed=0)


def test_other_bytes_than_the_published_are_said_aloud(small, served, monkeypatch, tmp_path) -> None:
    put(small, served[0], packed=True)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    data = colored.hopper_mnist(validation=2)
    assert len(data.notes) == 2
    assert "differ from the published ones" in data.notes[0]
    assert [len(split) for split in (data.train, data.validation, data.test)] == [4, 2, 2]
    assert data.redraw is not None
    whole = data.redraw(torch.arange(4))
    assert whole.shape == data.train.shape
    assert whole.dtype == data.train.dtype
    for split, mask in data.masks.items():  # undone, the digit leaves a crop of the portrait
        plain = getattr(data, split) ^ mask[:, None]
        assert mask.shape == (len(plain), 28, 28)
        views = np.lib.stride_tricks.sliding_window_view(colored.portrait() >> 6, (28, 28), (0, 1))
        assert (views == plain[0].numpy()).all((2, 3, 4)).any()
    with pytest.raises(DataError, match="cannot be held out"):
        colored.hopper_mnist(validation=6)


@pytest.mark.slow
def test_the_hopper_set_has_the_published_bytes() -> None:
    """With whatever cache the user has; fetches MNIST if need be."""
    try:
        data = colored.hopper_mnist()
    except DataError as error:
        if "could not be fetched" not in str(error):
            raise
        pytest.skip(f"no MNIST here: {error}")
    assert data.notes == ()
    assert (data.levels, data.shape) == (4, (3, 28, 28))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [55_000, 5_000, 10_000]


@pytest.mark.slow
def test_the_package_index_has_mnist(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CHAINRULE_MNIST_MIRROR", "")
    try:
        data = load_mnist(cache=tmp_path)
    except DataError as error:
        if "pip could not download" not in str(error) and "no pip" not in str(error):
            raise
        pytest.skip(f"pip reaches no package index here: {error}")
    assert data.train_images.shape == (60_000, 28, 28)
    assert data.train_labels[:6].tolist() == [5, 0, 4, 1, 9, 2]
    assert np.bincount(data.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
