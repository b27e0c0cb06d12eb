"""Archives with mutated parts and repaired checksums: the same files come back, or one sentence, and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import json
import resource
import struct
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from chainrule.codec import chunks, compress_files, decompress_file, info, picture_chunks, varints
from chainrule.codec.container import CHUNK, CRC, MODEL, PREFIX, USUAL, USUAL_MODEL
from chainrule.codec.model_blocks import Unpacking
from chainrule.errors import ChainruleError
from chainrule.fixedpoint import exact
from chainrule.models import Histogram, LogisticPixelCNN, PixelCNN

SECONDS, KILOBYTES = 60, 600_000
"""What one archive may take on a busy machine, and all of them."""
ODD = [None, True, -1, 0, 1, 2, 3, 255, 2**31, 2**53, 10**30, 1.5, "", "a", "../a", "\ud800", "\x1b[2J", [], {}, [1]]
ODD += ["levels", "scaled", "pixels", "NHW", "flat", "<i8", "|u1", "<U9", [3, None, None], [2**20, 1, 1]]
EXTREME = [0, 1, 2, 127, 128, 255, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1]


def smooth(rand, height, width, channels):
    y, x = np.mgrid[:height, :width]
    return (90 + 40 * np.sin(y / 5 + x / 7)[..., None] + rand.randint(0, 3, (height, width, channels))).astype(np.uint8)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Archives of every kind of block, the models that they need, and what is in them."""
    top, rand = tmp_path_factory.mktemp("mutations"), np.random.RandomState(0)
    torch.manual_seed(0)
    models = [exact(PixelCNN((1, 6, 5), 256, 4, 0)), exact(LogisticPixelCNN((3, None, None), 256, 4, 0))]
    folder = top / "pictures"
    folder.mkdir()
    gray, colors = smooth(rand, 6, 5, 1)[..., 0], smooth(rand, 24, 20, 3)
    pictures = {
        "gray.png": (Image.fromarray(gray), {}),
        "again.png": (Image.fromarray(gray[::-1]), {}),
        "rgb.png": (Image.fromarray(colors), {}),
        "rgba.png": (Image.fromarray(np.concatenate([colors, colors[..., :1]], 2)), {}),
        "la.png": (Image.fromarray(np.stack([gray, gray], 2)), {}),
        "noise.png": (Image.fromarray(rand.randint(0, 256, (12, 12, 3)).astype(np.uint8)), {}),
        "bits.png": (Image.fromarray(gray > 90), {}),
        "photo.jpg": (Image.fromarray(colors), {}),
        "x.bmp": (Image.fromarray(colors[:9]), {}),
        "x.tif": (Image.fromarray(gray[:4]), {}),
        "x.webp": (Image.fromarray(colors[:7]), {"lossless": True}),
        "x.gif": (Image.fromarray(gray), {}),
        "key.png": (Image.fromarray(gray), {"transparency": 90, "dpi": (70, 70)}),
    }
    index = Image.fromarray(gray % 5).convert("P")
    index.putpalette(bytes(range(15)))
    pictures["sub/index.png"] = (index, {"transparency": b"\1\2", "bits": 4})
    (folder / "sub").mkdir()
    for name, (image, options) in pictures.items():
        image.save(folder / name, **options)
    arrays = {"x": smooth(rand, 9, 30, 1)[..., 0].reshape(9, 6, 5), "y": np.arange(9), "noise": rand.bytes(90)}
    np.savez(top / "a.npz", **{name: np.array(value) for name, value in arrays.items()})
    np.save(top / "e.npy", rand.randint(0, 5, (40, 1)).astype(np.uint8))
    histogram, files = exact(Histogram(5)), []
    for name, given, chosen, embed in (
        ("pictures", folder, models, False),
        ("usual", folder, [], False),
        ("embedded", [folder / "gray.png", folder / "rgb.png"], models, True),
        ("arrays", top / "a.npz", models[:1], False),
        ("events", top / "e.npy", [histogram], True),
    ):
        compress_files(given, chosen, top / f"{name}.crz", embed_model=embed, chunk=25)
        back = top / f"{name}.back"
        decompress_file(top / f"{name}.crz", back, None if embed else chosen)
        files.append(((top / f"{name}.crz").read_bytes(), None if embed else chosen, contents(back)))
    return files


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder, and in the place of boxes of arrays, which have dates, what is in them."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as box:
                found |= {f"{name}/{inner}": box.read(inner) for inner in box.namelist()}
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def parts(blob: bytes) -> list[bytes]:
    """The blocks of a sound archive, without their checksums."""
    found, place = [], 0
    while place < len(blob):
        tag = blob[place : place + 1]
        if tag == b"E":
            return found
        if tag == b"M":
            length = MODEL.size + sum(MODEL.unpack_from(blob, place)[1:])
        elif tag == b"C":
            length = CHUNK.size + CHUNK.unpack_from(blob, place)[1]
        else:
            length = PREFIX.size + PREFIX.unpack_from(blob)[2]
        found.append(blob[place : place + length])
        place += length + CRC.size
    raise AssertionError


