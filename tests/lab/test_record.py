"""tools/record.py keeps what the report reads of a run, and the report shows the copy like the run."""

import doctest
import importlib.util
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from chainrule import zoo
from chainrule.errors import DataError
from chainrule.lab.run_folder import read_run, write_run
from chainrule.models import MADE

TOOL = Path(__file__).parents[2] / "tools" / "record.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("record", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_hold(tool):
    assert doctest.testmod(tool).failed == 0


def test_what_ships_is_rounded_and_packed(monkeypatch, tmp_path):
    """Matrices to seven significant bits, vectors to float16; the packed file alone, which loads as the plain one."""
    monkeypatch.syspath_prepend(str(TOOL.parent))
    ship = importlib.import_module("ship")
    assert doctest.testmod(ship) == (0, 1)
    x = torch.randn(50, 3)
    assert torch.equal(ship.rounded(x[0]), x[0].half().float())
    assert float((ship.rounded(x) / x - 1).abs().max()) <= 2**-ship.SIGNIFICANT
    MADE((3,), 4).save_pretrained(tmp_path)
    plain = zoo.load(tmp_path).state_dict()
    ship.pack(tmp_path, (tmp_path / zoo.WEIGHTS).read_bytes())
    assert not (tmp_path / zoo.WEIGHTS).exists()
    assert all(torch.equal(value, plain[name]) for name, value in zoo.load(tmp_path).state_dict().items())


def write(folder, steps, every):
    """A run folder, with losses that a person can add up."""
    write_run(folder, "gated", {"test_bits_per_dim": 0.2}, {"samples": np.arange(6)})
    rows = []
    for step in range(1, steps + 1):
        rows.append({"step": step, "train": 1 / step})
        if step % every == 0:
            rows.append({"step": step, "validation": 2 / step})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "checkpoint.pt").write_bytes(b"large")
    (folder / "model").mkdir()


def curve(rows, name):
    return [(row["step"], row[name]) for row in rows if name in row]


def test_a_recorded_run_is_the_run_with_a_thinner_curve(tool, tmp_path):
    """Results, arrays and validations as they are; the training curve in means of equal stretches."""
    write(tmp_path / "run", steps=57, every=5)
    tool.record(tmp_path / "run", tmp_path / "kept" / "gated", 10)
    files = sorted(path.name for path in (tmp_path / "kept" / "gated").iterdir())
    assert files == ["arrays.npz", "config.json", "metrics.jsonl", "result.json"]
    (result, rows, arrays), (kept_result, kept, kept_arrays) = map(
        read_run, (tmp_path / "run", tmp_path / "kept/gated")
    )
    assert kept_result == result
    assert all((kept_arrays[name] == arrays[name]).all() for name in arrays)
    assert curve(kept, "validation") == curve(rows, "validation")
    steps, losses = np.array(curve(kept, "train")).T
    assert len(steps) == 10
    assert (np.diff(steps) >= 5).all()
    assert [row["step"] for row in kept] == sorted(row["step"] for row in kept)
    assert losses[0] == pytest.approx(np.mean(1 / np.arange(1, 6)), abs=1e-6)
    lengths = np.diff([k * 57 // 10 for k in range(11)])
    assert (kept[0]["least"], kept[0]["most"]) == (0.2, 1)
    assert (losses * lengths).sum() == pytest.approx(sum(loss for _, loss in curve(rows, "train")), abs=1e-4)


def test_short_and_long_curves(tool, tmp_path):
    """A curve that is short already stays; of many validations the first and last are kept, and each as it was."""
    write(tmp_path / "run", steps=2000, every=5)
    _, rows, _ = read_run(tmp_path / "run")
    assert tool.thinned(rows[:40]) == rows[:40]
    kept = tool.thinned(rows)
    assert len(curve(kept, "train")) == 100
    validation = curve(kept, "validation")
    assert len(validation) == 50
    assert set(validation) <= set(curve(rows, "validation"))
    assert (validation[0][0], validation[-1][0]) == (5, 2000)
    assert tool.thinned(kept) == kept


def test_what_is_kept_of_the_runs_in_the_repository():
    """No more than a few thousand lines of curves."""
    recorded = TOOL.parents[1] / "recorded"
    counts = [len(path.read_text().splitlines()) for path in recorded.rglob("metrics.jsonl")]
    assert sum(counts) <= 3500


def test_what_is_no_run_is_not_recorded(tool, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="holds no finished run"):
        tool.record(tmp_path, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    (tmp_path / "there").mkdir()
    there, new = tmp_path / "there", tmp_path / "new"
    for arguments, sentence in (([], "usage"), ([tmp_path, there], "there already"), ([tmp_path, new], "no finished")):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        with pytest.raises(SystemExit, match=f"^[^\n]*{sentence}[^\n]*$"):  # a sentence is printed, with status 1
            runpy.run_path(str(TOOL), run_name="__main__")
    assert not new.exists()
