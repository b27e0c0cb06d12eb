"""Pictures of every size and kind come back as they were, in no more than PNG's bytes and 64."""

from __future__ import annotations

import functools
import io
import os
import resource
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import chainrule as cr
from chainrule.cli import main
from chainrule.codec import compress_files, decompress_file, info, model_blocks, picture_coding, picture_table, raster
from chainrule.codec.container import Reader, Writer
from chainrule.codec.members import Loose
from chainrule.codec.model_blocks import Packing, Unpacking
from chainrule.codec.picture_chunks import decode_pictures, encode_pictures, prepared
from chainrule.codec.picture_coding import DEFLATED, INTERLACED, MODEL, PLAIN, ROWS, WEBP, fallback
from chainrule.codec.picture_files import ARRAY_WITH_AXIS, PNG, PictureFile, read_file
from chainrule.codec.raster import GRAY, GRAY_ALPHA, INDEX, RGB, RGBA, Raster
from chainrule.errors import CodecError, DataError
from chainrule.fixedpoint import exact
from chainrule.models import PixelCNN, PixelCNNMADE
from codec import generator

RAND = np.random.RandomState(0)


def noise(height, width, channels, top=256):
    return RAND.randint(0, top, (height, width, channels)).astype(np.uint8)


def chunk_of(files, models=()):
    """Pictures to a chunk and back: the archive's reader, the chunk's parts, and what came out."""
    stream = io.BytesIO()
    writer = Writer(stream, [Loose(len(files))])
    chunk = encode_pictures(
        [prepared(file, models) for file in files], Packing(models, writer, embed=False, named=True)
    )
    writer.chunk(*chunk)
    writer.end()
    stream.seek(0)
    reader = Reader(stream)
    found = reader.next()
    return reader, chunk, decode_pictures(found.payload, found.count, found.digest, Unpacking(reader, models))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of 150 pictures, their archive, and the figures of packing it."""
    folder, archive = tmp_path_factory.mktemp("many"), tmp_path_factory.mktemp("packed") / "a.crz"
    paths = list(generator.make(folder, 150, 3, (200, 150)))
    return folder, paths, archive, compress_files(folder, None, archive, verify=True)


@pytest.fixture
def probed_once(monkeypatch):
    """The probe of one model is the same every time."""
    monkeypatch.setattr(model_blocks, "probe", functools.cache(model_blocks.probe))


def test_pictures_of_all_kinds_come_back(many, tmp_path):
    folder, paths, archive, figures = many
    written = decompress_file(archive, tmp_path / "back")
    assert {path.relative_to(tmp_path / "back") for path in written} == {path.relative_to(folder) for path in paths}
    kinds = set()
    for path in paths:
        back = tmp_path / "back" / path.relative_to(folder)
        assert read_file(back).same(read_file(path))
        with Image.open(back) as image, Image.open(path) as before:  # as Pillow sees it, too
            assert (image.mode, image.format, image.size) == (before.mode, before.format, before.size)
            assert image.info.get("transparency") == before.info.get("transparency")
            assert image.getpalette() == before.getpalette()
            assert image.tobytes() == before.tobytes()
            kinds.add((before.mode, before.format, "transparency" in before.info))
    assert len(kinds) > 14
    shown = info(archive)
    assert shown["coders"] == figures["coders"]
    assert {"PNG", "WebP", "samples", "file"} <= set(shown["coders"])
    assert sum(row["count"] for row in shown["coders"].values()) == len(paths)


def test_no_archive_takes_more_than_png_and_64_bytes(many, tmp_path, probed_once):
    """Not even one of a single pixel."""
    _, paths, _, figures = many
    Image.fromarray(noise(1, 1, 3)).save(tmp_path / "p.png")
    pngs = [path for path in paths if path.read_bytes().startswith(raster.SIGNATURE)][:40]
    for path in [tmp_path / "p.png", *pngs]:
        size = compress_files(path, None, tmp_path / "a.crz", overwrite=True)["bytes"]
        assert size <= path.stat().st_size + 40 + len(path.name.encode())
    assert figures["bytes"] <= sum(path.stat().st_size + 64 for path in paths)


@pytest.mark.parametrize(
    "letters", ["qwertyuiopasdfghjklzxcvbnm", "日月火水木金土曜年東京大阪", "éüßøåñçâêîôû", "🌀🌁🌂🌃🌄🌅"]
)
def test_a_long_name_takes_its_bytes(letters, tmp_path, probed_once):
    """And nothing beyond: PNG's bytes and 64, where the name has no more than 24."""
    for most in (4, 24, 100, 255):
        name, rand = "", np.random.RandomState(most)
        while len((name + letters[0]).encode()) <= most - 4:
            name += letters[rand.randint(len(letters))]
        path = tmp_path / ((name or "1") + ".png")
        Image.fromarray(noise(2, 3, 3)).save(path, optimize=True)
        size = compress_files(path, None, tmp_path / "a.crz", overwrite=True)["bytes"]
        assert size <= path.stat().st_size + 40 + len(path.name.encode())
        path.unlink()


