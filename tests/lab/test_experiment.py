"""Run folders: what a run leaves, what it refuses, and that interruptions do not show."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from chainrule.data import Dataset
from chainrule.errors import ChainruleError, DataError, ModelError
from chainrule.evaluation import bits_per_dim, validation_loss
from chainrule.lab import experiment, measurements
from chainrule.lab.experiment import run
from chainrule.lab.recipes import RECIPES, get_recipe
from chainrule.lab.run_folder import read_run, write_json
from chainrule.models import Histogram, PixelCNN, PixelCNNMADE
from chainrule.training import step as stepping
from chainrule.zoo import load
from laws import events

SMALL = {"steps": 7, "batch_size": 8, "eval_every": 3, "warmup": 2, "precision": "float32", "device": "cpu"}
LEFT = {".lock", "config.json", "metrics.jsonl", "checkpoint.pt", "model", "result.json", "arrays.npz"}


@pytest.fixture(autouse=True)
def _small_first_picture(monkeypatch):
    """The receptive field at the assignment's size takes seconds: a small network stands in for it."""
    real = measurements.get_recipe

    def small(name, preset="quick"):
        recipe = real(name, preset)
        if hasattr(recipe.model, "filters"):
            recipe = replace(recipe, model=replace(recipe.model, filters=8, blocks=1))
        return recipe

    monkeypatch.setattr(measurements, "get_recipe", small)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Small data for each kind of recipe: 6×5×3 images with 3 levels, and a joint distribution of 6 levels."""
    folder = tmp_path_factory.mktemp("data")
    rand = np.random.RandomState(0)
    base = rand.randint(0, 3, (60, 1, 1, 3))
    images = np.where(rand.rand(60, 6, 5, 3) < 0.7, base, rand.randint(0, 3, (60, 6, 5, 3))).astype(np.uint8)
    np.savez(folder / "tiny.npz", train=images[:48], test=images[48:])
    joint = rand.rand(6, 6)
    np.save(folder / "joint.npy", joint / joint.sum())
    return {"warmup": "warmup", "2d": str(folder / "joint.npy"), "pixelcnn": str(folder / "tiny.npz")}


def tiny(name, files, **options):
    """A recipe cut down to a second's work."""
    recipe = get_recipe(name)
    kind_of = "pixelcnn" if hasattr(recipe.model, "blocks") else name
    data = next(path for kind, path in files.items() if kind_of.startswith(kind))
    model = recipe.model
    if hasattr(model, "filters"):
        model = replace(model, filters=6, blocks=1)
    elif hasattr(model, "hidden"):
        model = replace(model, hidden=(8,))
    small: dict[str, object] = {**SMALL, "redraw": False}  # these data cannot be drawn anew
    return replace(recipe, data=data, model=model, init=None, train=replace(recipe.train, **small | options))


