"""Damage of every kind ends in a sentence; golden archives stay readable."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.codec import compress, decompress, info, pixels
from chainrule.codec.chunks import encode_chunk, make_header
from chainrule.codec.container import MAGIC, PREFIX, Header, Reader, Writer
from chainrule.codec.embedding import model_bytes
from chainrule.errors import CodecError
from chainrule.fixedpoint import exact
from chainrule.models import MADE, Histogram
from codec import reference
from codec.golden import make

GOLDEN = Path(__file__).parent / "golden"
MODEL = exact(Histogram(5))
EVENTS = (np.arange(60) ** 2 // 7 % 5).astype(np.uint8)[:, None]
BLOB = compress(MODEL, EVENTS, chunk=25)


def refused(blob, model=MODEL):
    """The sentence with which an archive is refused."""
    with pytest.raises(CodecError) as caught:
        decompress(model, blob)
    return str(caught.value)


def build(header=None, chunks=None, model=None, **changes):
    """An archive of MODEL, all checksums right, with changes to its header or chunks."""
    x = torch.from_numpy(EVENTS)
    member = pixels.array_member("", EVENTS, MODEL.shape, MODEL.levels)
    header = header or replace(make_header(MODEL, [member], len(x), model is not None), **changes)
    stream = io.BytesIO()
    writer = Writer(stream, header, model)
    for chunk in [encode_chunk(MODEL, x)] if chunks is None else chunks:
        writer.chunk(*chunk)
    writer.end()
    return stream.getvalue()


def test_golden_histogram_by_the_plain_decoder_and_by_the_library():
    blob = (GOLDEN / "histogram.crz").read_bytes()
    header, events = reference.decode(blob)
    assert events == make.histogram_events()[:, 0].tolist()
    assert header["members"][0]["dtype"] == "|u1"
    assert np.array_equal(decompress(None, blob), make.histogram_events())


def test_golden_pictures():
    blob = (GOLDEN / "pixelcnn-made.crz").read_bytes()
    assert np.array_equal(decompress(None, blob), make.pictures())
    assert np.array_equal(decompress(make.models()[1], blob), make.pictures())


def test_the_same_bytes_are_written_today():
    """Until the format or the arithmetic gets a new version, archives are the same to the byte."""
    histogram, network = make.models()
    blob = compress(histogram, make.histogram_events(), embed_model=True, chunk=128)
    assert decompress(None, blob).tolist() == make.histogram_events().tolist()
    payloads = lambda data: [c.payload for c in iter(Reader(io.BytesIO(data)).next, None)]  # noqa: E731
    assert payloads(blob) == payloads((GOLDEN / "histogram.crz").read_bytes())
    expected = payloads((GOLDEN / "pixelcnn-made.crz").read_bytes())
    assert payloads(compress(network, make.pictures())) == expected


def test_every_truncation():
    for length in range(len(BLOB)):
        said = refused(BLOB[:length])
        assert "truncated" in said or "damaged" in said


def test_every_flipped_bit():
    for place in range(len(BLOB)):
        for bit in range(8):
            damaged = bytearray(BLOB)
            damaged[place] ^= 1 << bit
            refused(bytes(damaged))


def test_what_follows_the_end():
    assert "followed" in refused(BLOB + b"\0")
    assert "followed" in refused(BLOB + BLOB)


def test_chunks_may_not_change_places():
    """Each of them is sound; their order is sealed by the end."""
    reader = Reader(io.BytesIO(BLOB))
    start = reader.size
    reader.next()
    middle = reader.size
    reader.next()
    end = reader.size
    swapped = BLOB[:start] + BLOB[middle:end] + BLOB[start:middle] + BLOB[end:]
    assert "damaged" in refused(swapped)
    doubled = BLOB[:end] + BLOB[middle:]
    assert "damaged" in refused(doubled)
    assert "damaged" in refused(BLOB[:start] + BLOB[middle:])


@given(st.binary(max_size=300), st.booleans())
@settings(deadline=None, max_examples=300)
def test_random_bytes(content, with_magic):
    refused(MAGIC + content if with_magic else content)


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_random_edits(data):
    edited = bytearray(BLOB)
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(edited)))
        stop = data.draw(st.integers(start, min(len(edited), start + 40)))
        edited[start:stop] = data.draw(st.binary(max_size=40))
    if bytes(edited) != BLOB:
        refused(bytes(edited))


def test_other_versions():
    newer = bytearray(BLOB)
    newer[8] = 2
    assert "version 2" in refused(bytes(newer))
    assert "arithmetic 2" in refused(build(arithmetic=2))
    assert decompress(MODEL, build()).tolist() == EVENTS.tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 61},
        {"count": 59},
        {"count": 10**18},
        {"count": -1},
        {"count": 60.0},
        {"levels": 2**40},
        {"levels": 1},
        {"shape": ()},
        {"shape": (2**31, 2**31)},
        {"shape": (0,)},
        {"shape": (1,) * 20},
        {"shape": ("1",)},
        {"members": []},
        {"members": 3},
        {"members": [3]},
        {"members": [{"kind": "video"}]},
        {"members": [{"kind": "images", "names": ["a.png"] * 60, "values": "scaled"}]},
        {"fingerprint": bytes(31)},
        {"probe": bytes(33)},
        {"embedded": 1},
        {"embedded": True},
        {"fingerprint": bytes(32)},
        {"probe": bytes(32)},
    ],
)
def test_headers_that_cannot_be(changes):
    refused(build(**changes))


@pytest.mark.parametrize(
    "change",
    [
        {"count": 10**15},
        {"count": True},
        {"dtype": "|O"},
        {"dtype": "<f8"},
        {"dtype": "|u1,|u1"},
        {"dtype": 7},
        {"squeezed": True},
        {"squeezed": None},
        {"values": "rounded"},
        {"values": ["levels"]},
        {"values": []},
        {"values": [0, 1, 2, 3, 4, 5, 6, 7, 8]},
        {"values": [True, 2]},
        {"values": list(range(300))},
        {"kind": []},
        {"name": 3},
        {"name": "../a.npy"},
        {"name": "a.npy", "key": "../b"},
        {"name": "a.npy", "key": 4},
    ],
)
def test_members_that_cannot_be(change):
    member = {**pixels.array_member("", EVENTS, MODEL.shape, MODEL.levels), **change}
    refused(build(members=[member]))


@pytest.mark.parametrize("length", [2**26 + 1, 2**31, 2**32 - 1, 2**26])
def test_absurd_header_lengths(length):
    said = refused(PREFIX.pack(MAGIC, 1, length) + b"x" * 100)
    assert "impossible" in said or "truncated" in said


def test_a_header_that_unpacks_to_gigabytes():
    """It is not unpacked."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**24)) for _ in range(40)) + packer.flush()
    prefix = PREFIX.pack(MAGIC, 1, len(packed))
    assert "header" in refused(prefix + packed + struct.pack("<I", zlib.crc32(prefix + packed)))


