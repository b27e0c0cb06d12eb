"""A file is written whole or not at all, whatever goes wrong on the way."""

from __future__ import annotations

import errno
import os
import pathlib

import pytest

from chainrule.atomic import replacing, write_bytes
from chainrule.errors import DataError


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_is_replaced(tmp_path):
    """The new content under the old name, and no other file."""
    path = tmp_path / "new" / "a.bin"
    for content in (b"one", b"two"):
        write_bytes(path, content)
        assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["a.bin"]


def test_the_content_is_on_disk_before_the_name(tmp_path, monkeypatch):
    """fsync first, then the rename."""
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))[1])
    write_bytes(tmp_path / "a", b"content")
    assert calls == ["fsync", "replace"]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("where", ["mkdir", "write", "fsync", "replace"])
def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch, where, there):
    """One sentence that promises the old file only where there is one, and nothing left over."""
    path = tmp_path / "a.bin"
    if there:
        path.write_bytes(b"old")
    if where == "write":
        monkeypatch.setattr(pathlib.Path, "write_bytes", no_space)
    elif where == "mkdir":
        monkeypatch.setattr(pathlib.Path, "mkdir", no_space)
    else:
        monkeypatch.setattr(os, where, no_space)
    with pytest.raises(DataError, match=r"cannot write .*a\.bin: No space left on device") as caught:
        write_bytes(path, b"new")
    monkeypatch.undo()
    assert ("is kept" in str(caught.value)) == there
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.bin", b"old")] * there


def test_what_fails_while_writing_leaves_nothing(tmp_path):
    """An error of another kind, Ctrl-C too, passes through; the half-written file goes."""

    def write(error):
        with replacing(tmp_path / "a.png") as temporary:
            assert temporary.suffix == ".png"
            temporary.write_bytes(b"half")
            raise error

    for error in (KeyError, KeyboardInterrupt):
        with pytest.raises(error):
            write(error)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    """A file where a folder should be is one sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_bytes(tmp_path / "file" / "below", b"")
