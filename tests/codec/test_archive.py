"""Files in, the same files out; nothing half-written, nothing outside of the folder."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from chainrule import data
from chainrule.codec import (
    compress,
    compress_files,
    container,
    decompress,
    decompress_file,
    event_coding,
    info,
    picture_chunks,
)
from chainrule.codec.container import Writer
from chainrule.codec.members import Pictures
from chainrule.codec.model_blocks import Packing
from chainrule.codec.picture_files import PictureFile
from chainrule.codec.sinks import Folder
from chainrule.codec.values import stored_values, to_levels
from chainrule.data.idx import to_idx
from chainrule.errors import ChainruleError, CodecError, DataError, ModelError
from chainrule.fixedpoint import exact
from chainrule.models import MADE, PixelCNN, PixelCNNMADE
from chainrule.zoo import load


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return exact(PixelCNNMADE((3, 4, 5), 4, 6, 1))


def pictures(n, shape=(4, 5, 3), levels=4, seed=0):
    return np.random.default_rng(seed).integers(0, levels, (n, *shape), dtype=np.uint8) * (255 // (levels - 1))


def everything_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_pictures_and_folders(model, tmp_path):
    source = tmp_path / "source"
    (source / "b" / "c").mkdir(parents=True)
    names = ["1.png", "2.bmp", "b/3.webp", "b/c/4.tiff", "b/5.gif"]
    given = pictures(5)
    for name, pixels_ in zip(names, given, strict=True):
        Image.fromarray(pixels_).save(source / name, lossless=True)
    (source / "notes.txt").write_text("no picture")
    (source / ".hidden.png").write_bytes(b"")
    seen = []
    result = compress_files(
        source, model, tmp_path / "a.crz", verify=True, chunk=2, progress=lambda *now: seen.append(now)
    )
    assert result["images"] == 5
    assert result["bytes"] == (tmp_path / "a.crz").stat().st_size
    assert seen == [(2, 5), (4, 5), (5, 5)] * 2  # packed, and unpacked again
    written = decompress_file(tmp_path / "a.crz", tmp_path / "back", model)
    expected = ["1.png", "2.bmp", "b/3.webp", "b/5.gif", "b/c/4.tiff"]
    assert sorted(path.relative_to(tmp_path / "back").as_posix() for path in written) == expected
    for name in names:
        with Image.open(tmp_path / "back" / name) as image, Image.open(source / name) as before:
            assert (image.mode, image.format) == (before.mode, before.format)
            assert np.array_equal(np.array(image), np.array(before))
    assert everything_below(tmp_path / "back") == sorted([*expected, "b", "b/c"])
    assert info(tmp_path / "a.crz")["files"] == expected


def test_arrays_of_all_kinds_at_once(model, tmp_path):
    """Levels and scaled bytes, an .npz with two keys, single pictures, an empty array: one archive, many chunks."""
    first, second, third = pictures(7), pictures(3, seed=1) // 85, pictures(4, seed=2).astype(np.int32)
    np.save(tmp_path / "first.npy", first)
    np.savez_compressed(tmp_path / "more.npz", train=second, test=third, none=third[:0])
    Image.fromarray(first[0]).save(tmp_path / "one.png")
    given = [tmp_path / "more.npz", tmp_path / "first.npy", tmp_path / "one.png"]
    compress_files(given, model, tmp_path / "a.crz", embed_model=True, chunk=3)
    decompress_file(tmp_path / "a.crz", tmp_path / "new" / "back")
    back = tmp_path / "new" / "back"
    assert np.array_equal(np.load(back / "first.npy"), first)
    with np.load(back / "more.npz") as archive:
        assert sorted(archive.files) == ["none", "test", "train"]
        assert np.array_equal(archive["train"], second)
        assert np.array_equal(archive["test"], third)
        assert archive["test"].dtype == np.int32
        assert archive["none"].shape == (0, 4, 5, 3)
    assert everything_below(back) == ["first.npy", "more.npz", "one.png"]
    assert everything_below(back.parent) == ["back", "back/first.npy", "back/more.npz", "back/one.png"]


def test_a_file_of_one_array_is_what_compress_gives(model, tmp_path):
    array = pictures(5)
    np.save(tmp_path / "x.npy", array)
    compress_files(tmp_path / "x.npy", model, tmp_path / "a.crz")
    assert np.array_equal(decompress(model, (tmp_path / "a.crz").read_bytes()), array)
    (tmp_path / "b.crz").write_bytes(compress(model, array))
    assert decompress_file(tmp_path / "b.crz", tmp_path / "back", model) == [tmp_path / "back" / "images.npy"]
    assert np.array_equal(np.load(tmp_path / "back" / "images.npy"), array)


def test_a_dataset_by_name(tmp_path, monkeypatch):
    made = exact(MADE((1,), 100, (8,)))
    compress_files("warmup", made, tmp_path / "a.crz")
    decompress_file(tmp_path / "a.crz", tmp_path, made)
    assert np.array_equal(np.load(tmp_path / "warmup-test.npy"), data.warmup().test.numpy())


def test_standard_input_and_output(model, tmp_path, monkeypatch):
    array, packed = pictures(5), io.BytesIO()
    np.save(packed, array)
    archive, back = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(packed.getvalue())))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=archive))
    compress_files("-", model, "-")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(archive.getvalue())))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=back))
    assert decompress_file("-", "-", model) == []
    assert np.array_equal(np.load(io.BytesIO(back.getvalue())), array)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"no array")))
    with pytest.raises(DataError, match="standard input"):
        compress_files("-", model, tmp_path / "a.crz")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: (f / "x.png").write_bytes(b"\x89PNG"), "decode"),
        (lambda f: (f / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n"), "decode"),
        (lambda f: (f / "x.npy").write_bytes(b"\x93NUMPY\x01"), "damaged|holds no pictures"),
        (lambda f: (f / "x.txt").write_text("x"), "no pictures"),
    ],
)
def test_what_cannot_be_packed_leaves_nothing_behind(model, tmp_path, make, said):
    (tmp_path / "source").mkdir()
    make(tmp_path / "source")
    with pytest.raises(DataError, match=said):
        compress_files(tmp_path / "source", model, tmp_path / "out" / "a.crz")
    assert not (tmp_path / "out").exists() or everything_below(tmp_path / "out") == []


@pytest.mark.parametrize(
    "image", [pictures(1, (5, 4, 3))[0], pictures(1)[0][..., 0], pictures(1)[0] | 1], ids=["size", "gray", "values"]
)
def test_what_does_not_suit_the_model_is_packed_without_it(model, tmp_path, image):
    """And it is said."""
    Image.fromarray(image).save(tmp_path / "x.png")
    np.save(tmp_path / "x.npy", image[None])
    figures = compress_files([tmp_path / "x.png", tmp_path / "x.npy"], model, tmp_path / "a.crz", verify=True)
    assert figures["models"] == []
    assert any("coded none of the pictures" in note for note in figures["notes"])
    assert any("x.npy was packed without a model" in note for note in figures["notes"])
    decompress_file(tmp_path / "a.crz", tmp_path / "back")  # nor is it needed any more
    assert np.array_equal(np.load(tmp_path / "back" / "x.npy")[0], image)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "back" / "x.png")), image)


def test_other_sources_are_refused(model, tmp_path):
    (tmp_path / "x.txt").write_text("x")
    (tmp_path / "x.npz").write_bytes(b"PK\3\4")
    np.save(tmp_path / "float.npy", np.zeros((2, 4, 5, 3)))
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    for name in ("x.txt", "missing.png", "missing", "x.npz", "object.npy"):
        with pytest.raises(DataError):
            compress_files(tmp_path / name, model, tmp_path / "a.crz")
    image = pictures(1)[0]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(image).save(tmp_path / folder / "1.png")
    with pytest.raises(DataError, match=r"'1\.png' is there twice"):
        compress_files([tmp_path / "a" / "1.png", tmp_path / "b" / "1.png"], model, tmp_path / "a.crz")
    compress_files([tmp_path / "a", tmp_path / "b"], model, tmp_path / "a.crz")
    assert info(tmp_path / "a.crz")["files"] == ["a/1.png", "b/1.png"]
    compress_files([tmp_path / "float.npy", tmp_path / "b"], MADE((2,), 4), tmp_path / "b.crz", verify=True)
    decompress_file(tmp_path / "b.crz", tmp_path / "back")
    assert everything_below(tmp_path / "back") == ["b", "b/1.png", "float.npy"]


def test_every_picture_keeps_its_name_and_its_format(model, tmp_path):
    """Whatever its suffix says, a file comes back as what it is."""
    given, names = pictures(5), ["1.gif", "1.png", "2.GIF", "1.jpg.gif", "3.jpg"]
    formats = ["GIF", "PNG", "PNG", "BMP", "JPEG"]
    for name, image, form in zip(names, given, formats, strict=True):
        Image.fromarray(image).save(tmp_path / name, format=form)
    compress_files([tmp_path / name for name in names], model, tmp_path / "a.crz", verify=True)
    decompress_file(tmp_path / "a.crz", tmp_path / "back", model)
    assert everything_below(tmp_path / "back") == sorted(names)
    for name, form in zip(names, formats, strict=True):
        with Image.open(tmp_path / "back" / name) as image, Image.open(tmp_path / name) as before:
            assert image.format == form
            assert np.array_equal(np.array(image), np.array(before))
    assert (tmp_path / "back" / "3.jpg").read_bytes() == (tmp_path / "3.jpg").read_bytes()


def archive_of(names, path):
    """An archive of one picture a name, sound but for its names."""
    with path.open("wb") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "unpack_header", lambda packed: None)  # which the writer would refuse to write
        writer = Writer(file, [Pictures(names)])
        items = [picture_chunks.prepared(PictureFile(b"x"), []) for _ in names]
        writer.chunk(*picture_chunks.encode_pictures(items, Packing([], writer, embed=False, named=False)))
        writer.end()


@pytest.mark.parametrize(
    "names",
    [
        ["x.png", "X.png"],
        ["a/x.png", "A/y.png"],
        ["\u00e9.png", "e\u0301.png"],
        ["\u212a.png", "k.png"],
        ["nul"],
        ["a/COM1.tar.png"],
        ["lpt\u00b2.png"],
        ["/".join("a" * 1000)],
        ["\u3042" * 86],
        ["a\x9b31m.png"],
        ["../x.png"],
        ["a/../../x.png"],
        ["/x.png"],
        ["C:x.png"],
        ["C:/x.png"],
        ["\\x.png"],
        ["a\\..\\x.png"],
        ["."],
        [""],
        ["a//x.png"],
        ["./x.png"],
        ["x.png", "x.png"],
        ["a", "a/x.png"],
        ["a\0.png"],
        ["a\n.png"],
        ["x.png "],
        ["x."],
        [7],
        [None],
        ["x" * 5000],
        ["\ud800.png"],
    ],
)
def test_names_that_lead_elsewhere_are_refused(model, tmp_path, names):
    archive_of(names, tmp_path / "a.crz")
    for action in (
        lambda: decompress_file(tmp_path / "a.crz", tmp_path / "in" / "back", model),
        lambda: info(tmp_path / "a.crz"),
    ):
        with pytest.raises(CodecError):
            action()
    assert everything_below(tmp_path) == ["a.crz"]


def test_damage_leaves_nothing_behind(model, tmp_path):
    np.save(tmp_path / "x.npy", pictures(40))
    compress_files(tmp_path / "x.npy", model, tmp_path / "a.crz", chunk=10)
    blob = bytearray((tmp_path / "a.crz").read_bytes())
    blob[-60] ^= 1
    (tmp_path / "bad.crz").write_bytes(blob)
    (tmp_path / "back").mkdir()
    for name in ("bad.crz", "missing.crz", "back"):
        with pytest.raises(ChainruleError):
            decompress_file(tmp_path / name, tmp_path / "back", model)
    assert everything_below(tmp_path) == ["a.crz", "back", "bad.crz", "x.npy"]


def test_files_in_the_way_are_kept(model, tmp_path):
    np.save(tmp_path / "x.npy", pictures(3))
    compress_files(tmp_path / "x.npy", model, tmp_path / "a.crz")
    before = (tmp_path / "x.npy").read_bytes()
    with pytest.raises(DataError, match="there already"):
        decompress_file(tmp_path / "a.crz", tmp_path, model)
    (tmp_path / "x.npy").write_bytes(b"old")
    decompress_file(tmp_path / "a.crz", tmp_path, model, overwrite=True)
    assert (tmp_path / "x.npy").read_bytes() == before
    assert everything_below(tmp_path) == ["a.crz", "x.npy"]


def test_a_stop_in_the_middle_leaves_nothing_behind(model, tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", pictures(20))

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress_files(tmp_path / "x.npy", model, tmp_path / "a.crz", chunk=5, progress=stop)
    assert everything_below(tmp_path) == ["x.npy"]
    compress_files(tmp_path / "x.npy", model, tmp_path / "a.crz", chunk=5)
    with pytest.raises(KeyboardInterrupt):
        decompress_file(tmp_path / "a.crz", tmp_path / "back", model, progress=stop)

    def full(self, chunk, found):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "add", full)
    with pytest.raises(DataError, match="No space"):
        decompress_file(tmp_path / "a.crz", tmp_path / "back", model)
    assert everything_below(tmp_path) == ["a.crz", "x.npy"]


def test_verify_finds_an_encoder_that_errs(model, tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", pictures(5))

    real = event_coding.encode
    monkeypatch.setattr(event_coding, "encode", lambda parts: real([((s + 1) % 4, *rest) for s, *rest in parts]))
    with pytest.raises(CodecError, match="damaged"):
        compress_files(tmp_path / "x.npy", model, tmp_path / "a.crz", verify=True)
    assert everything_below(tmp_path) == ["x.npy"]


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 16, 255, 256])
def test_every_level_has_a_value_of_its_own(levels):
    stored = stored_values("scaled", levels)
    assert len(set(stored.tolist())) == levels
    assert to_levels(stored.astype(np.uint8), "scaled", levels).tolist() == list(range(levels))


def test_gray_pictures(tmp_path):
    torch.manual_seed(0)
    gray = exact(PixelCNN((1, 4, 5), 256, 6, 1))
    given = pictures(3, (4, 5), 256)
    (tmp_path / "source").mkdir()
    for number, image in enumerate(given):
        Image.fromarray(image).save(tmp_path / "source" / f"{number}.png")
    compress_files(tmp_path / "source", gray, tmp_path / "a.crz")
    for number, path in enumerate(decompress_file(tmp_path / "a.crz", tmp_path / "back", gray)):
        assert np.array_equal(np.array(Image.open(path)), given[number])


@pytest.mark.parametrize("kind", ["idx", "idx.gz", "pkl", "pkl.gz"])
def test_idx_files_and_pickles(tmp_path, kind):
    """They come back as .npy and .npz, every array of them, of the same type."""
    gray = PixelCNN((1, 4, 5), 4, 6, 1)
    arrays = {"train": pictures(5, (4, 5)), "test": pictures(3, (4, 5), seed=1).astype(np.int32)}
    path = tmp_path / f"mine.{kind}"
    content = to_idx(arrays["train"]) if kind.startswith("idx") else pickle.dumps(arrays)
    path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    compress_files(path, gray, tmp_path / "a.crz")
    (written,) = decompress_file(tmp_path / "a.crz", tmp_path / "back", gray)
    if kind.startswith("idx"):
        assert written.name == f"mine.{kind}.npy"
        found = {"train": np.load(written)}
    else:
        assert written.name == f"mine.{kind}.npz"
        with np.load(written) as archive:
            found = {name: archive[name] for name in archive.files}
        assert found.keys() == arrays.keys()
    for name, array in found.items():
        assert array.dtype == arrays[name].dtype
        assert (array == arrays[name]).all()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([1, 2], "holds a list"),
        ({"train": pictures(2, (4, 5)), "more": {"a": 1}}, "holds object values"),
        (print, "asks for builtins.print"),
    ],
)
def test_pickles_that_cannot_be_packed(tmp_path, value, sentence):
    """Nothing of a pickle is left out without a word, and nothing of it is run."""
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(DataError, match=sentence):
        compress_files(tmp_path / "x.pkl", PixelCNN((1, 4, 5), 4, 6, 1), tmp_path / "a.crz")
    assert not (tmp_path / "a.crz").exists()


def test_an_array_of_pixel_values(tmp_path):
    """A model's own pixel values, in memory and in files, beside plain levels; the model keeps them when saved."""
    gray = PixelCNN((1, 4, 5), 3, 6, 1)
    gray.pixel_values = (0, 128, 255)
    gray.save_pretrained(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert exact(loaded).pixel_values == loaded.pixel_values == (0, 128, 255)
    levels = np.random.default_rng(0).integers(0, 3, (6, 4, 5), dtype=np.uint8)
    for array in (levels, np.array([0, 128, 255], np.int16)[levels], np.array([0, 127, 255], np.uint8)[levels]):
        back = decompress(loaded, compress(loaded, array))
        assert back.dtype == array.dtype
        assert (back == array).all()
    with pytest.raises(DataError, match=r"its pixel values \(0, 128, 255\)"):
        compress(loaded, np.array([0, 129, 255], np.uint8)[levels])
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "pixel_values": [0, 128]}))
    with pytest.raises(ModelError, match="does not describe a PixelCNN: the pixel values"):
        load(tmp_path / "model")


def test_the_folder_of_a_set_of_arrays(tmp_path, model):
    """CIFAR-10's as it is unpacked: training takes it, and so do archives; each batch comes back with its labels."""
    folder, rows = tmp_path / "cifar-10-batches-py", np.random.RandomState(0).randint(0, 256, (8, 3072))
    folder.mkdir()
    for k, name in enumerate(["data_batch_1", "data_batch_2", "test_batch"]):
        batch = {b"labels": [k] * 8, b"data": rows.astype(np.uint8) ^ k, b"filenames": [b"a.png"] * 8}
        (folder / name).write_bytes(pickle.dumps(batch, 2))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"frog"]}))
    figures = compress_files(folder, model, tmp_path / "a.crz", verify=True)
    assert "batches.meta" in figures["notes"][0]
    written = decompress_file(tmp_path / "a.crz", tmp_path / "back", model)
    found = {path.name: dict(np.load(path)) for path in written}
    for k in range(3):
        box = found[["data_batch_1.npz", "data_batch_2.npz", "test_batch.npz"][k]]
        assert np.array_equal(np.sort(box["data"].reshape(-1)), np.sort(rows.reshape(-1) ^ k))
        assert box["labels"].tolist() == [k] * 8