@pytest.fixture
def labelled(monkeypatch):
    """Images of one's own have no labels; here they get some."""
    open_data = experiment.open_data

    def with_labels(*arguments, **options):
        dataset = open_data(*arguments, **options)
        splits = {split: getattr(dataset, split) for split in ("train", "validation", "test")}
        return replace(dataset, labels={split: torch.arange(len(x)) % 10 for split, x in splits.items()})

    monkeypatch.setattr(experiment, "open_data", with_labels)


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_leaves_all_files(name, files, tmp_path, labelled):
    """Every recipe: configuration, journal, checkpoint, model, figures, arrays, and for images a picture."""
    out = tmp_path / "runs" / name
    result = run(tiny(name, files), out, quiet=True)
    images = len(result["shape"]) == 3
    assert images == hasattr(get_recipe(name).model, "blocks")
    assert {path.name for path in out.iterdir()} == LEFT | ({"samples.png"} if images else set())
    model = load(out)
    assert json.loads((out / "result.json").read_text()) == result
    loss = "test_quantile_loss" if name.endswith("iqn") else "test_bits_per_dim"
    assert {"test_bits_per_dim", "test_quantile_loss"} & set(result) == {loss}
    assert {"parameters", "steps", "train_seconds", "seed", "device", "command"} <= set(result)
    assert result["recipe"] == name
    assert result["model"] == type(model).__name__
    assert result["parameters"] == sum(p.numel() for p in model.parameters())
    dataset = experiment.open_dataset(tiny(name, files))
    assert result[loss] == pytest.approx(validation_loss(model, dataset, "test"), abs=1e-6)
    assert result["test_events"] == len(dataset.test)
    again, metrics, arrays = read_run(out)
    assert again == result
    assert [line["step"] for line in metrics if "train" in line] == list(range(1, 8))
    config = json.loads((out / "config.json").read_text())
    assert config["recipe"]["name"] == name
    assert config["recipe"]["train"]["steps"] == 7
    assert int(arrays["samples"].max()) < model.levels
    assert arrays["samples"].shape[1:] == model.shape
    if name == "grayscale":
        parts = result["gray_bits_per_dim"] + result["color_bits_per_dim"]
        assert parts == pytest.approx(result["test_bits_per_dim"], abs=1e-6)
        n, k = len(arrays["originals"]), measurements.COLORINGS
        assert arrays["colorings"].shape == (n, k, *model.shape)
        gray = model.with_auxiliaries(torch.from_numpy(arrays["originals"]).long())[:, -1]
        assert (gray.numpy() == arrays["gray_given"]).all()
        for colored in arrays["colorings"].swapaxes(0, 1):
            assert torch.equal(model.with_auxiliaries(torch.from_numpy(colored).long())[:, -1], gray)
    assert ("notes" in result) == name.endswith("iqn")  # which has no exact form
    if name.endswith("iqn"):
        assert set(arrays) == {"samples"}  # there is no log p to differentiate
        assert arrays["samples"].shape[0] == 100
    elif images:
        assert arrays["receptive_field"].shape == (6, 5)
        assert arrays["receptive_field"].any()
        assert name == "grayscale" or not arrays["receptive_field"][4:].any()  # its colours see all gray
        assert arrays["samples"].shape[0] == 100
    elif name == "warmup":
        assert arrays["model_pmf"].sum() == pytest.approx(1)
        assert arrays["data_frequencies"].sum() == pytest.approx(1)
        assert arrays["samples"].shape[0] == 1000
        assert 0 < result["total_variation_samples_model"] < 1
    else:
        assert arrays["model_joint"].sum() == pytest.approx(1)
        assert result["kl_bits"] > 0
        assert result["exact_bits_per_dim"] == pytest.approx(result["entropy_bits_per_dim"] + result["kl_bits"] / 2)
        assert result["exact_bits_per_dim"] == pytest.approx(result["test_bits_per_dim"], abs=0.02)


def interrupt_at(monkeypatch, step):
    real, done = stepping.batch_indices, []

    def hooked(count, batch_size, seed, now):
        if now == step and not done:
            done.append(now)
            os.kill(os.getpid(), signal.SIGINT)
        return real(count, batch_size, seed, now)

    monkeypatch.setattr(stepping, "batch_indices", hooked)


@pytest.mark.parametrize("name", ["2d-made", "pixelcnn-made"])
@pytest.mark.parametrize("step", [0, 4])
def test_a_resumed_run_gives_the_same_figures(name, step, files, tmp_path, monkeypatch):
    """Interrupted and resumed: every figure of result.json but the times, the samples and the weights are the same."""
    recipe = tiny(name, files, ema=0.9)
    whole = run(recipe, tmp_path / "whole", quiet=True)
    interrupt_at(monkeypatch, step)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "parts", quiet=True)
    assert not (tmp_path / "parts" / "result.json").exists()
    resumed = run(recipe, tmp_path / "parts", resume=True, quiet=True)
    for result in (whole, resumed):
        for key in [key for key in result if "second" in key]:
            result.pop(key)
    assert resumed == whole
    (_, first, arrays), (_, second, others) = read_run(tmp_path / "whole"), read_run(tmp_path / "parts")
    assert first == second
    assert all((arrays[key] == others[key]).all() for key in arrays)
    x = events(load(tmp_path / "whole"), 9)
    assert torch.equal(load(tmp_path / "whole").log_prob(x), load(tmp_path / "parts").log_prob(x))


def test_a_finished_run_can_be_resumed(files, tmp_path):
    """Nothing is left to train: the same figures again."""
    recipe = tiny("2d-mlp", files)
    first = run(recipe, tmp_path, quiet=True)
    assert run(recipe, tmp_path, resume=True, quiet=True)["test_bits_per_dim"] == first["test_bits_per_dim"]


