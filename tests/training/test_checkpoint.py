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
from chainrule.training.checkpoint import Checkpoint, Journal, differences, misfit

CPU = torch.device("cpu")
LIKE = {"step": 0, "weights": torch.zeros(4)}
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
    state = Checkpoint(saved.path, SETTINGS).read(CPU, LIKE)
    assert state["step"] == 3
    assert torch.equal(state["weights"], torch.arange(4.0))


def test_no_file_no_state(tmp_path):
    """Without a file, or without a path, there is nothing to resume from and nothing is written."""
    assert not Checkpoint(tmp_path / "none.pt", {}).exists()
    nowhere = Checkpoint(None, {})
    nowhere.write({"step": 1})
    assert not nowhere.exists()
    assert list(tmp_path.iterdir()) == []


def test_other_settings_are_refused_by_name(saved):
    """The difference is named, old value and new."""
    other = {"train": {"lr": 0.2, "betas": (0.9, 0.99)}, "data": "tiny"}
    with pytest.raises(ModelError, match=r"train\.lr was 0\.1, is 0\.2"):
        Checkpoint(saved.path, other).read(CPU, LIKE)
    with pytest.raises(ModelError, match=r"data was tiny, is None"):
        Checkpoint(saved.path, {"train": SETTINGS["train"]}).read(CPU, LIKE)


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
        Checkpoint(saved.path, SETTINGS).read(CPU, LIKE)


EXAMPLE = {
    "step": 0,
    "weights": {"a": torch.zeros(2, 3), "b": torch.zeros(3, dtype=torch.long)},
    "moments": {0: {"mean": torch.zeros(2), "step": torch.tensor(0.0)}, 1: {"mean": torch.zeros(3)}},
    "losses": [0.0, ...],
    "pairs": [(0, 0.0), ...],
}


def whole():
    """A state that is built like the example."""
    moments = {0: {"mean": torch.ones(2), "step": torch.tensor(4.0)}}
    weights = {"a": torch.ones(2, 3), "b": torch.ones(3, dtype=torch.long)}
    return {"step": 4, "weights": weights, "moments": moments, "losses": [1.0, 2.0], "pairs": [(1, 2.0)]}


def test_what_fits_a_state():
    """Other numbers, lists of other lengths and moments that are missing are no misfit."""
    assert misfit(whole(), EXAMPLE) is None
    assert misfit(whole() | {"moments": {}, "losses": [], "pairs": []}, EXAMPLE) is None


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("", lambda state: state.pop("weights")),
        ("", lambda state: state.update(more=1)),
        ("step", lambda state: state.update(step=4.0)),
        ("step", lambda state: state.update(step=True)),
        ("step", lambda state: state.update(step=torch.tensor(4))),
        ("weights", lambda state: state["weights"].pop("a")),
        ("weights", lambda state: state.update(weights=[1])),
        ("weights.a", lambda state: state["weights"].update(a=torch.ones(3, 2))),
        ("weights.a", lambda state: state["weights"].update(a=[[1.0] * 3] * 2)),
        ("weights.b", lambda state: state["weights"].update(b=torch.ones(3))),
        ("moments", lambda state: state["moments"].update({7: {}})),
        ("moments.0", lambda state: state["moments"][0].pop("step")),
        ("moments.0.mean", lambda state: state["moments"][0].update(mean=torch.ones(3))),
        ("losses", lambda state: state.update(losses=3)),
        ("losses.1", lambda state: state.update(losses=[1.0, None])),
        ("pairs.0", lambda state: state.update(pairs=[(1, 2.0, 3)])),
        ("pairs.0", lambda state: state.update(pairs=[[1, 2.0]])),
        ("pairs.0.1", lambda state: state.update(pairs=[(1, "2")])),
    ],
)
def test_what_does_not_fit_a_state(place, change):
    """A key too few or too many, another type, another shape: the place is named."""
    state = whole()
    change(state)
    assert misfit(state, EXAMPLE) == place


def test_a_state_of_another_build_is_refused(saved):
    """On reading, in one sentence."""
    with pytest.raises(ModelError, match=r"checkpoint\.pt is damaged .*weights does not fit\): remove it"):
        saved.read(CPU, LIKE | {"weights": torch.zeros(5)})


def test_a_checkpoint_runs_no_code(saved, tmp_path):
    """A pickle that wants to import something is refused, not run."""

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"settings": {}, "trap": Trap()}, saved.path)
    with pytest.raises(ModelError, match="damaged"):
        Checkpoint(saved.path, {}).read(CPU, LIKE)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_keeps_the_last_good_checkpoint(saved, monkeypatch, where):
    """One sentence, nothing left over, and the old checkpoint still loads."""
    monkeypatch.setattr(os, where, no_space)
    with pytest.raises(ChainruleError, match=r"cannot write .*No space left on device.*is kept"):
        saved.write({"step": 4, "weights": torch.zeros(4)})
    monkeypatch.undo()
    assert saved.read(CPU, LIKE)["step"] == 3
    assert [path.name for path in saved.path.parent.iterdir()] == ["checkpoint.pt"]


FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from chainrule.training.checkpoint import Checkpoint
from chainrule.errors import ChainruleError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
kept = Checkpoint(Path(sys.argv[1]), {"data": "tiny"})
kept.write({"step": 1, "weights": torch.zeros(4)})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    kept.write({"step": 2, "weights": torch.zeros(100_000)})
except ChainruleError as error:
    print(error)
    print(kept.read(torch.device("cpu"), {"step": 0, "weights": torch.zeros(4)})["step"])
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


@pytest.mark.parametrize(
    "older",
    [
        None,
        b"",
        b'{"step": 1, "train": 0.5}\n{"step": 2, "tra',
        b'{"step": 9, "train": 0.5}\n',
        b"[1, 2]\n",
        b'"a word"\n\0\0\0',
        b'\xff\xfe{"step": 1, "train": 0.5}\n',
    ],
)
def test_a_journal_begins_with_what_the_checkpoint_knows(tmp_path, older):
    """Whatever became of the file: cut off, ahead of the checkpoint, a list, no UTF-8; then it goes on cleanly."""
    path = tmp_path / "metrics.jsonl"
    if older is not None:
        path.write_bytes(older)
    journal = Journal(path)
    journal.begin([0.5, 0.25], [(2, 0.3)])
    assert read(path) == RECORDS[:3]
    journal.add(RECORDS[3])
    journal.flush()
    assert read(path) == RECORDS


def test_a_new_journal_is_empty(tmp_path):
    """What an older run left is gone; where there was nothing, nothing is made."""
    Journal(tmp_path / "none.jsonl").begin()
    Journal(None).begin([0.5])
    assert list(tmp_path.iterdir()) == []
    path = tmp_path / "metrics.jsonl"
    journal_with(path, *RECORDS).begin()
    assert path.read_bytes() == b""


def test_a_full_disk_under_the_journal(tmp_path, monkeypatch):
    """One sentence that names the file."""
    monkeypatch.setattr(checkpoint, "open", no_space, raising=False)
    with pytest.raises(ChainruleError, match=r"cannot write .*metrics\.jsonl: No space"):
        journal_with(tmp_path / "metrics.jsonl", RECORDS[0])
