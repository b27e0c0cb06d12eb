"""Damage of every kind ends in a sentence; golden archives stay readable."""

from __future__ import annotations

import io
import json
import resource
import struct
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.codec import chunks as chunks_module
from chainrule.codec import compress, decompress, info
from chainrule.codec.chunks import encode_chunk, make_header
from chainrule.codec.container import MAGIC, PREFIX, Header, Reader, Writer
from chainrule.codec.embedding import model_bytes, shapes_of
from chainrule.codec.members import Kept, packed
from chainrule.codec.sources import array_member
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
    """A header that says whatever somebody wants it to."""

    def __init__(self, header, changes):
        self.embedded, self.fields = (
            changes.get("embedded", header.embedded),
            json.loads(zlib.decompress(header.pack())),
        )
        self.fields = {name: value for name, value in (self.fields | changes).items() if value is not ...}

    def pack(self):
        return zlib.compress(json.dumps(self.fields).encode())


def build(chunks=None, inside=None, of=MODEL, events=EVENTS, **changes):
    """An archive, all checksums right, with changes to its header (... takes a field away) or chunks."""
    x = torch.from_numpy(events).long()
    sound = make_header(of, [array_member(events, of)], inside is not None)
    stream = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Header, "unpack", lambda packed: None)  # which the writer would refuse to write
        writer = Writer(stream, Crafted(sound, changes), inside)
    for chunk in [encode_chunk(of, x)] if chunks is None else chunks:
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
        *({"count": count} for count in (61, 59, 10**18, -1, 60.0, True, None, "60")),
        *({"levels": levels} for levels in (2**40, 1, 5.0, [5])),
        *({"shape": shape} for shape in ([], [2**31, 2**31], [0], [1] * 20, ["1"], [True], 1, {"1": 1}, [[1]])),
        *({"members": members} for members in ([], 3, [3], [{"kind": "video"}], [{}], {}, None, [[]])),
        {"members": [{"kind": "images", "names": ["a.png"] * 60, "values": "scaled"}]},
        *({name: value} for name in ("fingerprint", "probe") for value in ("00" * 31, "0" * 64, "AB" * 32, 7, "é")),
        *({"embedded": value} for value in (1, True, None)),
        *({"model": name} for name in ("\ud800", "a\x1b[31m", "", "x" * 65, 7, "a b", "Ω")),
        *({"arithmetic": value} for value in (0, -1, "1", 1.0, [1])),
        {"unknown": 1},
        *({name: ...} for name in ("count", "members", "model", "embedded")),
    ],
)
def test_headers_that_cannot_be(changes):
    refused(build(**changes))


SOUND = packed(array_member(EVENTS, MODEL))


@pytest.mark.parametrize(
    "change",
    [
        *({"count": count} for count in (10**15, True, -1, 59, "60")),
        *({"dtype": dtype} for dtype in ("|O", "<f8", "|u1,|u1", 7, "|u1 ", "<U1", "<M8[s]")),
        *({"layout": layout} for layout in ("NHWC", "NHW", "flat", "", None, ["events"])),
        *({"values": values} for values in ("rounded", ["levels"], [], list(range(9)), [True, 2], {})),
        *({"kind": kind} for kind in ([], {}, None, "array ", "images", "kept")),
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


KEPT = packed(Kept.of("a.npz", "y", np.array([1, 2], np.uint8)))


@pytest.mark.parametrize(
    "change",
    [
        *({"dtype": dtype} for dtype in ("|O", "|V8", "|u3", "<U999999", "|S0", 1)),
        *({"shape": shape} for shape in ([3], [2**31], [-2], [2.0], [1] * 40, 2, [[2]])),
        *({"data": data} for data in ("", "####", "eJwDAAAAAAE=", "AAAA", None, "é")),
        *({"name": name} for name in ("", "../a.npz", 3)),
        *({"key": key} for key in ("", "../y")),
    ],
)
def test_kept_arrays_that_cannot_be(change):
    """What lies beside the images is as it says, and nothing is unpacked that does not end there."""
    file = SOUND | {"name": "a.npz", "key": "x"}
    assert info(io_file(build(members=[file, KEPT])))["files"] == ["a.npz"]
    with pytest.raises(CodecError):
        info(io_file(build(members=[file, KEPT | change])))


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
        '[{"kind":"images","values":"scaled","names":[' + '"",' * 2**23 + '""]}]',
        '[{"kind":"images","values":[' + "0," * 2**23 + '0],"names":[]}]',
        "[" * 2**23 + "]" * 2**23,
    ],
    ids=["objects", "lists", "names", "numbers", "brackets"],
)
def test_a_header_of_millions_is_counted_before_it_is_parsed(members, monkeypatch):
    """In well under the time, and the memory, that Python's objects for it would take."""
    parsed = []
    monkeypatch.setattr(json, "loads", lambda text: parsed.append(text))
    packed_header = zlib.compress(('{"members":' + members + "}").encode(), 1)
    began = time.process_time()
    with pytest.raises(CodecError):
        Header.unpack(packed_header)
    assert time.process_time() - began < 5
    assert not parsed


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


def test_a_chunk_of_more_than_any_writer_writes(monkeypatch):
    """It is refused before a walk over it takes memory."""
    big = exact(Histogram(5))
    monkeypatch.setattr(chunks_module, "TABLE_BYTES", 4 * 5 * 30)
    assert "more images than any has" in refused(build(chunks=[encode_chunk(big, torch.from_numpy(EVENTS))]))


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
    member = SOUND | {"layout": "flat" if len(shape) == 3 else "events"}
    changes = {"shape": shape, "members": [member], "model": str(claims["class"])}
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(build(inside=(json.dumps(config).encode(), weights), **changes), None)
    assert time.process_time() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


def test_the_shapes_of_every_model_are_found_without_making_it(case):
    """Those of its real weights; a model that could not be built so could not be embedded."""
    model = case.build()
    weights = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes_of(model.config, weights) == weights


def test_an_embedded_model_is_no_way_around_the_fingerprint():
    other = Histogram(5)
    with torch.no_grad():
        other.theta[0] = 1.0
    assert "another model" in refused(build(inside=model_bytes(exact(other))), None)


def test_info_needs_no_model(tmp_path):
    (tmp_path / "a.crz").write_bytes(BLOB)
    found = info(tmp_path / "a.crz")
    assert (found["images"], found["chunks"], found["bytes"], found["model"]) == (60, 3, len(BLOB), "Histogram")
    (tmp_path / "a.crz").write_bytes(BLOB[:-1])
    with pytest.raises(CodecError, match="truncated"):
        info(tmp_path / "a.crz")


def test_headers_survive():
    model = exact(MADE((2,), 4))
    header = make_header(model, [], False)
    assert Header.unpack(header.pack()) == header