def test_the_figures_are_those_of_the_saved_model_in_single_precision(files, tmp_path):
    """However a run was trained, its test figure is that of the model it leaves."""
    recipe = tiny("pixelcnn-made", files, precision="bfloat16", steps=30)
    result = run(recipe, tmp_path, quiet=True)
    measured = bits_per_dim(load(tmp_path), experiment.open_dataset(recipe))
    assert result["test_bits_per_dim"] == pytest.approx(measured, abs=1e-6)


# ------------------------------------------------------------------------------------------------------------ refusals


def test_an_existing_run_is_not_overwritten(files, tmp_path):
    """Without resuming, neither a finished run nor an interrupted one."""
    recipe = tiny("warmup", files)
    run(recipe, tmp_path, quiet=True)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with pytest.raises(ChainruleError, match=r"holds a run already: pass --resume"):
        run(recipe, tmp_path, quiet=True)
    (tmp_path / "result.json").rename(tmp_path / "result.old")
    with pytest.raises(ChainruleError, match=r"holds a run already"):
        run(recipe, tmp_path, quiet=True)
    before.pop("result.json")
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}.items()


def test_resuming_nothing_is_refused(files, tmp_path):
    """There must be a checkpoint."""
    with pytest.raises(ModelError, match="no checkpoint to resume from"):
        run(tiny("warmup", files), tmp_path / "new", resume=True, quiet=True)


