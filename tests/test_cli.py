"""The command line as a person meets it: results on standard output, one sentence and status 2 for bad input."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from chainrule.cli import VERBS, main
from chainrule.cli.common import placed
from chainrule.cli.quality import calibration_figures
from chainrule.data import Dataset
from chainrule.lab.quality import calibration
from chainrule.models import MADE, GatedPixelCNN, GrayscalePixelCNN, PixelCNNMADE, PixelIQN
from chainrule.training.fitting import fit
from chainrule.zoo import load

TINY_IMAGES = ["--model.filters", "8", "--model.blocks", "1", "--train.batch-size", "8", "--train.eval-every", "5"]


@pytest.fixture
def images(tmp_path):
    """A small set of 6×5 colour images with 3 levels."""
    path = tmp_path / "tiny.npz"
    draw = np.random.RandomState(0).randint
    np.savez(path, train=draw(0, 3, (40, 6, 5, 3), np.uint8), test=draw(0, 3, (10, 6, 5, 3), np.uint8))
    return path


@pytest.fixture
def image_model(tmp_path):
    folder = tmp_path / "model"
    PixelCNNMADE((3, 6, 5), 3, filters=8, blocks=1).save_pretrained(folder)
    return folder


def fails(capsys, *args, saying=()):
    """The command ends with status 2 and one line on standard error that holds the given words."""
    assert main([str(a) for a in args]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("chainrule:")]
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    for word in saying:
        assert word in lines[0], lines[0]
    return lines[0]


def test_quality_wants_coloured_digits(image_model, capsys):
    """A model of other events is refused before anything is drawn, and so is a sample too small to measure."""
    fails(capsys, "quality", image_model, saying=("(3, 6, 5)", "(3, 28, 28)"))
    fails(capsys, "quality", "pixelcnn-made", "-n", "1", saying=("at least 2",))


def test_quality_prints_a_table(tmp_path, capsys):
    """One row of samples, one of real images, and the calibration; for a model without a likelihood too, and the same
    from the same seed."""
    draw = np.random.RandomState(0).randint
    sets = {split: draw(0, 4, (12, 28, 28, 3), np.uint8) for split in ("train", "test")}
    np.savez(tmp_path / "digits.npz", **sets)
    PixelIQN((3, 28, 28), 4, filters=4, blocks=0).save_pretrained(tmp_path / "model")
    command = ["quality", str(tmp_path / "model"), "-n", "4", "--data", str(tmp_path / "digits.npz")]
    assert main(command) == 0
    table = capsys.readouterr().out
    names = [line.split("  ")[0].strip() or line.split()[0] for line in table.splitlines() if line]
    assert names[:3] == ["set", "samples", "real"]
    assert names[3:] == ["calibration images", "calibration error", "uncertain share", "uncertain calibration error"]
    assert "frechet distance" in table
    assert main([*command, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["samples"]["images"], figures["real"]["images"], figures["samples"]["against"]) == (4, 4, 6)
    assert figures["calibration_images"] == 12
    measured = calibration(load(tmp_path / "model"), torch.from_numpy(sets["test"]).permute(0, 3, 1, 2))
    assert figures["calibration_error"] == pytest.approx(measured.error)
    assert figures["uncertain_share"] == pytest.approx(measured.uncertain)
    assert figures["uncertain_calibration_error"] == pytest.approx(measured.uncertain_error)
    assert main([*command, "--calibration-images", "0", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert "calibration_error" not in again
    assert (again["samples"], again["real"]) == (figures["samples"], figures["real"])
    fails(capsys, *command, "--calibration-images", "-1", saying=("-1 images",))


def test_quality_measures_the_calibration_where_it_can(tmp_path, capsys):
    """Of a model that is told labels with those of the test images; of others that have none, it is left out aloud."""
    draw = np.random.RandomState(0).randint
    sets = {split: draw(0, 4, (8, 28, 28, 3), np.uint8) for split in ("train", "test")}
    np.savez(tmp_path / "digits.npz", **sets)
    small = {"shape": (3, 28, 28), "levels": 4, "filters": 4, "blocks": 1}
    GatedPixelCNN(**small, classes=10).save_pretrained(tmp_path / "told")
    GrayscalePixelCNN(**small).save_pretrained(tmp_path / "gray")
    for name, why in (("told", "has none"), ("gray", "entry by entry")):
        assert main(["quality", str(tmp_path / name), "-n", "2", "--data", str(tmp_path / "digits.npz"), "--json"]) == 0
        captured = capsys.readouterr()
        assert {"samples", "real"} <= json.loads(captured.out).keys()
        assert "calibration_error" not in json.loads(captured.out)
        assert "calibration is left out" in captured.err
        assert why in captured.err
    test = torch.from_numpy(sets["test"]).permute(0, 3, 1, 2)
    labelled = Dataset("labelled", 4, test, test, test, labels={"test": torch.arange(8)})
    figures = calibration_figures(load(tmp_path / "told"), labelled, 3, seed=1)
    rows = torch.randperm(8, generator=torch.Generator().manual_seed(1))[:3]
    assert figures["calibration_error"] == calibration(load(tmp_path / "told"), test[rows], rows).error
    assert figures["calibration_images"] == 3


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text for verb in VERBS)


@pytest.mark.parametrize("verb", [v for v in VERBS if v not in ("train", "tune")])
def test_every_command_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"chainrule {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["train", "tune"])
def test_help_of_recipes(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert "pixelcnn-made" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main([verb, "pixelcnn-made", "--help"])
    assert stop.value.code == 0
    assert "--model.filters" in capsys.readouterr().out


def test_train_evaluate_sample(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "2d-made", "--train.steps", "6", "--train.eval-every", "3", "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 6
    assert {"exact_bits_per_dim", "kl_bits", "test_bits_per_dim"} <= result.keys()
    assert main(["evaluate", str(out), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["bits_per_dim"] == pytest.approx(result["test_bits_per_dim"], abs=1e-9)
    assert again["exact_bits_per_dim"] == pytest.approx(result["exact_bits_per_dim"], abs=1e-9)
    assert main(["sample", str(out), "-n", "5", "--seed", "3"]) == 0
    first = capsys.readouterr().out
    assert len(first.splitlines()) == 5
    assert main(["sample", str(out), "-n", "5", "--seed", "3", "--method", "naive"]) == 0
    assert capsys.readouterr().out == first
    fails(capsys, "train", "2d-made", "--out", out, saying=["--resume"])
    fails(capsys, "evaluate", out, "--independent-channels", saying=["MADE has no joint", "PixelCNN-MADE"])
    fails(capsys, "evaluate", out, "--split-bits", saying=["does not say which pixels are a digit's", "hopper-mnist"])


def test_evaluate_tells_what_channels_know_of_each_other(tmp_path, capsys):
    """Less likely without, when one channel is a copy of the other and the model knows it."""
    torch.manual_seed(0)
    x = torch.randint(0, 2, (1000, 1, 3, 3)).repeat(1, 2, 1, 1)
    model = PixelCNNMADE((2, 3, 3), 2, filters=8, blocks=0)
    fit(model, Dataset("copies", 2, x, x, x), steps=60, lr=0.02, batch_size=100, device="cpu", quiet=True)
    model.save_pretrained(tmp_path / "model")
    np.savez(tmp_path / "x.npz", **dict.fromkeys(("train", "test"), x.permute(0, 2, 3, 1).numpy().astype(np.uint8)))
    command = [
        "evaluate",
        str(tmp_path / "model"),
        "--data",
        str(tmp_path / "x.npz"),
        "--independent-channels",
        "--json",
    ]
    assert main(command) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["bits_per_dim"] < 0.6
    assert figures["independent_channels_bits_per_dim"] > 0.9


def test_warmup_is_printed_in_the_assignments_values(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "warmup", "--train.steps", "5", "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["sample", str(out), "-n", "300"]) == 0
    values = [int(line) for line in capsys.readouterr().out.split()]
    assert min(values) >= 1
    assert max(values) <= 100


def test_images_end_to_end(tmp_path, images, capsys):
    out = tmp_path / "run"
    args = ["train", "pixelcnn-made", "--data", str(images), "--out", str(out), "--train.steps", "10", *TINY_IMAGES]
    assert main(args) == 0
    capsys.readouterr()
    sheet, array, whole = tmp_path / "s.png", tmp_path / "s.npy", tmp_path / "c.png"
    assert main(["sample", str(out), "-n", "12", "-o", str(sheet)]) == 0
    assert main(["sample", str(out), "-n", "12", "-o", str(array)]) == 0
    assert np.load(array).shape == (12, 6, 5, 3)
    assert Image.open(sheet).size[0] > 50
    picture = tmp_path / "x.png"
    Image.fromarray((np.load(array)[0] * 127).astype(np.uint8)).save(picture)
    assert main(["complete", str(out), str(picture), "--keep-rows", "3", "-o", str(whole)]) == 0
    kept, given = np.asarray(Image.open(whole)), np.asarray(Image.open(picture))
    assert kept.shape == given.shape
    assert (kept[:3] // 100 == given[:3] // 100).all()


def test_unknown_things(tmp_path, image_model, capsys):
    fails(capsys, "frobnicate", saying=["train", "sample"])
    fails(capsys, "train", "resnet", saying=["resnet", "pixelcnn-made"])
    fails(capsys, "train", "warmup", "--preset", "huge", saying=["huge", "quick"])
    fails(capsys, "evaluate", tmp_path / "nowhere", saying=["nowhere"])
    (tmp_path / "empty").mkdir()
    fails(capsys, "evaluate", tmp_path / "empty", saying=["no model"])
    fails(capsys, "evaluate", image_model, saying=["--data"])
    fails(capsys, "report", tmp_path / "nowhere", saying=["nowhere"])
    fails(capsys, "train", "2d-made", "--data", tmp_path / "none.npy", "--out", tmp_path / "r", saying=["none.npy"])


def test_data_that_do_not_fit(tmp_path, images, image_model, capsys):
    fails(capsys, "train", "2d-mlp", "--data", images, "--out", tmp_path / "r", saying=["(2,)"])
    fails(capsys, "train", "pixelcnn", "--data", "warmup", "--out", tmp_path / "q", saying=["images"])
    fails(capsys, "evaluate", image_model, "--data", "warmup", saying=["warmup", "(3, 6, 5)"])
    joint = np.full((8, 8), 1 / 64)
    joint[0, 0] = -joint[0, 0]
    np.save(tmp_path / "negative.npy", joint)
    fails(capsys, "train", "2d-made", "--data", tmp_path / "negative.npy", "--out", tmp_path / "p", saying=["negative"])
    np.save(tmp_path / "sum.npy", np.full((8, 8), 1 / 32))
    fails(capsys, "train", "2d-made", "--data", tmp_path / "sum.npy", "--out", tmp_path / "o", saying=["2"])


@pytest.mark.parametrize(
    "flags",
    [
        ("--train.steps", "0"),
        ("--train.lr", "-1"),
        ("--train.lr", "nan"),
        ("--train.ema", "1.5"),
        ("--model.filters", "0"),
    ],
)
def test_values_that_make_no_sense(flags, tmp_path, images, capsys):
    fails(capsys, "train", "pixelcnn", "--data", images, "--out", tmp_path / "r", *flags)


@pytest.mark.parametrize(
    "flags", [("--train.stepz", "3"), ("--model.filters=3",), ("--train.no-such",), ("--model.layer.norm", "1")]
)
def test_fields_that_a_recipe_does_not_have(flags, capsys):
    """One sentence that lists those that it has."""
    sentence = fails(capsys, "train", "2d-made", *flags, saying=[flags[0].partition("=")[0]])
    assert "--model.hidden" in sentence or "--train.steps" in sentence
    fails(capsys, "train", "warmup", "--model.filters", "3", saying=["it has none"])


@pytest.mark.parametrize("args", [("sample", "-n", "many"), ("train", "warmup", "--train.steps", "many")])
def test_usage_errors_end_with_status_2(args, image_model, capsys):
    words = [args[0], str(image_model), *args[1:]] if args[0] == "sample" else list(args)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2


def test_outputs_that_cannot_be_written(tmp_path, image_model, capsys):
    fails(capsys, "sample", image_model, "-o", tmp_path / "no" / "x.png", saying=["no folder"])
    fails(capsys, "sample", image_model, "-o", tmp_path / "x.gif", saying=[".png"])
    fails(capsys, "sample", image_model, saying=["-o"])
    fails(capsys, "sample", image_model, "-n", "-3", "-o", tmp_path / "x.png", saying=["-3"])
    fails(capsys, "sample", image_model, "-n", "0", "-o", tmp_path / "x.png", saying=["cannot draw 0 samples"])
    occupied = tmp_path / "file"
    occupied.write_text("I am not a folder")
    fails(capsys, "train", "warmup", "--out", occupied, saying=["file"])
    assert occupied.read_text() == "I am not a folder"


def test_a_picture_that_was_drawn_is_completed(tmp_path, image_model):
    """One sample is a picture like any other, not a sheet."""
    drawn, whole = tmp_path / "drawn.png", tmp_path / "whole.png"
    assert main(["sample", str(image_model), "-n", "1", "-o", str(drawn)]) == 0
    assert main(["complete", str(image_model), str(drawn), "--keep-rows", "2", "-o", str(whole)]) == 0
    before, after = (np.asarray(Image.open(path)) for path in (drawn, whole))
    assert before.shape == after.shape
    assert (before[:2] == after[:2]).all()


def test_complete_wants_to_know_what_is_known(tmp_path, image_model, capsys):
    picture = tmp_path / "x.png"
    Image.fromarray(np.zeros((6, 5, 3), np.uint8)).save(picture)
    fails(capsys, "complete", image_model, picture, saying=["--keep-rows"])
    fails(capsys, "complete", image_model, picture, "--keep-rows", "99", saying=["99"])
    fails(capsys, "complete", image_model, tmp_path / "none.png", "--keep-rows", "1", saying=["none.png"])
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "big.png")
    fails(capsys, "complete", image_model, tmp_path / "big.png", "--keep-rows", "1", saying=["big.png"])
    MADE((2,), 4, (8,)).save_pretrained(tmp_path / "made")
    fails(capsys, "complete", tmp_path / "made", picture, "--keep-rows", "1", saying=["images"])


def test_bench_prints_a_ratio(image_model, capsys):
    assert main(["bench", "sampling", "--model", str(image_model), "-n", "2", "--repeats", "1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["naive_passes"] == 90
    assert figures["ratio"] == pytest.approx(figures["naive_seconds_estimated"] / figures["cached_seconds"])


def test_bench_steps_says_how_many_fit_the_same_time(capsys):
    assert main(["bench", "steps", "pixelcnn-made", "--repeats", "1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["recipe"], row["ratio"], row["steps"]) == ("pixelcnn-made", 1, 3200)
    fails(capsys, "bench", "steps", "warmup", saying=["warmup is trained on warmup"])
    fails(capsys, "bench", "sampling", "gated", saying=["bench sampling takes no recipes"])
    fails(capsys, "bench", "codec", "gated", saying=["there is no gated"])


def test_tune_writes_its_trials(tmp_path, capsys):
    pytest.importorskip("optuna")
    args = ["tune", "2d-mlp", "--trials", "2", "--train.steps", "3", "--out", str(tmp_path / "t")]
    assert main([*args, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert main(args) == 0  # goes on
    assert "best of 4 trials" in capsys.readouterr().out
    assert (tmp_path / "t" / "trials.csv").read_text().count("\n") == 5


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "run"
    args = [sys.executable, "-m", "chainrule", "train", "2d-made", "--out", str(out), "--train.eval-every", "10"]

    def written():
        path = out / "checkpoint.pt"
        return path.stat().st_mtime_ns if path.exists() else None

    for further in ([], ["--resume", "--train.steps", "2000"]):
        before, deadline = written(), time.monotonic() + 90
        process = subprocess.Popen([*args, *further], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while written() == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "--resume" in err
        assert "Traceback" not in err
    lines = (out / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines if "train" in json.loads(line)]
    assert steps == list(range(1, len(steps) + 1))
    assert os.path.getsize(out / "checkpoint.pt") > 0


@pytest.mark.parametrize("moment", ["before", "training", "after"])
def test_training_stopped_at_any_moment_says_what_can_be_pasted(tmp_path, moment):
    """Before the first checkpoint there is nothing to resume; after the last step the run is but to be measured."""
    stop = "import os, signal; os.kill(os.getpid(), signal.SIGTERM); import time; time.sleep(60)"
    where = {
        "before": "experiment.check_init",
        "training": "fitting.Run.evaluate",
        "after": "experiment.measure",
    }[moment]
    code = (
        "import sys; from chainrule.lab import experiment; from chainrule.training import fitting\n"
        "from chainrule.cli import main\n"
        f"real = {where}\ndef first(*given):\n    {where} = real\n    {stop}\n    return real(*given)\n"
    )
    code += f"{where} = first\nsys.exit(main(sys.argv[1:]))"
    if moment == "training":
        code = code.replace("time.sleep(60)", "None")
    words = ["train", "warmup", "--out", str(tmp_path / "a run"), "--train.steps", "20", "--train.eval-every", "10"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == (130 if moment == "training" else 128 + signal.SIGTERM), done.stderr
    said = done.stderr.splitlines()[-1]
    assert ("--resume" in said) == (moment != "before")
    assert main(shlex.split(said.partition("with: chainrule ")[2])) == 0
    assert json.loads((tmp_path / "a run" / "result.json").read_text())["steps"] == 20


def test_tensorboard_gets_its_events(tmp_path, capsys):
    pytest.importorskip("tensorboard")
    args = ["train", "warmup", "--train.steps", "4", "--train.eval-every", "2", "--train.tensorboard"]
    assert main([*args, "--out", str(tmp_path / "r")]) == 0
    assert list((tmp_path / "r" / "tensorboard").glob("events*"))


def test_help_does_not_wait_for_pytorch():
    """`import chainrule` and --help import nothing heavy; the names are all there once they are asked for."""
    code = "import sys, chainrule.cli as c; c.main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    import chainrule

    assert all(getattr(chainrule, name) is not None for name in chainrule.__all__)
    assert set(chainrule.__all__) <= set(dir(chainrule))


def test_archives_there_and_back(tmp_path, image_model, capsys):
    picture, stack = tmp_path / "in" / "a" / "x.png", tmp_path / "in" / "y.npy"
    picture.parent.mkdir(parents=True)
    draw = np.random.RandomState(0).randint
    Image.fromarray(np.array([0, 127, 255], np.uint8)[draw(0, 3, (6, 5, 3))]).save(picture)
    np.save(stack, draw(0, 3, (7, 6, 5, 3), np.uint8))
    archive, back = tmp_path / "z.crz", tmp_path / "back"
    words = ["compress", str(picture), str(stack), "-m", str(image_model), "-o", str(archive), "--verify", "--json"]
    assert main(words) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["images"] == 8
    assert figures["bytes"] == archive.stat().st_size
    assert main(["info", str(archive), "--json"]) == 0
    (known,) = json.loads(capsys.readouterr().out)["models"]
    assert [known["fingerprint"]] == figures["models"]
    assert main(["decompress", str(archive), "-m", str(image_model), "-o", str(back)]) == 0
    assert (np.load(next(back.rglob("y.npy"))) == np.load(stack)).all()
    assert (np.asarray(Image.open(next(back.rglob("x.png")))) == np.asarray(Image.open(picture))).all()
    capsys.readouterr()

    fails(capsys, "decompress", archive, "-o", tmp_path / "other", saying=["model"])
    fails(capsys, "decompress", tmp_path / "none.crz", "-m", image_model, "-o", tmp_path / "o", saying=["none.crz"])
    fails(capsys, "compress", tmp_path / "none.png", "-m", image_model, "-o", tmp_path / "new.crz", saying=["none.png"])
    PixelCNNMADE((3, 6, 5), 3, filters=8, blocks=2).save_pretrained(tmp_path / "stranger")
    fails(capsys, "decompress", archive, "-m", tmp_path / "stranger", "-o", tmp_path / "o", saying=["another model"])
    archive.write_bytes(archive.read_bytes()[:-9])
    fails(capsys, "decompress", archive, "-m", image_model, "-o", tmp_path / "o")
    fails(capsys, "info", archive)
    assert not (tmp_path / "o").exists()


def test_an_archive_with_its_model_needs_nothing_else(tmp_path, image_model, capsys):
    stack, archive, back = tmp_path / "y.npy", tmp_path / "z.crz", tmp_path / "back"
    np.save(stack, np.random.RandomState(0).randint(0, 3, (3, 6, 5, 3), np.uint8))
    assert main(["compress", str(stack), "-m", str(image_model), "-o", str(archive), "--embed-model"]) == 0
    assert main(["decompress", str(archive), "-o", str(back)]) == 0
    assert (np.load(back / "y.npy") == np.load(stack)).all()


def test_doctor_prints_the_certificate(image_model, capsys):
    assert main(["doctor", str(image_model), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert all(row["worst"] <= row["limit"] for row in report["certificate"])
    assert main(["doctor", str(image_model)]) == 0
    assert "made.output" in capsys.readouterr().out


def test_a_gpu_that_is_not_there(tmp_path, image_model, capsys, monkeypatch):
    """Every verb that computes can be told where; without a GPU, cuda is refused and auto is the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    stack, archive, picture = tmp_path / "y.npy", tmp_path / "z.crz", tmp_path / "x.png"
    np.save(stack, np.random.RandomState(0).randint(0, 3, (3, 6, 5, 3), np.uint8))
    out, device = tmp_path / "out.png", ["--device", "cuda"]
    fails(capsys, "sample", image_model, "-o", out, *device, saying=["no GPU"])
    fails(capsys, "evaluate", image_model, "--data", stack, *device, saying=["no GPU"])
    fails(capsys, "complete", image_model, picture, "--keep-rows", "2", "-o", out, *device, saying=["no GPU"])
    fails(capsys, "compress", stack, "-m", image_model, "-o", archive, *device, saying=["no GPU"])
    fails(capsys, "bench", "sampling", "-m", image_model, *device, saying=["no GPU"])
    fails(capsys, "bench", "codec", "-m", image_model, "--data", stack, *device, saying=["no GPU"])
    fails(capsys, "bench", "training", *device, saying=["--device"])
    assert not out.exists()
    assert not archive.exists()
    assert main(["compress", str(stack), "-m", str(image_model), "-o", str(archive), "--device", "auto"]) == 0
    back = ["decompress", str(archive), "-m", str(image_model), "-o", str(tmp_path / "back")]
    fails(capsys, *back, *device, saying=["no GPU"])
    assert not (tmp_path / "back").exists()
    assert main([*back, "--device", "auto"]) == 0
    assert (np.load(tmp_path / "back" / "y.npy") == np.load(stack)).all()


