"""Arrays in memory: every shape and type comes back, coded by whatever makes it small; what is no array is refused."""

from __future__ import annotations

from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image

import chainrule as cr
from chainrule.codec import arrays_in, info
from chainrule.codec.model_blocks import usual_models
from chainrule.errors import ChainruleError, CodecError, DataError
from chainrule.models import PixelCNN, PixelCNNMADE

RAND = np.random.RandomState(0)


@pytest.fixture(scope="module")
def photo():
    return np.asarray(Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")).convert("RGB"))[100:196, :128]


def drawing(n=1):
    found = np.zeros((n, 40, 40, 3), np.uint8)
    found[:, 8:20, 5:30], found[:, 30:35] = (200, 30, 30), (0, 0, 255)
    return found


def noise(*shape):
    return RAND.randint(0, 256, shape).astype(np.uint8)


def coders(blob, folder):
    (folder / "a.crz").write_bytes(blob)
    return set(info(folder / "a.crz")["coders"])


def comes_back(array, *model):
    blob = cr.compress(*model, array)
    back = cr.decompress(*model, blob)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    return blob


def test_an_array_takes_about_what_a_list_of_its_pictures_takes(photo, tmp_path):
    """Photographs go to a model, drawings and noise do not, unless a model was named for them."""
    photos = np.stack([photo[i : i + 32, j : j + 32] for i in range(0, 96, 32) for j in range(0, 128, 32)])
    for array, by_model in ((photos, True), (drawing(6), False), (noise(6, 24, 24, 3), False)):
        blob = comes_back(array)
        assert len(blob) <= 1.01 * len(cr.compress(list(array))) + 64
        assert any("Logistic" in name for name in coders(blob, tmp_path)) == by_model
    assert len(comes_back(noise(6, 24, 24, 3))) < 6 * 24 * 24 * 3 + 200


def test_wider_integers_go_to_a_model_where_that_is_smaller(photo, tmp_path):
    wide = photo[None, :48, :48].astype("<i8")
    blob = comes_back(wide)
    assert any("Logistic" in name for name in coders(blob, tmp_path))
    assert coders(comes_back(drawing(3).astype("<i4")), tmp_path) == {"as they are"}


@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
def test_one_picture_needs_no_list(photo, channels):
    """(H, W, C) and (H, W) are one picture, not H of them, and take what it takes alone in a list."""
    picture = np.concatenate([photo, photo[..., :1]], -1)[:48]
    array = picture[..., 0] if not channels else picture[..., :channels]
    assert len(comes_back(array)) <= len(cr.compress([array])) + 32
    for odd in (array[:1, :1], array[:, :1], array[::-1, ::-2]):
        comes_back(odd)


def test_tables_and_tiny_pictures_take_no_longer_than_they_need(tmp_path):
    """Labels, features and patches are no pictures: xz has them, or a model all together."""
    for array in (noise(4000, 1) % 10, noise(3000, 7), noise(500, 2, 5), noise(400, 8, 8)):
        assert coders(comes_back(array), tmp_path) == {"as they are"}
    smooth = (np.add.outer(np.arange(300), np.add.outer(np.arange(12), 2 * np.arange(12))) % 256).astype(np.uint8)
    comes_back(smooth + noise(300, 12, 12) % 4)


def test_signed_bytes(tmp_path):
    """They hold no level above 127, and come back all the same."""
    assert coders(comes_back((noise(3, 8, 8) % 100).astype("i1")), tmp_path) == {"as they are"}
    with pytest.raises(DataError, match="convert it to uint8"):
        cr.compress(PixelCNN((1, 8, 8), 256, 6, 1), np.zeros((3, 8, 8), "i1"))


def test_a_trial_looks_at_a_part_of_large_pictures(monkeypatch):
    seen = []
    real = arrays_in.lzma.compress
    monkeypatch.setattr(arrays_in.lzma, "compress", lambda raw, **k: seen.append(len(raw)) or real(raw, **k))
    monkeypatch.setattr(arrays_in, "TRIED_SIDE", 16)
    for array in (noise(1, 90, 60, 3), noise(90, 60, 3), noise(90, 60), noise(2, 90, 60)):
        assert not arrays_in.kept_is_smaller(array, arrays_in.pixels_member(array), [])
    assert max(seen) <= 2 * 16 * 16 * 3


def test_xz_is_compared_with_models_too(photo, monkeypatch):
    """Where usual codecs make more of some pictures than xz does, a model may still make less."""
    monkeypatch.setattr(arrays_in, "of_raster", lambda raster: (0, bytes(2**20)))
    photos, member = photo[None, :48, :48], arrays_in.pixels_member(photo[None, :48, :48])
    assert arrays_in.kept_is_smaller(photos, member, [])
    assert not arrays_in.kept_is_smaller(photos, member, usual_models())
    assert arrays_in.kept_is_smaller(drawing(9), arrays_in.pixels_member(drawing(9)), usual_models())


@pytest.mark.parametrize("array", [noise(30, 2), noise(5, 1), noise(7), noise(2, 3, 4, 5, 6), noise(3, 4, 5, 9)])
def test_other_shapes_of_bytes(array):
    comes_back(array)


@pytest.mark.parametrize("wrong", ["a.png", b"ab\0\0", bytearray(b"ab"), memoryview(b"ab"), Path("a.png")])
def test_what_is_no_array_is_refused(wrong):
    """A file's name is no picture, and NumPy would drop the zeros at the end of bytes."""
    with pytest.raises(DataError, match="compress_files"):
        cr.compress(wrong)


def test_levels_in_a_list_are_refused():
    """Only an array can hold a model's levels: a list holds pixels, and the model would code none of it."""
    torch.manual_seed(0)
    model = PixelCNNMADE((3, 5, 4), 4, 6, 1)
    levels = RAND.randint(0, 4, (3, 5, 4, 3)).astype(np.uint8)
    with pytest.raises(DataError, match=r"levels from 0 to 3.*0, 85, 170, 255.*one array"):
        cr.compress(model, list(levels))
    comes_back(levels, model)
    dark = [noise(5, 4, 3) % 100 for _ in range(3)]
    many = PixelCNN((3, 5, 4), 128, 6, 1)
    assert all(np.array_equal(a, b) for a, b in zip(cr.decompress(many, cr.compress(many, dark)), dark, strict=True))
    cr.compress([model, PixelCNNMADE((3, 5, 4), 256, 6, 1)], list(levels))
    for pictures in (list(levels * 85), [np.zeros((5, 4, 3), np.uint8)], [levels[0] + 100], [*levels, noise(2, 2)]):
        back = cr.decompress(model, cr.compress(model, pictures))
        assert all(np.array_equal(a, b) for a, b in zip(back, pictures, strict=True))


def test_one_event_without_its_axis_is_told_what_to_do():
    for model in (PixelCNN((1, 5, 4), 4, 6, 1), PixelCNN((3, 5, 4), 4, 6, 1), PixelCNN((3, None, None), 4, 6, 1)):
        with pytest.raises(DataError, match=r"this model takes \(N, .*array\[None\]"):
            cr.compress(model, np.zeros((5, 4, model.shape[0]), np.uint8)[..., : model.shape[0]])


def test_names_of_models_are_not_models():
    """They are loaded first; ragged rows are no picture."""
    x = drawing()
    for call in (lambda: cr.compress(x, "photo"), lambda: cr.decompress(cr.compress(x), "photo")):
        with pytest.raises(ChainruleError, match=r"load it first, by cr.load"):
            call()
    with pytest.raises(DataError, match="unequal length"):
        cr.compress([[[1], [2, 3]]])


@pytest.mark.parametrize("wrong", ["a.crz", Path("a.crz"), None, 3])
def test_what_is_no_archive_is_refused(wrong):
    for given in ((wrong,), (wrong, PixelCNN((1, 5, 4), 4, 6, 1))):
        with pytest.raises(CodecError, match=r"archive's bytes, not a .*decompress_file"):
            cr.decompress(*given)
