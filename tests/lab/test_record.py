"""tools/record.py keeps what the report reads of a run, and the report shows the copy like the run."""

import doctest
import importlib.util
import json
import runpy
import sys
from pathlib import Path

import pytest

from chainrule.errors import DataError
from chainrule.lab.report.readers import read_one
from lab.report.runs import write_run

TOOL = Path(__file__).parents[2] / "tools" / "record.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("record", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_hold(tool):
    assert doctest.testmod(tool) == (0, 3)


def test_a_recorded_run_is_the_run_with_fewer_training_lines(tool, tmp_path):
    result = write_run(tmp_path / "run", "gated", steps=57)
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"large")
    (tmp_path / "run" / "model").mkdir()
    tool.record(tmp_path / "run", tmp_path / "kept" / "gated")
    files = sorted(path.name for path in (tmp_path / "kept" / "gated").iterdir())
    assert files == ["arrays.npz", "config.json", "metrics.jsonl", "result.json"]
    run, kept = (read_one(tmp_path / name, True) for name in ("run", "kept/gated"))
    assert kept.result == run.result == json.loads(json.dumps(result))
    assert kept.train == run.train
    assert kept.curve[0].tolist() == [10, 20, 30, 40, 50]
    assert kept.curve[1].tolist() == run.curve[1][9::10].tolist()
    assert [part.tolist() for part in kept.validation] == [part.tolist() for part in run.validation]
    assert all((kept.arrays[name] == run.arrays[name]).all() for name in run.arrays)


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