def test_resuming_with_other_settings_leaves_the_run_alone(files, tmp_path):
    """Refused by name, and not a byte of the run is changed: its configuration still is the one it was trained with."""
    run(tiny("warmup", files), tmp_path, quiet=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ModelError, match=r"train\.lr was"):
        run(tiny("warmup", files, lr=0.5), tmp_path, resume=True, quiet=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_foreign_folder_is_refused(files, tmp_path):
    """A folder with other files in it is not written into."""
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ChainruleError, match="holds other files"):
        run(tiny("warmup", files), tmp_path, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_models_folder_is_a_foreign_folder(files, tmp_path):
    """A saved model's config.json is not overwritten by a run's."""
    Histogram(4).save_pretrained(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ChainruleError, match="holds other files"):
        run(tiny("warmup", files), tmp_path, quiet=True)
    assert (tmp_path / "config.json").read_bytes() == before
    assert load(tmp_path).levels == 4


def test_a_file_in_the_place_of_the_folder(files, tmp_path):
    """One sentence that names it."""
    (tmp_path / "out").write_text("")
    for out in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(ChainruleError, match=r"cannot make the folder .*out"):
            run(tiny("warmup", files), out, quiet=True)


def test_an_unwritable_folder(files, tmp_path, monkeypatch):
    """One sentence, before the data is fetched and anything trained."""
    monkeypatch.setattr("chainrule.lab.run_folder.os.access", lambda path, mode: False)
    monkeypatch.setattr(experiment, "open_dataset", lambda recipe: pytest.fail("the data was opened"))
    with pytest.raises(ChainruleError, match="permission denied"):
        run(tiny("warmup", files), tmp_path, quiet=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(files, tmp_path):
    """The same with the system's own refusal."""
    (tmp_path / "locked").mkdir(mode=0o500)
    for out in (tmp_path / "locked", tmp_path / "locked" / "below"):
        with pytest.raises(ChainruleError, match=r"cannot .*[Pp]ermission denied"):
            run(tiny("warmup", files), out, quiet=True)


@pytest.mark.parametrize(("name", "data"), [("warmup", "2d"), ("2d-mlp", "pixelcnn"), ("pixelcnn", "2d")])
def test_data_of_another_shape_is_refused(name, data, files, tmp_path):
    """A recipe on data that it does not model says what it wants."""
    recipe = replace(tiny(name, files), data=files[data])
    with pytest.raises(ModelError, match="events of shape"):
        run(recipe, tmp_path / "out", quiet=True)


def test_data_that_is_not_there(files, tmp_path):
    """A misspelt dataset is a DataError, and leaves no folder, nor the one above."""
    with pytest.raises(DataError, match="no-such"):
        run(replace(tiny("warmup", files), data="no-such-data"), tmp_path / "runs" / "out", quiet=True)
    assert not (tmp_path / "runs").exists()


def test_data_that_cannot_be_drawn_anew(files, tmp_path):
    """It is said before anything is written."""
    recipe = tiny("warmup", files)
    with pytest.raises(ModelError, match=r"--train.redraw"):
        run(replace(recipe, train=replace(recipe.train, redraw=True)), tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


def test_refused_data_leaves_the_folder_usable(files, tmp_path):
    """After a refusal the same --out can be used for the corrected command."""
    out = tmp_path / "out"
    with pytest.raises(DataError):
        run(replace(tiny("warmup", files), data="no-such-data"), out, quiet=True)
    with pytest.raises(ModelError):
        run(replace(tiny("warmup", files), data=files["2d"]), out, quiet=True)
    assert run(tiny("warmup", files), out, quiet=True)["steps"] == 7


FULL_DISK = """
import resource, signal, sys, dataclasses, torch
torch.set_num_threads(1)
from chainrule.lab import experiment
from chainrule.errors import ChainruleError
from chainrule.lab.recipes import get_recipe
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recipe = get_recipe("2d-made")
train = dataclasses.replace(recipe.train, steps=4, eval_every=2, batch_size=8)
model = dataclasses.replace(recipe.model, hidden=(64, 64))
recipe = dataclasses.replace(recipe, data=sys.argv[1], model=model, train=train)
real = experiment.fit
def fit(*args, **options):
    history = real(*args, **options)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
    return history
experiment.fit = fit
try:
    experiment.run(recipe, sys.argv[2], quiet=True)
except ChainruleError as error:
    print(error)
    raise SystemExit(2)
"""


@pytest.mark.slow
def test_a_disk_that_is_full_when_the_model_is_saved(files, tmp_path):
    """The weights do not fit any more: one sentence, and the run resumes from its checkpoint when there is room."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", FULL_DISK, files["2d"], str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "cannot write" in done.stdout
    assert "model.safetensors: " in done.stdout


# ------------------------------------------------------------------------------------------------------- run folders


@pytest.mark.parametrize(
    "damage", ["nothing", "no result", "half a result", "half a journal", "half the arrays", "no arrays"]
)
def test_an_unfinished_run_cannot_be_read(damage, files, tmp_path):
    """Whatever is missing or torn, the folder is named in a DataError."""
    if damage != "nothing":
        run(tiny("warmup", files), tmp_path, quiet=True)
        name = {"result": "result.json", "journal": "metrics.jsonl", "arrays": "arrays.npz"}[damage.split()[-1]]
        path = tmp_path / name
        content = path.read_bytes()
        path.unlink()
        if damage.startswith("half"):
            path.write_bytes(content[: len(content) // 2] if name == "arrays.npz" else content[:-10])
    with pytest.raises(DataError, match="no finished run"):
        read_run(tmp_path)


def test_only_the_main_process_writes(monkeypatch, tmp_path):
    """The others of a distributed run leave files alone."""
    monkeypatch.setenv("RANK", "1")
    write_json(tmp_path / "x.json", {})
    assert list(tmp_path.iterdir()) == []


def test_notes_are_said(files, tmp_path, capsys):
    """What a person should know about the data is said before training; quiet says nothing."""
    run(tiny("pixelcnn", files), tmp_path / "a")
    said = capsys.readouterr()
    assert "60 images" in said.err
    assert "parameters" in said.err
    assert said.out == ""
    run(tiny("pixelcnn", files), tmp_path / "b", quiet=True)
    assert capsys.readouterr() == ("", "")


def test_test_events_are_touched_once_at_the_end(files, tmp_path, monkeypatch):
    """Until training is over nobody reads the test split, but to know it by its hash."""
    real_fit, real_open, trained = experiment.fit, experiment.open_dataset, []

    class Watched(Dataset):
        def __getattribute__(self, name):
            if name == "test" and watching and sys._getframe(1).f_code.co_name != "splits_of":
                assert trained, "the test split was read before training ended"
            return super().__getattribute__(name)

    watching = []

    def opened(recipe):
        data = real_open(recipe)
        watched = Watched(data.name, data.levels, data.train, data.validation, data.test, data.truth, data.offset)
        watching.append(True)
        return watched

    monkeypatch.setattr(experiment, "open_dataset", opened)
    monkeypatch.setattr(experiment, "fit", lambda *a, **k: (real_fit(*a, **k), trained.append(True))[0])
    assert run(tiny("pixelcnn-made", files), tmp_path, quiet=True)["test_events"] == 12


def test_a_run_may_begin_with_another_models_weights(files, tmp_path, capsys):
    """The trunk of a PixelCNN-MADE for a factorised PixelCNN; what has no counterpart starts as it would."""
    torch.manual_seed(5)
    PixelCNNMADE((3, 6, 6), 4, filters=8, blocks=1).save_pretrained(tmp_path / "other")
    other = load(tmp_path / "other")
    torch.manual_seed(0)
    model = PixelCNN((3, 6, 6), 4, filters=8, blocks=1)
    output = model.head.output.weight.clone()
    record = experiment.start_from(model, str(tmp_path / "other"))
    taken = sum(v.numel() for k, v in model.state_dict().items() if not k.startswith("head"))
    sha256 = hashlib.sha256((tmp_path / "other" / "model.safetensors").read_bytes()).hexdigest()
    other_name = str(tmp_path / "other")
    assert record == {"model": other_name, "weights": taken, "of": taken + 8 * 12 + 12, "sha256": sha256}
    for name, value in model.state_dict().items():
        if not name.startswith("head"):
            assert torch.equal(value, other.state_dict()[name])
    assert torch.equal(model.head.output.weight, output)
    with pytest.raises(ModelError, match="--init"):
        experiment.start_from(Histogram(7), str(tmp_path / "other"))


def test_a_run_that_began_from_another_says_so(files, tmp_path, capsys):
    """On standard error and in its record; and what it began from is needed once, not to resume."""
    run(tiny("pixelcnn-made", files), tmp_path / "first", quiet=True)
    recipe = replace(tiny("pixelcnn", files), init=str(tmp_path / "first"))
    result = run(recipe, tmp_path / "second")
    assert "weights from" in capsys.readouterr().err
    record = json.loads((tmp_path / "second" / "config.json").read_text())
    assert result["init"] == record["recipe"]["init"] == record["init"]["model"] == str(tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "elsewhere")
    assert run(recipe, tmp_path / "second", resume=True, quiet=True)["init"] == str(tmp_path / "first")


def test_a_run_that_cannot_begin_from_another_leaves_no_folder(files, tmp_path):
    """Nothing of the other model fits."""
    Histogram(7).save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="leave --init out"):
        run(replace(tiny("pixelcnn", files), init=str(tmp_path / "other")), tmp_path / "new" / "run", quiet=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "how"), [("pixelcnn-made-long-cpu", "train pixelcnn-made-cpu"), ("pixelcnn-cpu", "study shipped")]
)
def test_a_recipe_whose_beginning_is_missing_says_how_to_make_it(name, how, tmp_path, monkeypatch):
    """Before the data is fetched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "open_dataset", lambda recipe: pytest.fail("the data was opened"))
    with pytest.raises(ModelError, match=f"not there: chainrule {how}"):
        run(get_recipe(name), tmp_path / "out", quiet=True)


# -------------------------------------------------------------------------------------- what may fail after training

NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
)


def failing(error):
    def fail(*_args, **_options):
        raise error

    return fail


@pytest.mark.parametrize("error", [RuntimeError(NO_MEMORY), MemoryError(), ModelError("no form: use another")])
def test_a_model_that_cannot_be_calibrated_is_measured_all_the_same(error, files, tmp_path, monkeypatch, capsys):
    """The model is saved before, and why it has no scales is said, and stands in the result."""
    monkeypatch.setattr(experiment, "exact", failing(error))
    result = run(tiny("pixelcnn", files), tmp_path)
    (note,) = result["notes"]
    assert note in capsys.readouterr().err
    assert ("memory" in note) == (not isinstance(error, ModelError))
    assert load(tmp_path).scales is None
    assert {path.name for path in tmp_path.iterdir()} >= LEFT


def test_memory_that_ends_after_training_leaves_the_model(files, tmp_path, monkeypatch):
    """One sentence that says where it is; and with more memory the run is measured without training again."""
    recipe = tiny("pixelcnn", files)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "measure", failing(RuntimeError(NO_MEMORY)))
        with pytest.raises(ChainruleError, match=r"memory to measure the model, which is saved in .*--resume"):
            run(recipe, tmp_path, quiet=True)
    assert load(tmp_path).scales is not None
    assert not (tmp_path / "result.json").exists()
    assert run(recipe, tmp_path, resume=True, quiet=True)["steps"] == 7


def test_other_errors_after_training_are_not_taken_for_memory(files, tmp_path, monkeypatch):
    """A fault of the program is no matter of memory."""
    monkeypatch.setattr(experiment, "exact", failing(RuntimeError("shapes cannot be multiplied")))
    with pytest.raises(RuntimeError, match="shapes"):
        run(tiny("pixelcnn", files), tmp_path, quiet=True)
    assert load(tmp_path).levels == 3
