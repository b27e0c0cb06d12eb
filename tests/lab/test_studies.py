"""Series of runs: what they do, and that they do it once."""

from __future__ import annotations

import json

import pytest

from chainrule.cli import main
from chainrule.cli.train import TrainCommand, parse_recipe
from chainrule.errors import ChainruleError, ModelError
from chainrule.lab import studies
from chainrule.lab.recipes import get_recipe
from chainrule.lab.studies import STUDIES, Job, run_study, training

PAIRS = [(study, preset) for study in STUDIES for preset in ("quick", "full")]


@pytest.mark.parametrize(("study", "preset"), PAIRS)
def test_every_command_is_one(study, preset):
    """Each trains a recipe with fields that it has, into a place of its own; runs are made before they are used."""
    made = set()
    for job in STUDIES[study](preset):
        verb, *words = job.command.split()
        assert verb in ("train", "bench", "quality")
        assert all(word.removeprefix("{out}/") in made for word in words[:-1] if word.startswith("{out}"))
        if verb == "train":
            recipe, command = parse_recipe("train", words, TrainCommand)
            assert recipe.name in words
            assert f"{command.out}/result.json" == f"{{out}}/{job.done}"
            assert recipe.init or get_recipe(recipe.name).init is None
        assert job.done not in made
        made |= {job.done, job.done.removesuffix("/result.json")}


def test_what_recipes_begin_from_is_a_run_of_the_shipped_study():
    runs = {job.done.removesuffix("/result.json") for job in STUDIES["shipped"]("quick")}
    inits = [get_recipe(name).init for name in ("pixelcnn-cpu", "pixelcnn-made-long-cpu")]
    assert {init.removeprefix("runs/") for init in inits} <= runs


@pytest.fixture
def tiny(monkeypatch):
    """A study of one run and one measurement."""
    jobs = [
        training("warm", "warmup", "--train.steps 5"),
        Job("measured.json", "evaluate {out}/warm --json"),
    ]
    monkeypatch.setitem(STUDIES, "tiny", lambda preset: jobs)


def test_a_study_does_what_is_left(tiny, tmp_path, monkeypatch):
    """Everything the first time, in a folder whose name has a space, nothing the second."""
    out = tmp_path / "the study"
    assert run_study("tiny", out) == [out / "warm"]
    result = json.loads((out / "warm" / "result.json").read_text())
    assert result["command"] == f"chainrule train warmup --train.steps 5 --out '{out}/warm'"
    measured = json.loads((out / "measured.json").read_text())
    assert measured["bits_per_dim"] == pytest.approx(result["test_bits_per_dim"])
    monkeypatch.setattr(studies, "do", lambda *_: pytest.fail("there is nothing left to do"))
    assert run_study("tiny", out) == [out / "warm"]


def test_an_interrupted_run_is_resumed(tiny, tmp_path, monkeypatch):
    """Where there is a checkpoint and no result."""
    did = []
    monkeypatch.setattr(studies, "do", lambda words, printed: did.append((words, printed)))
    (tmp_path / "warm").mkdir()
    (tmp_path / "warm" / "checkpoint.pt").touch()
    run_study("tiny", tmp_path)
    assert did[0] == (["train", "warmup", "--train.steps", "5", "--out", f"{tmp_path}/warm", "--resume"], None)
    assert did[1] == (["evaluate", f"{tmp_path}/warm", "--json"], tmp_path / "measured.json")


def test_a_command_that_fails_stops_the_study(tmp_path, monkeypatch):
    """In one sentence, and without a file for what it did not print."""
    monkeypatch.setitem(STUDIES, "bad", lambda preset: [Job("x.json", "evaluate {out}/nothing --json")])
    with pytest.raises(ChainruleError, match=r"chainrule evaluate .*nothing --json failed"):
        run_study("bad", tmp_path)
    assert not (tmp_path / "x.json").exists()
    with pytest.raises(ModelError, match="no study 'none': choose one of parts, bonus"):
        run_study("none", tmp_path)


def test_the_verb_prints_what_is_left(tmp_path, capsys):
    """With --dry, and touches nothing."""
    assert main(["study", "bonus", "--out", str(tmp_path / "b"), "--dry"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list(STUDIES["bonus"]("quick")))
    assert lines[0] == (
        f"chainrule train pixelcnn-made --train.steps 1600 --train.seed 0 --out {tmp_path}/b/steps/pixelcnn-made"
    )
    assert not (tmp_path / "b").exists()