def whole(blocks: list[bytes]) -> bytes:
    """Blocks with the checksums that belong to them."""
    seal, blob = b"", b""
    for block in blocks:
        crc = CRC.pack(zlib.crc32(block))
        blob, seal = blob + block + crc, seal + crc
    return blob + b"E" + CRC.pack(zlib.crc32(seal + b"E"))


def bent(data: bytes, rand) -> bytes:
    """Some of the bytes changed, taken away, put in, or replaced by an extreme number."""
    found = bytearray(data)
    for _ in range(rand.choice([1, 1, 1, 2, 5])):
        place = rand.randint(len(found) + 1)
        kind = rand.randint(6)
        if kind < 2 and place < len(found):
            found[place] = rand.randint(256) if kind else found[place] ^ 1 << rand.randint(8)
        elif kind == 2:
            del found[place : place + rand.randint(1, 9)]
        elif kind == 3:
            found[place:place] = rand.bytes(rand.randint(1, 9))
        else:
            number = EXTREME[rand.randint(len(EXTREME))]
            stored = varints.pack([number]) if kind == 4 else struct.pack("<I", number)
            found[place : place + len(stored)] = stored
    return bytes(found)


def bent_json(text: bytes, rand) -> bytes:
    """A value of a JSON text replaced, or a field taken away or named otherwise."""
    whole = json.loads(text)
    places = []

    def look(at) -> None:
        for key in list(at) if isinstance(at, dict) else range(len(at)):
            places.append((at, key))
            if isinstance(at[key], dict | list):
                look(at[key])

    look(whole)
    at, key = places[rand.randint(len(places))]
    odd = [*ODD, at[key]]
    kind = rand.randint(8)
    if kind == 0:
        del at[key]
    elif kind == 1 and isinstance(at, dict):
        at["other"] = at.pop(key)
    elif kind == 2 and type(at[key]) is int:
        at[key] += int(rand.choice([-1, 1]))
    else:
        at[key] = json.loads(json.dumps(odd[rand.randint(len(odd))]))
    return json.dumps(whole).encode()


def deflated(data: bytes, **options) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, **options)
    return packer.compress(data) + packer.flush()


