"""What `chainrule doctor` and `--version` say of the installation, and what is said once without compiled code."""

from __future__ import annotations

import json
import os

import pytest
import torch

from chainrule import compiled
from chainrule.cli import installation, main
from chainrule.compiled import library
from chainrule.models import PixelCNNMADE


@pytest.fixture
def unbuilt(monkeypatch, tmp_path):
    """An installation without compiled code, and a cache of its own."""
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(library.SWITCH, raising=False)
    monkeypatch.setattr(library, "place", lambda: tmp_path / "_compiled.so")
    library.library.cache_clear()
    yield
    library.library.cache_clear()


def test_version_says_the_commit_and_the_engines(capsys, monkeypatch, unbuilt):
    assert main(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("chainrule ")
    assert second == "engines: steps"
    library.place().touch()
    assert installation.engines() == "compiled, steps"
    monkeypatch.setenv(library.SWITCH, "0")
    assert installation.engines() == "steps"


def test_doctor_looks_the_installation_over(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert torch.__version__ in found["pytorch"]
    assert found["compiled_code"].startswith("ready") == compiled.available()
    assert f"{torch.get_num_threads()} of" in found["threads"]
    assert {"chainrule", "python", "system", "compiler", "data_cache", "hub_cache"} <= found.keys()
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {sentence}.\n" in text for sentence in found["slow"] if "other programs" not in sentence)


def test_doctor_without_a_compiler(unbuilt, capsys, monkeypatch):
    """Both are said: that there is no compiled code, and that there is nothing to build it with."""
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setenv("CC", "no-such-compiler")
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["compiler"].startswith("none: install gcc or clang")
    assert found["compiled_code"] == found["slow"][0] == library.why_missing()


@pytest.mark.skipif(not compiled.available(), reason="chainrule was installed without a C compiler")
def test_the_width_of_vectors_is_what_may_be_used():
    widths = []
    for widest in (0, 1, 2):
        library.library().chainrule_limit(widest)
        widths.append(library.library().chainrule_width())
    assert widths[0] == 4
    assert widths == sorted(widths)
    assert set(widths) <= {4, 8, 16}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"missing": "no compiled code"}, "no compiled code"),
        ({"width": 4}, "AVX2"),
        ({"threads": 1}, "OMP_NUM_THREADS=2"),
        ({"threads": 4}, "share 2 cores"),
        ({"busy": 1.5}, "want 1.5 cores of 2"),
    ],
)
def test_each_reason_to_be_slow_is_told(state, words, monkeypatch):
    monkeypatch.setattr(installation.platform, "machine", lambda: "x86_64")
    well = {"missing": None, "width": 8, "threads": 2, "cores": 2, "busy": 0.1, "gpu": True}
    assert installation.what_is_slow(**well) == []
    (sentence,) = installation.what_is_slow(**well | state)
    assert words in sentence


def test_missing_code_is_said_once_where_it_counts(unbuilt, tmp_path, capsys, monkeypatch):
    """By the verbs that walk; not by the others, not where it was switched off, not again."""
    PixelCNNMADE((1, 3, 3), 2, filters=4, blocks=1).save_pretrained(tmp_path / "model")
    model, array, archive = (str(tmp_path / name) for name in ("model", "x.npy", "x.crz"))
    sample = ["sample", model, "-n", "2", "-o", array]
    monkeypatch.setenv(library.SWITCH, "0")
    assert main(sample) == 0
    monkeypatch.delenv(library.SWITCH)
    assert main(["doctor", model]) == 0
    assert capsys.readouterr().err == ""
    assert main(sample) == 0
    assert "without a C compiler" in capsys.readouterr().err
    assert main(sample) == 0
    assert main(["compress", array, "-m", model, "-o", archive]) == 0
    assert "compiled" not in capsys.readouterr().err
    monkeypatch.setattr(library, "place", lambda: tmp_path / "elsewhere" / "_compiled.so")
    assert main(["decompress", archive, "-m", model, "-o", str(tmp_path / "y")]) == 0
    assert "without a C compiler" in capsys.readouterr().err


def test_the_library_itself_says_nothing(unbuilt, capsys):
    """Who calls it from Python asks `why_missing`."""
    PixelCNNMADE((1, 3, 3), 2, filters=4, blocks=1).sample(2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("checkout", "command"), [(True, "--no-deps -e "), (False, "--no-binary chainrule")])
def test_the_command_that_helps(checkout, command, monkeypatch, tmp_path):
    """pip keeps a wheel without compiled code, and an index may have one: neither may be taken again."""
    inside = tmp_path / "top" / "src" / "chainrule" / "compiled"
    inside.mkdir(parents=True)
    if checkout:
        (tmp_path / "top" / "setup.py").touch()
    monkeypatch.setattr(library, "__file__", str(inside / "library.py"))
    assert command in library.again()
    assert checkout or "--no-cache-dir" in library.again()