def test_many_pixels_take_few_bytes():
    """Two thousand pictures of one pixel: their rows of the table are packed together."""
    blob = cr.compress([np.full((1, 1), 7, np.uint8)] * 2_000)
    assert len(blob) < 4_000
    assert all(back.shape == (1, 1) and back == 7 for back in cr.decompress(blob))


CODERS = [PLAIN, ROWS, INTERLACED, WEBP]


@pytest.mark.parametrize(
    "picture",
    [
        Raster(7, 5, 8, GRAY, samples=noise(5, 7, 1)),
        Raster(7, 5, 1, GRAY, samples=noise(5, 7, 1, 2)),
        Raster(7, 5, 2, GRAY, transparency=b"\0\2", samples=noise(5, 7, 1, 4)),
        Raster(7, 5, 4, INDEX, bytes(range(48)), b"\1\2\3", samples=noise(5, 7, 1, 16)),
        Raster(7, 5, 8, RGB, transparency=bytes(6), samples=noise(5, 7, 3)),
        Raster(7, 5, 8, GRAY_ALPHA, samples=noise(5, 7, 2)),
        Raster(7, 5, 8, RGBA, samples=noise(5, 7, 4) * np.array([1, 1, 1, 0], np.uint8)),
    ],
    ids=lambda picture: f"{picture.color}-{picture.depth}",
)
def test_every_coder_gives_every_kind_back(picture):
    """Each by itself; and a file of it is what Pillow and this reader of PNG files agree on."""
    rows = raster.pack_rows(picture, True)
    payloads = {
        PLAIN: picture.samples.tobytes(),
        ROWS: rows,
        WEBP: b"".join(picture_coding._strips(picture)),
    }
    for coder, payload in payloads.items():
        assert picture_coding.decode(replace(picture, samples=None), coder, payload).same(picture)
    file = raster.png_of(picture, rows)
    with Image.open(io.BytesIO(file)) as image:
        image.load()
        assert image.size == (7, 5)
    assert raster.unpack_rows(picture, rows, False).tobytes() == picture.samples.tobytes()


def test_large_pictures_are_cut_into_strips(monkeypatch):
    monkeypatch.setattr(picture_coding, "STRIP", 300)
    picture = Raster(50, 41, 8, RGB, samples=noise(41, 50, 3))
    strips = list(picture_coding._strips(picture))
    assert len(strips) == 7
    assert picture_coding.decode(replace(picture, samples=None), WEBP, b"".join(strips)).same(picture)
    for wrong in (strips[:-1], [*strips, strips[0]], strips[::-1]):
        with pytest.raises(CodecError):
            picture_coding.decode(replace(picture, samples=None), WEBP, b"".join(wrong))


def test_what_says_how_a_png_is_shown_stays(tmp_path):
    """Profile, gamma, resolution and orientation; texts and times do not."""
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"icc_profile": b"profile" * 40, "dpi": (300, 300), "exif": exif}
    Image.fromarray(noise(4, 6, 3)).save(tmp_path / "x.png", **options)
    compress_files(tmp_path / "x.png", None, tmp_path / "a.crz")
    decompress_file(tmp_path / "a.crz", tmp_path / "back")
    with Image.open(tmp_path / "back" / "x.png") as image:
        assert image.info["icc_profile"] == options["icc_profile"]
        assert image.getexif()[0x0112] == 6
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_what_no_raster_holds_comes_back_byte_for_byte(tmp_path):
    """Animations, several pages, and more than 8 bits a channel."""
    folder = tmp_path / "in"
    folder.mkdir()
    first, second = Image.fromarray(noise(4, 6, 3)), Image.fromarray(noise(4, 6, 3))
    for name in ("film.png", "film.gif", "film.webp", "pages.tiff"):
        first.save(folder / name, save_all=True, append_images=[second])
    for name in ("deep.png", "deep.tiff"):
        Image.fromarray(noise(4, 6, 1)[..., 0].astype(np.uint16)).save(folder / name)
    compress_files(folder, None, tmp_path / "a.crz", verify=True)
    back = decompress_file(tmp_path / "a.crz", tmp_path / "back")
    assert len(back) == 6
    assert all(path.read_bytes() == (folder / path.name).read_bytes() for path in back)


