"""Your own images, from every kind of file, and clear sentences for what is none."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from chainrule.data import from_name, load_images
from chainrule.data.idx import to_idx
from chainrule.errors import DataError

RAND = np.random.RandomState(0)
COLOR = RAND.randint(0, 256, (60, 5, 4, 3)).astype(np.uint8)
SMALL = RAND.randint(0, 4, (60, 5, 4, 3)).astype(np.uint8)


def rows(*splits: torch.Tensor) -> list[bytes]:
    return sorted(x.numpy().tobytes() for split in splits for x in split)


def nchw(images: np.ndarray) -> list[bytes]:
    return sorted(np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes() for image in images)


def save(array: np.ndarray, path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def test_the_courses_pickle(tmp_path) -> None:
    path = tmp_path / "mnist-hw1.pkl"
    path.write_bytes(pickle.dumps({"train": SMALL[:48], "test": SMALL[48:]}))
    data = from_name(str(path))
    assert (data.name, data.levels, data.shape) == ("mnist-hw1", 4, (3, 5, 4))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [44, 4, 12]
    assert rows(data.train, data.validation) == nchw(SMALL[:48])
    np.testing.assert_array_equal(data.test.numpy(), SMALL[48:].transpose(0, 3, 1, 2))
    assert "60 images (48 train + 12 test) of 4×5 pixels (width × height) with 3 channels, in 4 levels" in data.notes[0]
    assert len(load_images(path, validation=7).validation) == 7


@pytest.mark.parametrize("kind", ["npy", "npz", "npz-splits", "idx", "idx.gz", "pkl.gz"])
def test_arrays_of_every_kind(tmp_path, kind: str) -> None:
    path = tmp_path / f"mine.{kind.removesuffix('-splits')}"
    gray = COLOR[..., 0]
    if kind == "npy":
        np.save(path, gray)
    elif kind == "npz":
        np.savez_compressed(path, gray)
    elif kind == "npz-splits":
        np.savez(path, train=gray[:40], valid=gray[40:50], test=gray[50:], labels=np.arange(3))
    elif kind == "pkl.gz":
        path.write_bytes(gzip.compress(pickle.dumps(gray)))
    else:
        path.write_bytes(gzip.compress(to_idx(gray)) if kind == "idx.gz" else to_idx(gray))
    data = load_images(path)
    assert (data.levels, data.shape, data.train.dtype) == (256, (1, 5, 4), torch.uint8)
    assert rows(data.train, data.validation, data.test) == nchw(gray[..., None])
    counts = [40, 10, 10] if kind == "npz-splits" else [48, 6, 6]
    assert [len(split) for split in (data.train, data.validation, data.test)] == counts


def test_the_split_is_the_seeds(tmp_path) -> None:
    np.save(tmp_path / "a.npy", COLOR)
    first, again, other = (load_images(tmp_path / "a.npy", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.test, again.test)
    assert not torch.equal(first.test, other.test)
    assert rows(first.train, first.validation, first.test) == nchw(COLOR)


def test_levels_of_arrays(tmp_path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, COLOR)
    data = load_images(path, levels=4)
    assert rows(data.train, data.validation, data.test) == nchw(COLOR >> 6)
    assert "quantised to 4 levels" in data.notes[1]
    np.save(path, SMALL * 85)
    data = load_images(path, levels=4)
    assert rows(data.train, data.validation, data.test) == nchw(SMALL)
    assert "Every pixel is one of the 4 levels" in data.notes[1]
    np.save(path, SMALL.astype(np.int64) % 2 == 1)
    assert load_images(path).levels == 2
    np.save(path, SMALL)
    assert load_images(path, levels=8).levels == 8
    with pytest.raises(DataError, match="values up to 3, neither 2 levels nor 8-bit"):
        load_images(path, levels=2)
    np.save(path, COLOR.astype(np.int32) * 4)
    with pytest.raises(DataError, match="more than 8 bits"):
        load_images(path)
    data = load_images(path, levels=1024)
    assert data.train.dtype == torch.int16
    with pytest.raises(DataError, match="choose from 2"):
        load_images(path, levels=1)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (COLOR / 255, "holds float64 values"),
        (COLOR.astype(object), "Python objects"),
        (COLOR[..., 0, 0], r"has shape \(60, 5\)"),
        (COLOR[:0], "holds no images"),
        (COLOR.transpose(0, 3, 1, 2).repeat(2, 3), "channels come last"),
        (-SMALL.astype(np.int8), "negative value"),
        (COLOR[:2], "too few"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, array: np.ndarray, sentence: str) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", array)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"images": array}))
    for name in ("a.npy", "a.npz", "a.pkl"):
        with pytest.raises(DataError, match=sentence) as caught:
            load_images(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_files_that_are_no_images(tmp_path) -> None:
    np.savez(tmp_path / "names.npz", first=COLOR, second=COLOR)
    with pytest.raises(DataError, match="holds first, second: it must hold"):
        load_images(tmp_path / "names.npz")
    np.savez(tmp_path / "shapes.npz", train=COLOR, test=COLOR[:, :3])
    with pytest.raises(DataError, match=r"different shapes \(train \(5, 4, 3\), test \(3, 4, 3\)\)"):
        load_images(tmp_path / "shapes.npz")
    np.savez(tmp_path / "mine.npz", train=COLOR, validation=COLOR, test=COLOR)
    with pytest.raises(DataError, match="a validation split of its own"):
        load_images(tmp_path / "mine.npz", validation=3)
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(DataError, match="is no kind of file"):
        load_images(tmp_path / "text.txt")
    with pytest.raises(DataError, match="is one picture"):
        load_images(save(COLOR[0], tmp_path / "one.png"))
    with pytest.raises(DataError, match="there is no"):
        load_images(tmp_path / "nothing")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="holds a list"):
        load_images(tmp_path / "list.pkl")
    (tmp_path / "words.pkl").write_bytes(pickle.dumps({"train": "abc"}))
    with pytest.raises(DataError, match="holds <U3 values"):
        load_images(tmp_path / "words.pkl")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.idx", "a.idx.gz", "a.pkl"])
def test_truncated_files(tmp_path, name: str) -> None:
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, COLOR)
    elif name == "a.npz":
        np.savez_compressed(path, train=COLOR, test=COLOR)
    elif name == "a.pkl":
        path.write_bytes(pickle.dumps({"train": COLOR}))
    else:
        data = to_idx(COLOR[..., 0])
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    whole = path.read_bytes()
    for n in (0, 1, 4, 7, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(DataError):
            load_images(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path) -> None:
    np.save(tmp_path / "a.npy", COLOR)
    (tmp_path / "a.npy").chmod(0)
    with pytest.raises(DataError, match="may not be read"):
        load_images(tmp_path / "a.npy")


def test_the_systems_refusal_is_a_sentence(tmp_path, monkeypatch) -> None:
    np.save(tmp_path / "a.npy", COLOR)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"a\.npy may not be read"):
        load_images(tmp_path / "a.npy")


def test_a_folder_in_the_order_of_its_paths(tmp_path) -> None:
    for i in np.random.RandomState(1).permutation(60):
        save(COLOR[i], tmp_path / f"{i // 20}" / f"{i:02}.png")
    (tmp_path / "readme.txt").write_text("x")
    (tmp_path / ".hidden.png").write_text("x")
    data = load_images(tmp_path, seed=5)
    np.save(tmp_path / "a.npy", COLOR)
    same = load_images(tmp_path / "a.npy", seed=5)
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(data, split), getattr(same, split))
    assert data.levels == 256
    assert data.name == tmp_path.name
    assert "Left out: 1 × hidden (.hidden.png); 1 × no picture (readme.txt)." in data.notes
    assert "Seed 5 drew 6 for test and 6 for validation, which leaves 48 for training." in data.notes


def test_subfolders_are_splits(tmp_path) -> None:
    for i, image in enumerate(COLOR[:30]):
        save(image, tmp_path / ("train" if i < 20 else "val" if i < 25 else "test") / f"{i:02}.bmp")
    data = load_images(tmp_path, levels=2)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [20, 5, 5]
    assert rows(data.train) == nchw(COLOR[:20] >> 7)
    (tmp_path / "valid").mkdir()
    with pytest.raises(DataError, match="two subfolders for one split"):
        load_images(tmp_path)
    (tmp_path / "valid").rmdir()
    for path in (tmp_path / "train").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="train holds no pictures"):
        load_images(tmp_path)
    (tmp_path / "train").rmdir()
    with pytest.raises(DataError, match=r"no train/"):
        load_images(tmp_path)


def test_a_folder_of_idx_files(tmp_path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(to_idx(COLOR[:48, ..., 0])))
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(to_idx(COLOR[48:, ..., 0]))
    data = load_images(tmp_path)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [44, 4, 12]


def test_modes_of_pictures(tmp_path) -> None:
    gray = COLOR[:10, ..., 0]
    for i, image in enumerate(gray):
        save(image, tmp_path / "gray" / f"{i}.png")
    assert load_images(tmp_path / "gray").shape == (1, 5, 4)
    save(COLOR[0], tmp_path / "gray" / "x.png")
    data = load_images(tmp_path / "gray")
    assert data.shape == (3, 5, 4)
    assert any("10 of 11 pictures were gray and became RGB" in note for note in data.notes)

    for i, image in enumerate(gray):
        picture = Image.fromarray(image)
        (tmp_path / "bits").mkdir(exist_ok=True)
        picture.point(lambda v: 255 * (v > 127)).convert("1").save(tmp_path / "bits" / f"{i}.png")
    data = load_images(tmp_path / "bits")
    assert (data.levels, data.shape) == (2, (1, 5, 4))
    assert rows(data.train, data.validation, data.test) == nchw((gray > 127).astype(np.uint8)[..., None])

    (tmp_path / "palette").mkdir()
    for i, image in enumerate(COLOR[:10]):
        Image.fromarray(image).quantize(256).save(tmp_path / "palette" / f"{i}.gif")
    data = load_images(tmp_path / "palette")
    assert data.shape == (3, 5, 4)
    assert any("10 pictures had a palette" in note for note in data.notes)

    opaque = np.concatenate([COLOR, np.full((60, 5, 4, 1), 255, np.uint8)], axis=3)
    for i, image in enumerate(opaque[:10]):
        save(image, tmp_path / "alpha" / f"{i}.png")
    data = load_images(tmp_path / "alpha")
    assert rows(data.train, data.validation, data.test) == nchw(COLOR[:10])
    assert any("opaque alpha" in note for note in data.notes)


def _deep_png(path: Path) -> None:
    """A 2 × 1 RGB PNG of 16 bits a channel, which Pillow would read as 8."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(13))) + chunk(b"IEND", b""))


