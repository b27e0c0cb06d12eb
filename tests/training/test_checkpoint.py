"""Checkpoints are whole or absent, and journals are cut where a run resumes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest
import torch

from chainrule.errors import ChainruleError, ModelError
from chainrule.training import checkpoint
from chainrule.training.checkpoint import Checkpoint, Journal, differences

CPU = torch.device("cpu")
SETTINGS = {"train": {"lr": 0.1, "betas": (0.9, 0.99)}, "data": "tiny"}


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def saved(tmp_path):
    """A checkpoint that was written once."""
    kept = Checkpoint(tmp_path / "checkpoint.pt", SETTINGS)
    kept.write({"step": 3, "weights": torch.arange(4.0)})
    return kept


def test_round_trip(saved):
    """What was written is read: tuples and lists in the settings count as the same."""
    state = Checkpoint(saved.path, SETTINGS).read(CPU)
    assert state["step"] == 3
    assert torch.equal(state["weights"], torch.arange(4.0))


def test_no_file_no_state(tmp_path):
    """Without a file, or without a path, there is nothing to resume from and nothing is written."""
    assert Checkpoint(tmp_path / "none.pt", {}).read(CPU) is None
    nowhere = Checkpoint(None, {})
    nowhere.write({"step": 1})
    assert nowhere.read(CPU) is None
    assert list(tmp_path.iterdir()) == []


def test_other_settings_are_refused_by_name(saved):
    """The difference is named, old value and new."""
    other = {"train": {"lr": 0.2, "betas": (0.9, 0.99)}, "data": "tiny"}
    with pytest.raises(ModelError, match=r"train\.lr was 0\.1, is 0\.2"):
        Checkpoint(saved.path, other).read(CPU)
    with pytest.raises(ModelError, match=r"data was tiny, is None"):
        Checkpoint(saved.path, {"train": SETTINGS["train"]}).read(CPU)


def test_differences_lists_all():
    """Every differing leaf, nested or missing on either side."""
    old, new = {"a": {"b": 1, "c": 2}, "d": [1], "e": 1}, {"a": {"b": 3, "c": 2}, "d": [2], "f": 1}
    lines = ["a.b was 1, is 3", "d was [1], is [2]", "e was 1, is None", "f was None, is 1"]
    assert differences(old, new) == lines
    assert differences(old, old) == []


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "flipped", "no settings", "a list"])
def test_a_damaged_file_is_refused(saved, damage):
    """Whatever is broken, it is a ModelError that names the file."""
    content = saved.path.read_bytes()
    if damage == "no settings":
        torch.save({"step": 1}, saved.path)
    elif damage == "a list":
        torch.save([1, 2], saved.path)
    else:
        half = len(content) // 2
        flipped = content[:half] + bytes([content[half] ^ 0xFF]) * 40 + content[half + 40 :]
        new = {"truncated": content[:-100], "empty": b"", "garbage": b"not a checkpoint", "flipped": flipped}[damage]
        saved.path.write_bytes(new)
    with pytest.raises(ModelError, match=r"checkpoint\.pt is damaged"):
        Checkpoint(saved.path, SETTINGS).read(CPU)


def test_a_checkpoint_runs_no_code(saved, tmp_path):
    """A pickle that wants to import something is refused, not run."""

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"settings": {}, "trap": Trap()}, saved.path)
    with pytest.raises(ModelError, match="damaged"):
        Checkpoint(saved.path, {}).read(CPU)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_keeps_the_last_good_checkpoint(saved, monkeypatch, where):
    """One sentence, nothing left over, and the old checkpoint still loads."""
    monkeypatch.setattr(os, where, no_space)
    with pytest.raises(ChainruleError, match=r"cannot write .*No space left on device.*is kept"):
        saved.write({"step": 4, "weights": torch.zeros(4)})
    monkeypatch.undo()
    assert saved.read(CPU)["step"] == 3
    assert [path.name for path in saved.path.parent.iterdir()] == ["checkpoint.pt"]


FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from chainrule.training.checkpoint import Checkpoint
from chainrule.errors import ChainruleError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
kept = Checkpoint(Path(sys.argv[1]), {"data": "tiny"})
kept.write({"step": 1, "weights": torch.zeros(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    kept.write({"step": 2, "weights": torch.zeros(100_000)})
except ChainruleError as error:
    print(error)
    print(kept.read(torch.device("cpu"))["step"])
"""


def test_a_real_limit_on_file_size(tmp_path):
    """The same with the system's own refusal in the middle of a write."""
    path = tmp_path / "checkpoint.pt"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    sentence, step = done.stdout.splitlines()
    assert "cannot write" in sentence
    assert "is kept" in sentence
    assert step == "1"
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


# ------------------------------------------------------------------------------------------------------------- journal


def journal_with(path, *records):
    journal = Journal(path)
    for record in records:
        journal.add(record)
    journal.flush()
    return journal


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


RECORDS = [
    {"step": 1, "train": 0.5},
    {"step": 2, "train": 0.25},
    {"step": 2, "validation": 0.3},
    {"step": 3, "train": 0.1},
]


def test_journal_keeps_one_record_a_line(tmp_path):
    """Appended in order, over several flushes, without repetition."""
    path = tmp_path / "run" / "metrics.jsonl"
    journal = journal_with(path, *RECORDS[:2])
    journal.flush()
    journal.add(RECORDS[2])
    journal.flush()
    assert read(path) == RECORDS[:3]


def test_nothing_is_written_before_a_flush_or_without_a_path(tmp_path):
    """Noting is not writing."""
    Journal(tmp_path / "metrics.jsonl").add(RECORDS[0])
    journal_with(None, *RECORDS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("step", "kept"), [(0, 0), (1, 1), (2, 3), (3, 4), (9, 4)])
def test_cut_forgets_later_steps(tmp_path, step, kept):
    """Records of the step itself stay, those after it go."""
    path = tmp_path / "metrics.jsonl"
    journal_with(path, *RECORDS).cut(step)
    assert read(path) == RECORDS[:kept]


@pytest.mark.parametrize("torn", ['{"step": 3, "tra', "{", "\0\0\0\0", '{"step": 3, "train": 0.123'])
def test_cut_tolerates_a_torn_last_line(tmp_path, torn):
    """A line that was being written when the process died is dropped, and the journal goes on cleanly."""
    path = tmp_path / "metrics.jsonl"
    journal_with(path, *RECORDS[:2])
    with path.open("a") as file:
        file.write(torn)
    journal = Journal(path)
    journal.cut(2)
    journal.add(RECORDS[2])
    journal.flush()
    assert read(path) == RECORDS[:3]


def test_cut_without_a_file(tmp_path):
    """Nothing to cut is no error."""
    Journal(tmp_path / "none.jsonl").cut(3)
    Journal(None).cut(3)


def test_a_full_disk_under_the_journal(tmp_path, monkeypatch):
    """One sentence that names the file."""
    monkeypatch.setattr(checkpoint, "open", no_space, raising=False)
    with pytest.raises(ChainruleError, match=r"cannot write .*metrics\.jsonl: No space"):
        journal_with(tmp_path / "metrics.jsonl", RECORDS[0])
