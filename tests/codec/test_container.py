"""Damage of every kind ends in a sentence; golden archives stay readable."""

from __future__ import annotations

import io
import json
import lzma
import resource
import struct
import tempfile
import time
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.codec import compress, container, decompress, decompress_file, event_coding, info
from chainrule.codec.arrays_in import array_member
from chainrule.codec.chunks import encode_events, encode_piece
from chainrule.codec.container import (
    MAGIC,
    PREFIX,
    USUAL,
    Known,
    Reader,
    Writer,
    account_of,
    pack_header,
    unpack_header,
)
from chainrule.codec.embedding import model_bytes
from chainrule.codec.members import Kept, packed
from chainrule.codec.model_blocks import Packing, known_of
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


class Crafted:
    """What a model is known by, as somebody wants it to be."""

    def __init__(self, known, changes):
        self.fields = {name: value for name, value in (asdict(known) | changes).items() if value is not ...}


def deflated(text):
    """A header of this text."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=USUAL)
    return packer.compress(text) + packer.flush()


def encoded(of, events, number=0):
    """Events as a chunk of the model with this number."""

    class Fixed(Packing):
        def number(self, place):
            return number

    return encode_events(Fixed([of], None, embed=False, named=True), 0, events)


def build(chunks=None, inside=None, of=MODEL, events=EVENTS, members=None, count=None, **changes):
    """An archive, all checksums right, with changes to its members, its model (... takes a field away) or chunks."""
    member = packed(array_member(events, of)) | ({} if count is None else {"count": count})
    stored = deflated(json.dumps([member] if members is None else members).encode())
    stream = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "pack_header", lambda members: stored)
        patch.setattr(container, "unpack_header", lambda stored: [])  # which the writer would refuse to write
        writer = Writer(stream, [])
        patch.setattr(container, "asdict", lambda known: known.fields)
        writer.model(Crafted(known_of(of), changes), inside)
    for chunk in [encoded(of, events)] if chunks is None else chunks:
        writer.chunk(*chunk)
    writer.end()
    return stream.getvalue()


def test_golden_histogram_by_the_plain_decoder_and_by_the_library():
    blob = (GOLDEN / "histogram.crz").read_bytes()
    header, events = reference.decode(blob)
    assert events == make.histogram_events()[:, 0].tolist()
    assert header[0]["dtype"] == "|u1"
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


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x89PNG\r\n\x1a\n", b"a text that is longer than a prefix"])
def test_what_is_no_archive(content):
    assert "no .crz archive" in refused(content)


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
    newer[8] = 3
    assert "version 3" in refused(bytes(newer))
    assert "arithmetic 2" in refused(build(arithmetic=2))
    assert decompress(MODEL, build()).tolist() == EVENTS.tolist()


@pytest.mark.parametrize(
    "changes",
    [
        *({"count": count} for count in (61, 59, 10**18, -1, 60.0, True, "60")),
        *({"levels": levels} for levels in (2**40, 1, 5.0, [5])),
        *({"shape": shape} for shape in ([], [2**31, 2**31], [0], [1] * 20, ["1"], [True], 1, {"1": 1}, [[1]], [None])),
        *({"members": members} for members in (3, [3], [{"kind": "video"}], [{}], {}, [[]], [])),
        {"members": [{"kind": "pictures", "names": ["a.png"] * 60}]},
        *({name: value} for name in ("fingerprint", "probe") for value in ("00" * 31, "0" * 64, "AB" * 32, 7, "é")),
        *({"model": name} for name in ("\ud800", "a\x1b[31m", "", "x" * 65, 7, "a b", "Ω", "x" * 5000)),
        *({"arithmetic": value} for value in (0, -1, "1", 1.0, [1])),
        {"unknown": 1},
        *({name: ...} for name in ("arithmetic", "model", "shape", "levels", "probe")),
    ],
)
def test_headers_and_models_that_cannot_be(changes):
    refused(build(**changes))


SOUND = packed(array_member(EVENTS, MODEL))


@pytest.mark.parametrize(
    "change",
    [
        *({"count": count} for count in (10**15, True, -1, 59, "60")),
        *({"dtype": dtype} for dtype in ("|O", "<f8", "|u1,|u1", 7, "|u1 ", "<U1", "<M8[s]")),
        *({"layout": layout} for layout in ("NHWC", "NHW", "flat", "", None, ["events"])),
        *({"values": values} for values in ("rounded", "pixels", ["levels"], [], list(range(9)), [True, 2], {})),
        *({"kind": kind} for kind in ([], {}, None, "array ", "pictures", "kept", "list")),
        *({"shape": shape} for shape in ([], [2], [1, 1], ["1"], 1, [True], [0], [None], [1] * 20)),
        *({"levels": levels} for levels in (4, 6, 1, 5.0, 2**40)),
        *({"name": name} for name in (3, "../a.npy", "a" * 256, "/".join("a" * 1000), "nul.npy", "\ud800.npy", None)),
        *({"name": "a.npz", "key": key} for key in ("../b", 4, None, "b" * 300, "\x1b[2J")),
        {"key": "b"},
        {"names": ["a.png"]},
        {"unknown": None},
        {"squeezed": False},
        *({name: ...} for name in SOUND),
    ],
)
def test_members_that_cannot_be(change):
    refused(build(members=[{name: value for name, value in (SOUND | change).items() if value is not ...}]))


LABELS = np.array([1, 2], np.uint8)
KEPT = packed(Kept("a.npz", "y", "|u1", [2]))


@pytest.mark.parametrize(
    "change",
    [
        *({"dtype": dtype} for dtype in ("|O", "|V8", "|u3", "<U999999", "|S0", 1, "<u2")),
        *({"shape": shape} for shape in ([3], [2**31], [-2], [2.0], [1] * 40, 2, [[2]], [2**47, 2**47])),
        *({"name": name} for name in ("", "../a.npz", 3)),
        {"name": "", "key": ""},
        *({"key": key} for key in ("../y", 3, None)),
        {"data": "eJwDAAAAAAE="},
    ],
)
def test_kept_arrays_that_cannot_be(change, tmp_path):
    """What lies beside the images is as it says, and nothing is unpacked that does not end there."""
    file, chunks = SOUND | {"name": "a.npz", "key": "x"}, [encoded(MODEL, EVENTS), encode_piece(LABELS.tobytes())]
    assert info(io_file(build(chunks, members=[file, KEPT])))["files"] == ["a.npz"]
    with pytest.raises(CodecError):
        decompress_file(io_file(build(chunks, members=[file, KEPT | change])), tmp_path / "back", MODEL)
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        b"\0abc",
        b"\3ab",
        b"\1" + zlib.compress(b"abc"),
        b"\1" + zlib.compress(b"a"),
        b"\1" + zlib.compress(b"ab")[:-1],
        b"\1" + zlib.compress(bytes(2**26)),
        b"\2" + lzma.compress(bytes(2**26)),
        b"\2" + lzma.compress(b"ab") + b"x",
        b"\2\xfd7zXZ",
    ],
)
def test_pieces_that_cannot_be(payload, tmp_path):
    """Two bytes come out, or nothing does, and nothing longer is unpacked."""
    one, digest, _ = encode_piece(b"ab")
    member = KEPT | {"name": "y.npy", "key": ""}
    sound = build([(one, digest, b"\0ab")], members=[member])
    assert decompress(MODEL, sound).tobytes() == b"ab"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(build([(one, digest, payload)], members=[member]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kilobytes


def io_file(blob):
    """A path that holds an archive."""
    path = Path(tempfile.mkdtemp()) / "a.crz"
    path.write_bytes(blob)
    return path


@pytest.mark.parametrize(
    "members",
    [
        "[" + "{}," * 2**22 + "{}]",
        "[" + "[]," * 2**22 + "[]]",
        '[{"kind":"pictures","names":[' + '"",' * 2**23 + '""]}]',
        '[{"kind":"pictures","names":[' + "0," * 2**23 + "0]}]",
        "[" * 2**23 + "]" * 2**23,
    ],
    ids=["objects", "lists", "names", "numbers", "brackets"],
)
def test_a_header_of_millions_is_counted_before_it_is_parsed(members, monkeypatch):
    """In well under the time, and the memory, that Python's objects for it would take."""
    parsed = []
    monkeypatch.setattr(json, "loads", lambda text: parsed.append(text))
    packed_header = deflated(members.encode())
    began = time.process_time()
    with pytest.raises(CodecError):
        unpack_header(packed_header)
    assert time.process_time() - began < 5
    assert not parsed


