"""tools/photos.py and tools/resources.py: which pictures the photograph models are trained on, and in which sizes."""

from __future__ import annotations

import importlib
import io
import struct
from pathlib import Path

import pytest
from PIL import Image

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tools(monkeypatch):
    """The modules `resources` and `photos`."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("resources"), importlib.import_module("photos")


def resource_file(files: dict[str, bytes], folder: str = "erase") -> bytes:
    """As `rcc` writes it: a root, one folder, and files; the last of them is said to be compressed."""
    names, contents, tree = b"", b"", b""
    nodes = [("", 2, 1, 1), (folder, 2, len(files), 2)]
    for number, (name, content) in enumerate(files.items(), 1):
        nodes.append((name, 4 * (number == len(files)), 0, len(contents)))
        contents += struct.pack(">I", len(content)) + content
    for name, flags, first, second in nodes:
        tree += struct.pack(">IHIIQ", len(names), flags, first, second, 0)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    start = 20
    header = struct.pack(
        ">4sIIII", b"qres", 2, start, start + len(tree), start + len(tree) + len(contents)
    )  # the tree, the contents, the names
    return header + tree + contents + names


def webp(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, "webp")
    return buffer.getvalue()


def test_files_of_a_resource(tools, tmp_path):
    """All but compressed ones, under their paths."""
    path = tmp_path / "a.rcc"
    path.write_bytes(resource_file({"é.webp": b"abc", "b.txt": b"", "c.txt": b"gone"}))
    assert dict(tools[0].files(path)) == {"/erase/é.webp": b"abc", "/erase/b.txt": b""}
    path.write_bytes(b"qres" + bytes(40))
    with pytest.raises(SystemExit, match="not a Qt resource file"):
        list(tools[0].files(path))


def test_photographs_among_other_things(tools, tmp_path):
    """Large WebP pictures of the activities that show photographs, and the JPEGs of the other packages."""
    rcc, demo = (tmp_path / package / "usr/share" for package in ("gcompris-qt-data/", "kphotoalbum"))
    for folder in (rcc / "gcompris-qt/rcc", demo / "kphotoalbum/demo"):
        folder.mkdir(parents=True)
    content = resource_file({"large.webp": webp(500, 400), "small.webp": webp(40, 40), "x.txt": b"", "last": b""})
    for name in ("erase", "chess"):
        (rcc / f"gcompris-qt/rcc/{name}.rcc").write_bytes(content)
    for name in ("sea.jpg", "index.xml"):
        (demo / "kphotoalbum/demo" / name).touch()
    found = tools[1].more_pictures(tmp_path)
    assert sorted(found) == ["erase-large", "kphotoalbum-sea"]
    with Image.open(found["erase-large"]) as picture:
        assert picture.size == (500, 400)


def test_no_version_keeps_traces_of_compression(tools):
    """Each is shrunk to a half at most, and none is larger than the set's pictures are."""
    versions = tools[1].versions
    for size in [(683, 400), (1024, 768), (1920, 1080), (600, 5000), (3840, 2160)]:
        for split, more in [("train", False), ("test", False), ("train", True)]:
            found = versions(size, split, more)
            assert len(found) <= (3 if split == "train" else 1)
            assert bool(found) == (more or min(size) >= 768 or (split == "train" and min(size) >= 640))
            for short, factor, _ in found:
                assert factor <= 0.5
                assert short == round(min(size) * factor) <= 448
            assert len({short for short, _, _ in found}) == len(found)
