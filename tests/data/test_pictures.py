"""The border between pictures and events: what is written is read back exactly."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from chainrule.data import read_image, read_pixels, save_grid, to_nchw, to_nhwc, write_image
from chainrule.data.levels import grid_of, quantise
from chainrule.data.pictures import LOSSLESS
from chainrule.errors import DataError


@given(levels=st.integers(2, 256), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_levels_on_the_grid_come_back(levels: int, seed: int) -> None:
    values = np.random.RandomState(seed).randint(0, levels, (7, 5)).astype(np.uint8)
    found, exact = quantise(grid_of(levels)[values], levels)
    assert exact
    np.testing.assert_array_equal(found, values)


@given(levels=st.integers(2, 255))
@settings(deadline=None, max_examples=60)
def test_other_bytes_are_quantised(levels: int) -> None:
    every = np.arange(256, dtype=np.uint8)
    found, exact = quantise(every, levels)
    assert not exact
    np.testing.assert_array_equal(found, np.arange(256) * levels // 256)
    assert set(found.tolist()) == set(range(levels))


@pytest.mark.parametrize("suffix", [*LOSSLESS, ".PNG"])
@pytest.mark.parametrize("levels", [2, 4, 7, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_back(tmp_path, suffix: str, levels: int, channels: int) -> None:
    x = torch.from_numpy(np.random.RandomState(0).randint(0, levels, (channels, 9, 6)).astype(np.uint8))
    x[:, 0, 0] = levels - 1
    path = tmp_path / f"x{suffix}"
    write_image(x, levels, path)
    found = read_image(path, levels, (channels, 9, 6))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, x.numpy())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_channels_of_a_read_picture(tmp_path) -> None:
    gray = np.random.RandomState(0).randint(0, 256, (4, 3)).astype(np.uint8)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png", 256, (3, 4, 3)), np.stack([gray] * 3))
    color = np.stack([gray] * 3, axis=2)
    Image.fromarray(color).save(tmp_path / "color.png")
    np.testing.assert_array_equal(read_image(tmp_path / "color.png", 256, (1, 4, 3)), gray[None])
    color[0, 0] = 1, 2, 3
    Image.fromarray(color).save(tmp_path / "color.png")
    with pytest.raises(DataError, match="is in colour"):
        read_image(tmp_path / "color.png", 256, (1, 4, 3))
    with pytest.raises(DataError, match="is 3×4 pixels: the model takes 4×3"):
        read_image(tmp_path / "color.png", 256, (3, 3, 4))
    with pytest.raises(DataError, match="are no pictures"):
        read_image(tmp_path / "color.png", 256, (2,))
    with pytest.raises(DataError, match="there is no"):
        read_image(tmp_path / "nothing.png", 256, (3, 3, 4))


def test_a_picture_is_upright(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_pixels(tmp_path / "x.png").pixels[..., 0], np.rot90(pixels, -1))


def test_transparency_by_key_and_gray_alpha(tmp_path) -> None:
    gray = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(gray).save(tmp_path / "key.png", transparency=0)  # a key that no pixel has
    found = read_pixels(tmp_path / "key.png")
    assert found.opaque_alpha
    np.testing.assert_array_equal(found.pixels[..., 0], gray)
    Image.fromarray(gray).save(tmp_path / "key.png", transparency=5)
    with pytest.raises(DataError, match="partly transparent"):
        read_pixels(tmp_path / "key.png")
    Image.fromarray(np.stack([gray, np.full_like(gray, 255)], 2), "LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_pixels(tmp_path / "la.png").pixels[..., 0], gray)


def test_what_cannot_be_written_is_refused(tmp_path) -> None:
    x = np.zeros((3, 4, 5), np.uint8)
    for values, levels, path, sentence in (
        (x + 4, 4, "x.png", "values from 4 to 4"),
        (x.astype(float), 4, "x.png", "must be integers"),
        (x[:2], 4, "x.png", "are no pictures"),
        (x, 300, "x.png", "choose from 2 to 256"),
        (x, 4, "x.jpg", "lossless picture format"),
        (x, 4, "x", "lossless picture format"),
    ):
        with pytest.raises(DataError, match=sentence):
            write_image(values, levels, tmp_path / path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_image(x, 4, tmp_path / "file" / "x.png")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_grid(tmp_path) -> None:
    x = torch.arange(12).reshape(12, 1, 1, 1).expand(12, 3, 2, 3) % 4
    save_grid(x, 4, tmp_path / "new" / "grid.png", columns=5, scale=2, gap=1)
    sheet = np.asarray(Image.open(tmp_path / "new" / "grid.png"))
    assert sheet.shape == (3 * 5 - 1, 5 * 7 - 1, 3)
    assert (sheet[5:9, 7:13] == 6 % 4 * 85).all()
    assert (sheet[10:, 15:] == 128).all()
    with pytest.raises(DataError, match="cannot be drawn"):
        save_grid(x[:0], 4, tmp_path / "grid.png")


def test_the_order_of_axes() -> None:
    images = np.random.RandomState(0).randint(0, 256, (5, 4, 3, 2)).astype(np.uint8)
    images.setflags(write=False)
    x = to_nchw(images)
    assert x.is_contiguous()
    assert x[1, 0, 2, 1] == images[1, 2, 1, 0]
    np.testing.assert_array_equal(to_nhwc(x), images)
    assert to_nchw(images[..., 0]).shape == (5, 1, 4, 3)
    for bad in (lambda: to_nchw(images[0, 0]), lambda: to_nhwc(x[0])):
        with pytest.raises(DataError, match=r"w(ere|as) given"):
            bad()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_key_of_a_shallow_png_hides(tmp_path, depth: int) -> None:
    """The key is one of the file's own values, not of the bytes that they are spread to; one that none has is none."""
    levels = 2**depth
    row = [v % min(levels, 8) for v in range(8)]
    packed = int("".join(format(v, f"0{depth}b") for v in row), 2).to_bytes(depth, "big")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for key in range(min(levels, 8) + (depth > 2)):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 1, depth, 0, 0, 0, 0)) + chunk(b"tRNS", struct.pack(">H", key))
        body = chunk(b"IDAT", zlib.compress(b"\0" + packed)) + chunk(b"IEND", b"")
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
        if key in row:
            with pytest.raises(DataError, match="partly transparent"):
                read_pixels(tmp_path / "x.png")
        else:
            found = read_pixels(tmp_path / "x.png").pixels[0, :, 0].tolist()
            assert found == [v * 255 // (levels - 1) for v in row]