@pytest.mark.parametrize("length", [2**26 + 1, 2**31, 2**32 - 1, 2**26])
def test_absurd_header_lengths(length):
    said = refused(PREFIX.pack(MAGIC, 2, length) + b"x" * 100)
    assert "impossible" in said or "truncated" in said


def test_a_header_that_unpacks_to_gigabytes():
    """It is not unpacked."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(packer.compress(bytes(2**24)) for _ in range(40)) + packer.flush()
    prefix = PREFIX.pack(MAGIC, 2, len(packed))
    assert "header" in refused(prefix + packed + struct.pack("<I", zlib.crc32(prefix + packed)))


@pytest.mark.parametrize(
    "text", [b"[1]", b"{}", b"null", b"{", b"\xff", b"[" * 10**5, b'{"count":' + b"9" * 10**4 + b"}"]
)
def test_headers_that_are_no_header(text):
    packed = deflated(text)
    prefix = PREFIX.pack(MAGIC, 2, len(packed))
    refused(prefix + packed + struct.pack("<I", zlib.crc32(prefix + packed)))


def test_a_chunk_of_more_than_any_writer_writes(monkeypatch):
    """It is refused before a walk over it takes memory."""
    big = exact(Histogram(5))
    blob = build(chunks=[encoded(big, EVENTS)])
    monkeypatch.setattr(event_coding, "TABLE_BYTES", 4 * 5 * 30)
    assert "more images than any has" in refused(blob)


def test_chunks_of_absurd_sizes():
    _, digest, payload = encoded(MODEL, EVENTS)
    for chunks in (
        [(0, digest, payload)],
        [(61, digest, payload)],
        [(2001, digest, payload)],
        [(60, digest, payload + b"\0")],
        [(60, digest, payload + bytes(4 * 60 + 64))],
        [(60, digest, payload + bytes(2**20))],
        [(60, bytes(32), payload)],
        [(60, digest, b"\1" + payload[1:])],
        [(60, digest, b"")],
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
    refused(build(inside=(config, weights)), None)


@pytest.mark.parametrize(
    "claims",
    [
        {"class": "PixelCNN", "shape": [2**20, 1, 1]},
        {"class": "PixelCNN", "shape": [1, 1024, 1024]},
        {"class": "PixelCNN", "blocks": 10**7},
        {"class": "PixelCNN", "filters": 10**9},
        {"class": "PixelCNN", "filters": -1},
        {"class": "GatedPixelCNN", "blocks": 10**7},
        {"class": "GatedPixelCNN", "classes": 10**9},
        {"class": "LogisticPixelCNN", "components": 5 * 10**8},
        {"class": "PixelIQN", "embedding": 10**9},
        {"class": "MADE", "shape": [2**20], "hidden": [2**20]},
        {"class": "MADE", "shape": [2], "hidden": [1] * 10**5},
        {"class": "ConditionalMLP", "hidden": [10**5, 10**5], "shape": ...},
        {"class": "Histogram", "levels": 2**60, "shape": ...},
        {"class": "Nothing"},
        {"class": ["PixelCNN"]},
        {"class": "PixelCNN", "save_directory": "/"},
    ],
)
def test_an_embedded_model_that_claims_sizes_takes_no_memory(claims):
    """Two kilobytes of weights, and a configuration that asks for gigabytes or hours."""
    config = {"shape": [1, 2, 2], "levels": 5, "exact": True} | claims
    config = {name: value for name, value in config.items() if value is not ...}
    weights = safetensors.torch.save({"theta": torch.zeros(500)})
    shape = config.get("shape", [1])
    member = dict(SOUND)
    member |= {"shape": shape, "layout": "NHWC" if len(shape) == 3 else "events"}
    changes = {"shape": shape, "members": [member], "model": str(claims.get("class", "PixelCNN"))}
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(build(inside=(json.dumps(config).encode(), weights), **changes), None)
    assert time.process_time() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


def test_an_embedded_model_is_no_way_around_the_fingerprint():
    other = Histogram(5)
    with torch.no_grad():
        other.theta[0] = 1.0
    assert "another model" in refused(build(inside=model_bytes(exact(other))), None)


def test_info_needs_no_model(tmp_path):
    (tmp_path / "a.crz").write_bytes(BLOB)
    found = info(tmp_path / "a.crz")
    assert (found["images"], found["chunks"], found["bytes"]) == (60, 3, len(BLOB))
    assert [model["model"] for model in found["models"]] == ["Histogram"]
    assert sum(row["count"] for row in found["coders"].values()) == 60
    (tmp_path / "a.crz").write_bytes(BLOB[:-1])
    with pytest.raises(CodecError, match="truncated"):
        info(tmp_path / "a.crz")


def test_headers_survive():
    members = [array_member(np.zeros((3, 2), int), exact(MADE((2,), 4)))]
    assert unpack_header(pack_header(members)) == members
    known = known_of(exact(MADE((2,), 4)))
    assert Known.read(account_of(known)) == known