def test_folders_that_are_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="holds no pictures"):
        load_images(tmp_path)
    for i, image in enumerate(COLOR[:10]):
        save(image, tmp_path / f"{i}.png")
    bad = tmp_path / "x.png"

    save(COLOR[0, :4], bad)
    mixed = load_images(tmp_path)
    assert mixed.shape == (3, None, None)
    assert any("2 sizes" in note and "4×5 the most frequent (10)" in note for note in mixed.notes)

    frames = [Image.fromarray(image) for image in COLOR[:3]]
    frames[0].save(bad, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"x\.png is animated"):
        load_images(tmp_path)

    save(COLOR[0, ..., 0].astype(np.uint16) * 256, bad)
    with pytest.raises(DataError, match=r"x\.png has more than 8 bits"):
        load_images(tmp_path)
    _deep_png(bad)
    with pytest.raises(DataError, match=r"x\.png has more than 8 bits"):
        load_images(tmp_path)

    save(np.concatenate([COLOR[0], COLOR[0, ..., :1]], axis=2), bad)
    clear = load_images(tmp_path)
    assert clear.shape == (4, 5, 4)
    assert any("10 of 11 pictures became opaque RGBA" in note for note in clear.notes)

    save(COLOR[0], bad)
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(DataError, match=r"x\.png does not decode"):
        load_images(tmp_path)
    bad.write_text("no picture at all")
    with pytest.raises(DataError, match=r"x\.png does not decode"):
        load_images(tmp_path)
    bad.unlink()

    Image.fromarray(COLOR[0]).convert("CMYK").save(tmp_path / "x.jpg")
    with pytest.raises(DataError, match=r"x\.jpg is in the colour space CMYK"):
        load_images(tmp_path)
    (tmp_path / "x.jpg").unlink()
    with pytest.raises(DataError, match="300 levels: choose from 2 to 256"):
        load_images(tmp_path, levels=300)