def mutated(blocks: list[bytes], rand) -> tuple[list[bytes], bool]:
    """Blocks of which one is changed, at any depth; whether that was the header."""
    blocks = list(blocks)
    place = rand.choice(len(blocks))
    block, deep = blocks[place], rand.rand() < 0.7
    if rand.rand() < 0.03:
        blocks.insert(rand.randint(1, len(blocks) + 1), blocks[place])
    elif rand.rand() < 0.03:
        del blocks[place]
    elif place == 0:
        _, version, _ = PREFIX.unpack_from(block)
        text = zlib.decompressobj(-15, zdict=USUAL).decompress(block[PREFIX.size :])
        text = bent_json(text, rand) if deep else bent(text, rand)
        stored = deflated(text, zdict=USUAL)
        blocks[0] = PREFIX.pack(block[:8], version, len(stored)) + stored
    elif block[:1] == b"M":
        _, *lengths = MODEL.unpack_from(block)
        ends = np.cumsum([MODEL.size, *lengths])
        files = [block[a:b] for a, b in itertools.pairwise(ends)]
        which = rand.randint(3)
        if which == 0 and deep:
            account = zlib.decompressobj(-15, zdict=USUAL_MODEL).decompress(files[0])
            files[0] = deflated(bent_json(account, rand), zdict=USUAL_MODEL)
        elif files[which]:
            files[which] = (bent_json if deep and which == 1 else bent)(files[which], rand)
        blocks[place] = MODEL.pack(b"M", *map(len, files)) + b"".join(files)
    else:
        _, _, count, digest = CHUNK.unpack_from(block)
        payload = block[CHUNK.size :]
        (length,), start = varints.take(payload, 1, 0)
        with contextlib.suppress(zlib.error):  # a chunk that has no table
            if deep and length > 9:
                table = zlib.decompressobj(-15).decompress(payload[start : start + length])
                rest, table = payload[start + length :], bent(table, rand)
                payload = varints.pack([len(deflated(table))]) + deflated(table) + rest
                deep = False
        payload = bent(payload, rand) if deep or payload == block[CHUNK.size :] else payload
        count = int(rand.choice(EXTREME)) if rand.rand() < 0.05 else count
        blocks[place] = CHUNK.pack(b"C", len(payload), count, digest) + payload
    return blocks, place == 0


class Forged:
    """What somebody's archive has who knows what its digests must be."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def digest(self) -> bytes:
        return bytes(32)


def attack(archives, numbers, tmp_path: Path, monkeypatch) -> dict[str, int]:
    """Hold many mutants to the law."""
    found = {"same": 0, "other": 0, "refused": 0}
    real, proofs = Unpacking._proved, {}

    def proved(self, model, known):  # the probe of one model is the same every time
        key = known.fingerprint, known.probe
        if key not in proofs:
            proofs[key] = real(self, model, known)
        return model

    monkeypatch.setattr(Unpacking, "_proved", proved)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in numbers:
        rand = np.random.RandomState(number)
        blob, models, expected = archives[rand.randint(len(archives))]
        blocks, header = mutated(parts(blob), rand)
        forge = rand.rand() < 0.4
        if forge:
            blocks = [b[:9] + bytes(32) + b[CHUNK.size :] if b[:1] == b"C" else b for b in blocks]
        top = tmp_path / f"{number}"
        top.mkdir()
        (top / "a.crz").write_bytes(whole(blocks))
        began = time.process_time()
        with pytest.MonkeyPatch.context() as patch:
            if forge:
                fake = type("hashlib", (), {"sha256": Forged})
                patch.setattr(picture_chunks, "hashlib", fake)
                patch.setattr(chunks, "hashlib", fake)
                patch.setattr(chunks, "digest_of", lambda x, levels: bytes(32))
            with contextlib.suppress(ChainruleError):
                info(top / "a.crz")
            try:
                decompress_file(top / "a.crz", top / "in" / "back", models)
                back = contents(top / "in" / "back")
                found["same" if back == expected else "other"] += 1
                if not header and not forge:
                    assert back == expected, number
            except ChainruleError:
                found["refused"] += 1
                assert not (top / "in").exists(), number
        assert {path.name for path in top.iterdir()} <= {"a.crz", "in"}, number
        assert not (top / "in").exists() or {path.name for path in (top / "in").iterdir()} == {"back"}, number
        assert time.process_time() - began < SECONDS, number
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KILOBYTES
    return found


def test_the_parts_of_an_archive_make_it(archives):
    for blob, _, expected in archives:
        assert whole(parts(blob)) == blob
        assert expected


def test_mutants_come_back_the_same_or_are_refused(archives, tmp_path, monkeypatch):
    found = attack(archives, range(150), tmp_path, monkeypatch)
    assert found["refused"] > 100
    assert found["same"] > 0


@pytest.mark.thorough
def test_six_thousand_mutants(archives, tmp_path, monkeypatch):
    assert attack(archives, range(1000, 7000), tmp_path, monkeypatch)["refused"] > 4000