@pytest.mark.parametrize(
    "text", [b"[]", b"{}", b"null", b"{", b"\xff", b"[" * 10**5, b'{"count":' + b"9" * 10**4 + b"}"]
)
def test_headers_that_are_no_header(text):
    packed = zlib.compress(text)
    prefix = PREFIX.pack(MAGIC, 1, len(packed))
    refused(prefix + packed + struct.pack("<I", zlib.crc32(prefix + packed)))


def test_chunks_of_absurd_sizes():
    _, digest, payload = encode_chunk(MODEL, torch.from_numpy(EVENTS))
    for chunks in (
        [(0, digest, payload)],
        [(61, digest, payload)],
        [(2001, digest, payload)],
        [(60, digest, payload + b"\0")],
        [(60, digest, payload + bytes(4 * 60 + 64))],
        [(60, bytes(32), payload)],
        [],
    ):
        assert "damaged" in refused(build(chunks=chunks))


NO_WEIGHTS = b"\x02\0\0\0\0\0\0\0{}"


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        (b"{", b""),
        (b"{}", b"\0" * 8),
        (b"[]", b"\xff" * 8),
        (b'{"class": "Histogram", "levels": 5, "exact": true}', NO_WEIGHTS),
        (
            b'{"class": "PixelCNN", "shape": [1], "levels": 5, "filters": 1000000000, "exact": true}',
            NO_WEIGHTS,
        ),
        (
            b'{"class": "MADE", "shape": [1], "levels": 5, "hidden": [1000000000], "exact": true}',
            NO_WEIGHTS,
        ),
        (b'{"class": "MADE", "shape": [1], "levels": 5, "hidden": "x", "exact": true}', NO_WEIGHTS),
        (
            b'{"class": "ConditionalMLP", "levels": 5, "hidden": [100000, 100000], "exact": true}',
            NO_WEIGHTS,
        ),
    ],
)
def test_embedded_models_that_cannot_be(config, weights):
    refused(build(model=(config, weights)), None)


def test_an_embedded_model_is_no_way_around_the_fingerprint():
    other = Histogram(5)
    with torch.no_grad():
        other.theta[0] = 1.0
    assert "another model" in refused(build(model=model_bytes(exact(other))), None)


def test_info_needs_no_model(tmp_path):
    (tmp_path / "a.crz").write_bytes(BLOB)
    found = info(tmp_path / "a.crz")
    assert (found["images"], found["chunks"], found["bytes"], found["model"]) == (60, 3, len(BLOB), "Histogram")
    (tmp_path / "a.crz").write_bytes(BLOB[:-1])
    with pytest.raises(CodecError, match="truncated"):
        info(tmp_path / "a.crz")


def test_headers_survive():
    model = exact(MADE((2,), 4))
    header = make_header(model, [], 0, False)
    assert Header.unpack(header.pack()) == header