def test_what_cannot_be_packed_is_named_and_can_be_skipped(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(noise(4, 6, 3)).save(folder / "good.png")
    Image.fromarray(noise(4, 6, 1)[..., 0].astype(np.uint16)).save(folder / "deep.png")
    (folder / "deep.png").write_bytes((folder / "deep.png").read_bytes()[:-20])
    (folder / "broken.png").write_bytes((folder / "good.png").read_bytes()[:-20])
    with pytest.raises(DataError) as caught:
        compress_files(folder, None, tmp_path / "a.crz")
    for part in ("2 of 3", "deep.png does not decode", "broken.png does not decode"):
        assert part in str(caught.value)
    assert not (tmp_path / "a.crz").exists()
    assert main(["compress", str(folder), "-o", str(tmp_path / "a.crz"), "--skip"]) == 0
    assert "Left out: 2 of 3 pictures" in capsys.readouterr().err
    assert [path.name for path in decompress_file(tmp_path / "a.crz", tmp_path / "back")] == ["good.png"]
    (folder / "good.png").unlink()
    with pytest.raises(DataError, match="cannot be packed"):
        compress_files(folder, None, tmp_path / "b.crz", skip=True)


# --------------------------------------------------------------------------------------------------------------- models


@pytest.fixture(scope="module")
def gray_levels():
    """A model of gray pictures of two values that are nearly always the first."""
    model = PixelCNN((1, 8, 8), 2, 4, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.output.bias.view(-1)[0] = 6.0 if hasattr(model, "output") else 0.0
    return model


def any_size(channels, levels=256):
    torch.manual_seed(0)
    return PixelCNN((channels, None, None), levels, 4, 1)


def smooth(model, height, width):
    """A picture that the model makes smaller than others do: a sample of it."""
    x = model.sized(height, width).sample(1, generator=torch.Generator().manual_seed(height * width))
    return x[0].permute(1, 2, 0).numpy().astype(np.uint8)


def test_models_of_any_size_code_what_they_suit():
    """Pictures of two sizes, colours without their alpha plane, indices by the colours they stand for, and the rest."""
    model = exact(any_size(3, 4))
    grid = 85 * np.stack([smooth(model, 24, 20) for _ in range(3)])
    tall = 85 * smooth(model, 31, 17)
    alpha = np.dstack([tall, np.full((31, 17), 9, np.uint8)])
    palette = np.array([[0, 85, 170], [255, 0, 0], [85, 85, 85], [0, 0, 255]], np.uint8)
    index = smooth(exact(any_size(1, 4)), 24, 20)[..., :1]
    files = [PictureFile(b"", raster.of_array(x), PNG) for x in (*grid, tall, alpha, noise(9, 9, 3))]
    files.append(PictureFile(b"", Raster(20, 24, 8, INDEX, palette.tobytes(), samples=index), PNG))
    reader, chunk, back = chunk_of(files, [model])
    coders = [picture.record.coder for picture in back]
    assert coders[:5] == [MODEL] * 5
    assert coders[5] < MODEL
    assert [picture.record.batch for picture in back][:5] == [1, 1, 1, 2, 2]
    assert all(picture.raster.same(file.raster) for picture, file in zip(back, files, strict=True))
    assert len(reader.models) == 1
    without = chunk_of(files)[1]
    assert len(chunk[2]) < len(without[2])


def test_a_palette_is_coded_by_its_colours():
    """If an index can be told from its colour; two alike, of which both are used, go to a usual codec."""
    palette = np.array([[0, 0, 0], [85, 85, 85], [170, 170, 170], [255, 255, 255], [0, 0, 0]], np.uint8)
    x = noise(8, 8, 1, 4)
    picture = Raster(8, 8, 4, INDEX, palette.tobytes(), samples=x)
    found = picture_coding.planes(picture, 1, 4, "scaled")
    assert np.array_equal(found[0], x[..., 0])
    assert picture_coding.from_planes(picture, found, "scaled", 4, None).same(picture)
    both = replace(picture, samples=np.where(x == 0, 4 * (noise(8, 8, 1, 2)), x).astype(np.uint8))
    assert picture_coding.planes(both, 1, 4, "scaled") is None
    with pytest.raises(CodecError):  # a colour that the palette does not have
        picture_coding.from_planes(replace(picture, palette=palette[:3].tobytes()), found, "scaled", 4, None)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grays_of_few_bits_are_spread(depth):
    picture = Raster(8, 8, depth, GRAY, samples=noise(8, 8, 1, 2**depth))
    found = picture_coding.planes(picture, 1, 2**depth, "scaled")
    assert np.array_equal(found[0], picture.samples[..., 0])
    assert picture_coding.from_planes(picture, found, "scaled", 2**depth, None).same(picture)


def test_pictures_of_one_size_and_their_folder(tmp_path):
    """A model of one size, several at once, embedded; nothing else is needed to unpack."""
    torch.manual_seed(0)
    model, other = PixelCNNMADE((3, 9, 8), 4, 6, 1), any_size(1, 4)
    sampled = model.sample(5, generator=torch.Generator().manual_seed(1))
    (tmp_path / "in").mkdir()
    for number, x in enumerate(sampled):
        Image.fromarray(85 * x.permute(1, 2, 0).numpy().astype(np.uint8)).save(tmp_path / "in" / f"{number}.png")
    Image.fromarray(85 * smooth(other, 30, 30)[..., 0]).save(tmp_path / "in" / "gray.bmp")
    figures = compress_files(tmp_path / "in", [model, other], tmp_path / "a.crz", embed_model=True, verify=True)
    assert len(figures["models"]) == 2
    assert len(decompress_file(tmp_path / "a.crz", tmp_path / "back")) == 6
    compress_files(tmp_path / "in", [model, other], tmp_path / "b.crz")
    assert len(decompress_file(tmp_path / "b.crz", tmp_path / "again", [other, model])) == 6
    with pytest.raises(CodecError, match="another model"):
        decompress_file(tmp_path / "b.crz", tmp_path / "third", other)
    assert not (tmp_path / "third").exists()


# --------------------------------------------------------------------------------------------------------------- memory


def test_arrays_without_a_model():
    """Of pictures, of anything else, and lists of mixed sizes."""
    digits = np.zeros((50, 12, 12, 3), np.uint8)
    digits[:, 3:9, 3:9] = RAND.randint(0, 2, (50, 6, 6, 1)) * 255
    photographs = np.cumsum(RAND.randint(-2, 3, (3, 80, 90, 3)), 2).astype(np.uint8)
    for array in (digits, photographs, digits[..., 0], RAND.rand(4, 5), np.arange(6, dtype=">i4"), np.zeros((0, 4, 4))):
        back = cr.decompress(cr.compress(array))
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert back.tobytes() == array.tobytes()
    pictures = [noise(*shape) for shape in ((1, 1, 3), (5, 9, 4), (5, 9, 1), (40, 3, 2))] + [noise(6, 7, 1)[..., 0]]
    for model in (None, any_size(3)):
        back = cr.decompress(cr.compress(pictures, model), model)
        assert [x.shape for x in back] == [x.shape for x in pictures]
        assert all(np.array_equal(x, y) for x, y in zip(back, pictures, strict=True))
    assert cr.decompress(cr.compress([])) == []
    for wrong in ([np.zeros((2, 2))], [np.zeros((2, 2, 5), np.uint8)], [np.zeros((0, 2), np.uint8)], None):
        with pytest.raises(DataError):
            cr.compress(wrong)


def test_model_and_images_in_either_order():
    model = any_size(1, 4)
    x = noise(6, 5, 1, 4)[None]
    assert cr.compress(model, x) == cr.compress(x, model)
    blob = cr.compress(model, x)
    assert np.array_equal(cr.decompress(blob, model), cr.decompress(model, blob))


# --------------------------------------------------------------------------------------------------------------- damage

FILES = [
    PictureFile(b"", raster.of_array(noise(4, 5, 3)), PNG),
    PictureFile(b"", Raster(9, 9, 4, INDEX, bytes(48), b"\1", samples=noise(9, 9, 1, 16)), PNG),
    PictureFile(b"", raster.of_array(np.zeros((40, 40, 4), np.uint8)), PNG),
    PictureFile(b"bytes " * 30),
]
READER, CHUNK, _ = chunk_of(FILES)


def decoded(payload, count=4):
    return decode_pictures(payload, count, CHUNK[1], Unpacking(READER, []))


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_payloads_edited_at_random(data):
    """Whatever is done to what is under the checksums, nothing but one sentence comes out."""
    (length,), place = picture_table.varints.take(CHUNK[2], 1, 0)
    table = bytearray(zlib.decompressobj(-15).decompress(CHUNK[2][place : place + length]))
    rest = bytearray(CHUNK[2][place + length :])
    before = bytes(table), bytes(rest)
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from([table, table, rest]))
        start = data.draw(st.integers(0, len(part)))
        stop = data.draw(st.integers(start, min(len(part), start + 4)))
        part[start:stop] = data.draw(st.binary(max_size=4))
    if (bytes(table), bytes(rest)) == before:
        return
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    stored = packer.compress(bytes(table)) + packer.flush()
    with pytest.raises(CodecError):
        decoded(picture_table.varints.pack([len(stored)]) + stored + bytes(rest))


@pytest.mark.parametrize("form", range(256))
def test_forms_that_no_writer_knows(form):
    table = picture_table.pack_table([picture_table.Record(form, PLAIN, 0, Raster(1, 1, 8, GRAY), b"a", 0)])
    stored = zlib.compress(table, 9, -15)
    payload = picture_table.varints.pack([len(stored)]) + stored + b"a"
    if form in range(PNG, ARRAY_WITH_AXIS + 1):
        assert picture_table.read_table(payload, 1)[0][0].form == form
        return
    with pytest.raises(CodecError):
        picture_table.read_table(payload, 1)


def test_batches_without_pictures_are_refused_at_the_first():
    """Or two bytes each would take minutes."""
    record = picture_table.Record(PNG, MODEL, 0, Raster(1, 1, 8, GRAY), b"", 2**30)
    stored = zlib.compress(picture_table.pack_table([record] * 2000), 9, -15)
    payload = picture_table.varints.pack([len(stored)]) + stored + bytes(2**22)
    began = time.process_time()
    with pytest.raises(CodecError):
        picture_table.read_table(payload, 2000)
    assert time.process_time() - began < 5


def test_what_is_beside_a_picture_is_there_once():
    """As the format says; so a table of zeros and headers is no work."""
    kinds = [raster.chunk(kind, b"") for kind in raster.BESIDE]
    assert raster.beside_is_sound(b"".join(kinds))
    for kind in kinds:
        assert not raster.beside_is_sound(kind + kind)
        assert not raster.beside_is_sound(b"".join(kinds) + kind)


@pytest.mark.parametrize("count", [0, 1, 3, 5, 2000])
def test_other_counts(count):
    with pytest.raises(CodecError):
        decoded(CHUNK[2], count)


def test_a_picture_that_claims_a_size_takes_little_memory():
    """What its payload says is looked at first."""
    payload = fallback(PictureFile(b"", raster.of_array(np.zeros((90, 90, 3), np.uint8))))[1]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for coder in (PLAIN, ROWS, INTERLACED, WEBP, DEFLATED):
        with pytest.raises(CodecError):
            picture_coding.decode(Raster(9000, 9000, 8, RGB), coder, payload)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes: one picture, at most


def test_other_bytes_that_deflate_well_are_not_unpacked():
    bomb = zlib.compress(bytes(2**26), 9)
    with pytest.raises(CodecError):
        picture_coding.content_of(DEFLATED, bomb, 10)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_an_interrupt_ends_it_within_a_second(tmp_path):
    """Wherever it is, and nothing is left behind."""
    big = np.cumsum(np.random.RandomState(0).randint(-9, 10, (1500, 2000, 3)), 1).astype(np.uint8)
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.fromarray(big + np.uint8(number)).save(tmp_path / "in" / f"{number}.png", compress_level=1)
    words = [sys.executable, "-m", "chainrule", "compress", str(tmp_path / "in"), "-o", str(tmp_path / "out" / "a.crz")]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob("out/.*")):
        time.sleep(0.01)
    assert process.poll() is None  # it is packing
    began = time.perf_counter()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert time.perf_counter() - began < 5  # on a machine that does much else
    assert list((tmp_path / "out").iterdir()) == []