@pytest.mark.parametrize(("device", "expected"), [("auto", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")])
def test_a_gpu_that_is_there(device, expected, monkeypatch):
    """auto takes it, and cpu does not."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    asked = []
    monkeypatch.setattr(torch.nn.Linear, "to", lambda model, where: asked.append(where) or model)
    placed(torch.nn.Linear(1, 1), device)
    assert asked == [expected]


def test_a_gpu_with_too_little_memory(image_model, tmp_path, capsys, monkeypatch):
    """One sentence; any other failure of PyTorch's is a bug, and shown as one."""

    def fail(error):
        monkeypatch.setattr(PixelCNNMADE, "sample", lambda *_: (_ for _ in ()).throw(error))

    fail(torch.OutOfMemoryError("CUDA out of memory"))
    fails(capsys, "sample", image_model, "-o", tmp_path / "x.png", saying=["too little memory"])
    fail(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        main(["sample", str(image_model), "-o", str(tmp_path / "x.png")])


def test_threads_of_verbs_that_decode_sleep_while_they_wait(monkeypatch, capsys):
    """As conftest.py asks for in the tests; who has chosen otherwise keeps that, and training is left alone."""
    archive = str(Path(__file__).parent / "codec" / "golden" / "histogram.crz")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert main(["info", archive]) == 0
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "OMP_WAIT_POLICY" not in os.environ
    assert main(["info", archive]) == 0
    assert os.environ["OMP_WAIT_POLICY"] == "passive"


# what a verb has no use for, and would make it wait: PyTorch takes seconds, each of the others a tenth or more
FOREIGN = {
    "accelerate",
    "constriction",
    "jinja2",
    "matplotlib",
    "pooch",
    "requests",
    "rich",
    "sklearn",
    "torch._dynamo",
}


@pytest.mark.parametrize(
    ("words", "foreign"),
    [
        ([], FOREIGN | {"torch", "numpy", "typeguard"}),
        (["--version"], FOREIGN | {"torch", "numpy", "typeguard"}),
        (["train", "--help"], FOREIGN | {"torch", "numpy"}),
        (["info", "--help"], FOREIGN | {"torch", "numpy"}),
        (["info", str(Path(__file__).parent / "codec" / "golden" / "histogram.crz")], FOREIGN | {"torch"}),
        (["sample", "colored-mnist", "-n", "1", "-o", "a.png"], FOREIGN),
        (["sample", "colored-mnist", "-n", "1", "-o", "a.npy"], FOREIGN | {"chainrule.training"}),
    ],
)
def test_a_verb_imports_what_it_needs(tmp_path, words, foreign):
    """So it starts at once."""
    code = "import sys, chainrule.cli as c\ntry: c.main(sys.argv[1:])\nexcept SystemExit: pass\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path)
    loaded = done.stdout.splitlines()[-1].split()
    assert "chainrule.cli" in loaded
    assert foreign & set(loaded) == set()