def test_sets_that_people_have(tmp_path) -> None:
    """Keras's mnist.npz, the course's pickles with labels, batches of CIFAR-10 and ImageNet32: images and labels."""
    y = np.arange(60) % 10
    np.savez(tmp_path / "mnist.npz", x_train=SMALL[:48], y_train=y[:48], x_test=SMALL[48:], y_test=y[48:])
    course = {"train": SMALL[:48], "train_labels": y[:48], "test": SMALL[48:], "test_labels": y[48:]}
    (tmp_path / "shapes_colored.pkl").write_bytes(pickle.dumps(course))
    for name in ("mnist.npz", "shapes_colored.pkl"):
        data = load_images(tmp_path / name)
        assert [len(split) for split in (data.train, data.validation, data.test)] == [44, 4, 12]
        assert data.labels["test"].tolist() == y[48:].tolist()
        pairs = {x.numpy().tobytes(): int(label) for x, label in zip(data.train, data.labels["train"], strict=True)}
        images = SMALL.transpose(0, 3, 1, 2)
        truth = {image.tobytes(): int(label) for image, label in zip(images, y, strict=True)}
        assert all(truth[x] == label for x, label in pairs.items())

    planes = np.random.RandomState(1).randint(0, 256, (30, 3, 32, 32)).astype(np.uint8)
    flat = planes.reshape(30, 3072)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number in range(2):
        part = slice(10 * number, 10 * number + 10)
        batch = {b"batch_label": b"training batch", b"labels": y[part].tolist(), b"data": flat[part]}
        batch |= {b"filenames": [b"leptodactylus.png"] * 10}
        (folder / f"data_batch_{number + 1}").write_bytes(pickle.dumps(batch, 2))
    (folder / "test_batch").write_bytes(pickle.dumps({b"labels": y[20:30].tolist(), b"data": flat[20:]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"frog"]}))
    data = load_images(folder)
    assert (data.shape, data.levels) == ((3, 32, 32), 256)
    assert rows(data.test) == sorted(x.tobytes() for x in planes[20:])
    assert rows(data.train, data.validation) == sorted(x.tobytes() for x in planes[:20])
    assert data.labels["test"].tolist() == y[20:30].tolist()
    assert sorted(torch.cat([data.labels["train"], data.labels["validation"]]).tolist()) == sorted(y[:20].tolist())
    assert "Left out: batch_label, batches.meta, filenames." in data.notes

    image_net = {"data": flat, "labels": (y[:30] + 1).tolist(), "mean": flat.mean(0)}
    (tmp_path / "train_data_batch_1").write_bytes(pickle.dumps(image_net))
    data = load_images(tmp_path / "train_data_batch_1")
    assert rows(data.train, data.validation, data.test) == sorted(x.tobytes() for x in planes)
    assert "Left out: mean." in data.notes


def test_two_sets_of_images_for_one_split_are_refused(tmp_path) -> None:
    np.savez(tmp_path / "two.npz", train=COLOR, x_train=COLOR)
    with pytest.raises(DataError, match=r"two sets of train images \(train, x_train\)"):
        load_images(tmp_path / "two.npz")


def test_one_picture_is_no_set_of_lines(tmp_path) -> None:
    """(16, 16, 3) may be one picture in colour, or 16 gray ones of 3×16: nobody guesses."""
    np.save(tmp_path / "one.npy", np.arange(768, dtype=np.int64).reshape(16, 16, 3) % 256)
    with pytest.raises(DataError, match=r"make it \(1, 16, 16, 3\) or \(16, 16, 3, 1\)"):
        load_images(tmp_path / "one.npy")
    np.save(tmp_path / "four.npy", COLOR[..., 0])
    assert any("make it (1, 60, 5, 4)" in note for note in load_images(tmp_path / "four.npy").notes)
