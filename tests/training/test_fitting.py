"""Training: a run is a pure function of configuration and step, however often it is interrupted."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from chainrule.data import Dataset
from chainrule.errors import ChainruleError, DataError, ModelError
from chainrule.evaluation import bits_per_dim
from chainrule.models import (
    MADE,
    GatedPixelCNNMADE,
    GrayscalePixelCNN,
    Histogram,
    LogisticPixelCNN,
    PixelCNN,
    PixelCNNMADE,
    PixelIQN,
)
from chainrule.nn import encoding
from chainrule.training import allocator, keep_freed_memory
from chainrule.training import fitting as training
from chainrule.training import step as stepping
from chainrule.training.average import WeightAverage
from chainrule.training.batches import batch_indices
from chainrule.training.config import TrainConfig, settings
from chainrule.training.fitting import fit
from chainrule.training.objective import Objective, smoothed_loss
from chainrule.training.optimizers import OPTIMIZERS
from chainrule.training.schedules import SCHEDULES, rate
from laws import CASES, CONDITIONAL_CASES, events, randomised, tiny_dataset

BASE = TrainConfig(steps=11, batch_size=8, lr=0.02, eval_every=3, precision="float32", device="cpu")


def made(seed=0):
    torch.manual_seed(seed)
    return MADE((3,), 4, (8,))


def pixels():
    torch.manual_seed(0)
    return PixelCNNMADE((2, 3, 4), 3, 6, 1)


def train(model=None, data=None, config=BASE, **options):
    """A quiet run; returns (model, history)."""
    model = made() if model is None else model
    return model, fit(model, data or tiny_dataset(), config, quiet=True, **options)


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def same_state(a, b):
    """Equality of nested states, bit for bit, but for times."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[k], b[k]) for k in a if not str(k).endswith("seconds"))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_state, a, b))
    return a == b


def at_step(monkeypatch, step, action):
    """Do something while the batch of a step is being put together, once."""
    real, done = stepping.batch_indices, []

    def hooked(count, batch_size, seed, now):
        if now == step and not done:
            done.append(now)
            action()
        return real(count, batch_size, seed, now)

    monkeypatch.setattr(stepping, "batch_indices", hooked)


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def journal(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# ---------------------------------------------------------------------------------------------------------- schedules


def test_warmup_rises_to_the_highest_rate():
    """Linear, never zero, and full at its end."""
    assert [rate("constant", step, steps=20, warmup=4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_schedules_fall_to_zero():
    """Constant stays; linear and cosine fall from 1 after the warm-up, cosine being half way in the middle."""
    for warmup in (0, 10):
        for schedule, middle in (("linear", 0.5), ("cosine", 0.5), ("constant", 1)):
            rates = [rate(schedule, step, 110, warmup) for step in range(warmup, 111)]
            assert rates[0] == 1
            assert rates == sorted(rates, reverse=True)
            assert rates[(110 - warmup) // 2] == pytest.approx(middle)
            assert rates[-1] == pytest.approx(0 if schedule != "constant" else 1)


def test_a_warmup_longer_than_the_run():
    """No division by zero."""
    assert rate("cosine", 2, steps=3, warmup=10) == pytest.approx(0.3)


def test_the_schedule_is_applied():
    """With plain gradient descent, the first step is the rate's share of the step without warm-up."""
    data, moved = tiny_dataset((1,), 4), {}
    for warmup in (0, 4):
        model, _ = train(Histogram(4), data, steps=1, optimizer="sgd", lr=0.1, warmup=warmup, eval_every=1)
        moved[warmup] = model.theta.detach()
    torch.testing.assert_close(moved[4], moved[0] / 4)


def test_a_new_schedule_is_one_line(monkeypatch):
    """What stands in the table can be chosen, is applied, and nothing else need know of it."""
    monkeypatch.setitem(SCHEDULES, "square", lambda done: (1 - done) ** 2)
    data, moved = tiny_dataset((1,), 4), {}
    for schedule in ("constant", "square"):
        model, _ = train(Histogram(4), data, steps=2, optimizer="sgd", betas=(0, 0), lr=1e-4, schedule=schedule)
        moved[schedule] = model.theta.detach()
    torch.testing.assert_close(moved["square"], 0.625 * moved["constant"], rtol=1e-2, atol=0)


# ----------------------------------------------------------------------------------------------------------- objective


def smoothing_cases():
    return [case for case in (*CASES, *CONDITIONAL_CASES) if case.name.endswith(("L2", "L4-linear", "L5", "k1", "c2"))]


@pytest.mark.parametrize("case", smoothing_cases(), ids=lambda case: case.name)
def test_label_smoothing_is_the_cross_entropy_to_smoothed_targets(case):
    """By its definition, entry by entry; without smoothing, the model's own loss; and it can be differentiated."""
    model = randomised(case.build())
    x, context = events(model, 5), model.example_context(5)
    y, log_p = model.with_auxiliaries(x), model.log_pmf(x, context).detach()
    total = 0.0
    for site in model.sites():
        table = log_p[(slice(None), *site.index)][:, : site.levels]
        for row, value in zip(table.tolist(), y[(slice(None), *site.index)].tolist(), strict=True):
            possible = [p for p in row if p > -math.inf]  # given the gray of a pixel, its colours are not free
            total -= 0.7 * row[int(value)] + 0.3 * sum(possible) / len(possible)
    smoothed = Objective(model, 0.3)(x, context)
    assert float(smoothed.detach()) == pytest.approx(total / 5 / model.dims, rel=1e-9)
    loss = model.loss(x, context)
    torch.testing.assert_close(Objective(model)(x, context), loss, rtol=0, atol=0)
    torch.testing.assert_close(smoothed_loss(model, 0.0, x, context), loss, rtol=1e-9, atol=0)
    smoothed.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_label_smoothing_is_an_option_of_training():
    """It changes what is trained, not what is measured: a histogram tends to the smoothed frequencies."""
    data = tiny_dataset((1,), 3, n=900)
    options = {"steps": 300, "lr": 0.05, "schedule": "cosine", "batch_size": 200, "eval_every": 300}
    model, history = train(Histogram(3), data, label_smoothing=0.4, **options)
    frequencies = data.train[:, 0].bincount(minlength=3) / len(data.train)
    expected = 0.6 * frequencies + 0.4 / 3
    torch.testing.assert_close(model.theta.detach().softmax(0), expected, atol=0.03, rtol=0)
    assert history.validation[-1][1] == pytest.approx(bits_per_dim(model, data, "validation"), rel=1e-9)


def test_a_model_without_probabilities_has_no_labels_to_smooth():
    with pytest.raises(ModelError, match=r"--train.label-smoothing: PixelIQN gives levels no probabilities"):
        train(PixelIQN((1, 2, 2), 4, 4, 1), tiny_dataset((1, 2, 2)), label_smoothing=0.1)


# ---------------------------------------------------------------------------------------------------- noise, averages


def test_jitter_is_applied_to_training_events():
    """The loss of a step with jitter is that of other events."""
    plain, noisy = train()[1], train(jitter=1.0)[1]
    assert plain.train[0] != noisy.train[0]


def redrawn(data):
    """The same data, whose training events are drawn anew as noise."""
    return replace(data, redraw=lambda rows: torch.randint(data.levels, (len(rows), *data.shape), dtype=torch.uint8))


def test_training_events_are_drawn_anew():
    """With --train.redraw the data's own draws are trained on, others in every step and epoch; otherwise never."""
    plain, data, asked = tiny_dataset(), tiny_dataset(), []
    data = replace(data, redraw=lambda rows: asked.append(rows) or data.train[rows])
    assert same_weights(train(data=data)[0], train(data=plain)[0])
    assert not asked
    assert same_weights(train(data=data, redraw=True)[0], train(data=plain)[0])
    assert torch.equal(torch.cat(asked), torch.cat([batch_indices(40, 8, 0, step) for step in range(11)]))
    noise = redrawn(plain)
    first, history = train(data=noise, redraw=True)
    assert not same_weights(first, train(data=plain)[0])
    torch.manual_seed(99)
    assert same_weights(first, train(data=noise, redraw=True)[0])
    assert len(set(history.train)) == 11


def test_data_that_cannot_be_drawn_anew():
    with pytest.raises(ModelError, match=r"--train.redraw: tiny cannot be drawn anew"):
        train(redraw=True)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_only_some_weights_are_trained(optimizer, tmp_path, monkeypatch):
    """Those with the name move, the others and their average keep every bit; also in a run that is resumed."""
    options = {"optimizer": optimizer, "only": "output", "ema": 0.9, "weight_decay": 0.1, "clip": 1.0}
    trained, _ = train(**options)
    for (name, now), before in zip(trained.named_parameters(), made().parameters(), strict=True):
        assert torch.equal(now, before) == ("output" not in name)
    at_step(monkeypatch, 5, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        train(folder=tmp_path / "parts", **options)
    assert same_weights(train(folder=tmp_path / "parts", resume=True, **options)[0], trained)


def test_nothing_to_train():
    with pytest.raises(ModelError, match=r"--train.only looks: no weight of the model has this in its name"):
        train(only="looks")


def test_settings_name_only_what_was_chosen():
    """So that checkpoints from before --train.redraw existed are continued, and none with the other choice."""
    model, data = Histogram(4), tiny_dataset()
    assert "redraw" not in settings(TrainConfig(), model, data)["train"]
    assert settings(TrainConfig(redraw=True), model, data)["train"]["redraw"] is True
    assert not {"label_smoothing", "only"} & settings(TrainConfig(), model, data)["train"].keys()
    assert settings(TrainConfig(label_smoothing=0.5), model, data)["train"]["label_smoothing"] == 0.5


def test_average_of_weights():
    """The recursion by hand, with the decay's warm-up; applied only inside the block."""
    model = Histogram(2)
    average = WeightAverage(model, 0.5)
    expected = torch.zeros(2)
    for step in range(30):
        model.theta.data += torch.tensor([1.0, -0.5])
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.theta.detach()
    now = model.theta.detach().clone()
    with average.applied():
        torch.testing.assert_close(model.theta.detach(), expected)
    assert torch.equal(model.theta, now)
    with pytest.raises(ZeroDivisionError), average.applied():
        raise ZeroDivisionError
    assert torch.equal(model.theta, now)


def test_no_average_is_the_weights():
    """Decay 0 changes nothing."""
    model = Histogram(2)
    average = WeightAverage(model, 0)
    model.theta.data += 1
    average.update(0)
    with average.applied():
        assert model.theta.tolist() == [1, 1]


# ------------------------------------------------------------------------------------------------------------- fitting


def test_history_and_journal(tmp_path):
    """Every step's loss and every evaluation, in memory and on disk; the best is the lowest validation."""
    _, history = train(folder=tmp_path)
    assert len(history.train) == 11
    assert [step for step, _ in history.validation] == [3, 6, 9, 11]
    assert (history.best_step, history.best_bits) == min(history.validation, key=lambda pair: pair[1])
    records = journal(tmp_path)
    assert [r["train"] for r in records if "train" in r] == history.train
    assert [r["step"] for r in records if "train" in r] == list(range(1, 12))
    assert [(r["step"], r["validation"]) for r in records if "validation" in r] == history.validation
    assert 0 < history.step_seconds <= history.seconds


def test_losses_are_bits_per_dimension_of_the_minibatch():
    """The first figure is the initial model's on the first batch."""
    model, data = made(), tiny_dataset()
    rows = batch_indices(len(data.train), 8, 0, 0)
    first = -float(model.log_prob(data.train[rows]).detach().mean()) / math.log(2) / 3
    assert train(model, data)[1].train[0] == pytest.approx(first, abs=1e-6)


def test_it_learns(tmp_path):
    """A histogram finds the frequencies of its training data."""
    data = tiny_dataset((1,), 3, n=900)
    model, _ = train(Histogram(3), data, steps=300, lr=0.05, schedule="cosine", batch_size=200, eval_every=50)
    frequencies = data.train[:, 0].bincount(minlength=3) / len(data.train)
    torch.testing.assert_close(model.theta.detach().softmax(0), frequencies, atol=0.03, rtol=0)


def test_the_best_weights_are_kept(monkeypatch):
    """A model that gets worse ends with the weights of its best evaluation."""
    figures, seen = iter([2.0, 1.0, 3.0, 4.0]), []

    def measured(model, x):
        seen.append([p.detach().clone() for p in model.parameters()])
        return next(figures)

    monkeypatch.setattr(training, "validation_loss", measured)
    model, history = train()
    assert (history.best_step, history.best_bits) == (6, 1.0)
    assert all(map(torch.equal, seen[1], model.parameters()))
    assert not any(map(torch.equal, seen[3], model.parameters()))


def test_the_average_is_what_is_evaluated_and_kept(monkeypatch):
    """With an average, validation sees it and the model ends with it, not with the last weights."""
    seen = []
    weights, real = [], WeightAverage.update

    def measured(model, x):
        seen.append(model.theta.detach().clone())
        return -len(seen)

    def update(self, step):
        weights.append(self.parameters[0].detach().clone())
        real(self, step)

    monkeypatch.setattr(training, "validation_loss", measured)
    monkeypatch.setattr(WeightAverage, "update", update)
    model, _ = train(Histogram(4), tiny_dataset((1,), 4), ema=0.9)
    expected = torch.zeros(4)
    for step, theta in enumerate(weights):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * theta
    torch.testing.assert_close(model.theta.detach(), expected)
    assert torch.equal(seen[-1], model.theta)
    assert not torch.equal(weights[-1], model.theta)


def test_the_test_split_is_not_touched():
    """Other test events, the same run."""
    data = tiny_dataset()
    other = Dataset(data.name, data.levels, data.train, data.validation, test=data.test.flip(0)[:2] * 0)
    assert same_weights(train(data=data)[0], train(data=other)[0])


def test_two_runs_are_one(tmp_path):
    """The same configuration gives the same weights, whatever the global generator's state; another seed others."""
    first, _ = train(jitter=1.0)
    torch.manual_seed(99)
    second, _ = train(jitter=1.0)
    assert same_weights(first, second)
    assert not same_weights(first, train(jitter=1.0, seed=1)[0])


@pytest.mark.parametrize("parts", [2, 3, 50])
def test_gradients_add_up(parts):
    """A batch in parts, equal or not or more than it has events, trains as the batch at once, up to rounding."""
    runs = [train(pixels(), tiny_dataset((2, 3, 4), 3), steps=6, batch_size=8, accumulate=k) for k in (1, parts)]
    (whole, history), (parted, other) = runs
    assert history.train == pytest.approx(other.train, abs=1e-5)
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, parted.state_dict()[name], atol=1e-5)


def test_clipping_limits_the_step():
    """With plain gradient descent the first step's length is at most rate times limit."""
    model, _ = train(Histogram(4), tiny_dataset((1,), 4), steps=1, optimizer="sgd", lr=1.0, clip=1e-3, eval_every=1)
    assert float(model.theta.detach().norm()) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_trained_model_is_an_ordinary_one(precision):
    """After training nothing of the training's precision is left: log_prob is what stands in the other views."""
    model, _ = train(precision=precision)
    x = tiny_dataset().test
    torch.testing.assert_close(model.log_prob(x), model.site_log_probs(x).sum(1), rtol=0, atol=1e-5)
    fresh = made()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.log_prob(x), model.log_prob(x))


HAS_COMPILER = shutil.which("g++") is not None and Path(sysconfig.get_path("include"), "Python.h").exists()
INDUCTOR = pytest.param(
    "inductor",
    marks=[
        pytest.mark.thorough,  # it compiles C++ for a minute
        pytest.mark.skipif(not HAS_COMPILER, reason="torch.compile needs a C++ compiler and Python's headers on a CPU"),
    ],
)


@pytest.mark.parametrize("backend", ["aot_eager", INDUCTOR])
def test_a_compiled_loss_is_the_loss(monkeypatch, backend):
    """--train.compile changes how the loss is computed, not what it is; a checkpoint does not ask for it again."""
    data, asked, compiler = tiny_dataset((2, 3, 4), 3), [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda loss: asked.append(loss) or compiler(loss, backend=backend))
    runs = [train(pixels(), data, steps=4, eval_every=2, compile=choice) for choice in (False, True)]
    assert asked == [runs[1][0].loss]
    assert runs[1][1].train == pytest.approx(runs[0][1].train, abs=1e-5)
    assert runs[1][1].validation[-1][1] == pytest.approx(runs[0][1].validation[-1][1], abs=1e-5)
    model, losses = runs[1][0], runs[1][1].train
    assert losses[-1] != losses[0]
    assert settings(TrainConfig(compile=True), model, data) == settings(TrainConfig(), model, data)
    assert set(model.state_dict()) == set(runs[0][0].state_dict())


@pytest.mark.parametrize("build", [PixelCNN, PixelCNNMADE, GatedPixelCNNMADE, GrayscalePixelCNN, LogisticPixelCNN])
def test_the_loss_is_one_graph_on_a_gpu(build, monkeypatch):
    """Nothing in it waits for the device there, so that torch.compile need not break it in pieces."""
    monkeypatch.setenv("CHAINRULE_COMPILED", "0")
    torch.manual_seed(0)
    model, x = build((3, 4, 4), 3, 4, 1), torch.randint(0, 3, (2, 3, 4, 4))
    monkeypatch.setattr(encoding, "levels_of", lambda v: None)  # as on any device but the CPU
    if compiled_passes := sys.modules.get("chainrule.compiled.training.known_passes"):
        monkeypatch.setattr(compiled_passes, "levels_of", lambda v: None)
    torch.testing.assert_close(torch.compile(model.loss, backend="eager", fullgraph=True)(x), model.loss(x))
    torch.compiler.reset()


def test_a_model_can_be_fitted_twice():
    """A second fit goes on from the first one's weights, in another precision too."""
    model, first = train(precision="bfloat16")
    _, second = train(model)
    assert second.train[0] < first.train[0]


OTHERS_ACCELERATOR = """
import torch
from accelerate import Accelerator
theirs = Accelerator(mixed_precision="bf16", cpu=True)
from chainrule.training import fit
from laws import tiny_dataset
from chainrule.models import MADE
losses = {}
for precision in ("float32", "bfloat16", "float32"):
    torch.manual_seed(0)
    history = fit(MADE((3,), 4, (8,)), tiny_dataset(), steps=3, precision=precision, device="cpu", quiet=True)
    losses.setdefault(precision, []).append(history.train)
assert losses["float32"][0] == losses["float32"][1] != losses["bfloat16"][0]
assert theirs.mixed_precision == "bf16" and Accelerator().mixed_precision == "bf16"
"""


def test_a_programs_own_accelerator_stays_as_it_was(script):
    """Its settings hold for the process, ours for a run: neither changes the other."""
    _, environment = script
    code, _, errors = launch(["-c", OTHERS_ACCELERATOR], environment)
    assert code == 0, errors[-3000:]


def test_fit_leaves_the_allocator_alone(monkeypatch):
    """What changes the whole process is the program's choice: the command line makes it, a call of `fit` does not."""
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("the C library was asked for"))
    allocator.keep_freed_memory.cache_clear()
    train()
    monkeypatch.undo()
    keep_freed_memory()


@pytest.mark.parametrize("data", [tiny_dataset((2,), 4), tiny_dataset((3,), 3)])
def test_data_that_does_not_fit_the_model(data):
    """Shape and levels of both are named."""
    with pytest.raises(ModelError, match=r"events of shape \(3,\) with 4 levels.*'tiny' for \(\d,\) with \d"):
        train(data=data)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("eval_every", 0),
        ("lr", 0.0),
        ("lr", -1.0),
        ("lr", math.inf),
        ("lr", math.nan),
        ("ema", 1.0),
        ("ema", -0.1),
        ("warmup", -1),
        ("clip", -1.0),
        ("jitter", -1.0),
        ("weight_decay", -1.0),
        ("betas", (1.5, 0.9)),
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
        ("optimizer", "adagrad"),
        ("schedule", "exponential"),
        ("precision", "float8"),
        ("device", "tpu"),
    ],
)
def test_impossible_settings_are_refused(field, value):
    """Each is a ModelError that names the option, before anything is trained."""
    with pytest.raises(ModelError, match=field.replace("_", "[-_]")):
        train(**{field: value})


def test_a_loss_that_is_not_finite(tmp_path):
    """A run that diverges stops with a sentence, and its last good checkpoint loads."""

    class Diverging(Histogram):
        def _logits(self, v, context=None):
            return super()._logits(v, context) * (float("nan") if self.training and self.broken else 1)

    model = Diverging(4)
    model.broken = False
    data = tiny_dataset((1,), 4)
    train(model, data, folder=tmp_path)
    model.broken = True
    with pytest.raises(ModelError, match=r"no longer finite .*--train.lr"):
        train(model, data, folder=tmp_path / "other")
    assert not (tmp_path / "other" / "checkpoint.pt").exists()
    with pytest.raises(ModelError, match=r"finite"):
        train(pixels(), tiny_dataset((2, 3, 4), 3), lr=1e20, optimizer="sgd", folder=tmp_path / "third")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 11


@pytest.mark.parametrize("step", [2, 5])
def test_weights_that_are_not_finite(tmp_path, monkeypatch, step):
    """Found at the next evaluation even where the losses look well; nothing of it is kept."""
    model = made()

    def spoil():
        next(model.parameters()).data[:] = math.nan
        monkeypatch.setattr(
            model, "loss", lambda x, context=None: sum(p.nan_to_num().sum() for p in model.parameters())
        )

    monkeypatch.setattr(stepping.Objective, "forward", lambda self, x, context: self.model.loss(x, context))
    at_step(monkeypatch, step, spoil)
    kept = r"; the last checkpoint is kept" if step > 3 else r"clip$"
    with pytest.raises(
        ModelError, match=rf"a weight is no longer finite near step {step + 1}: lower --train.lr.*{kept}"
    ):
        train(model, folder=tmp_path)
    if step > 3:
        state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        assert state["step"] == 3
        assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_a_loss_that_grows_without_end(tmp_path):
    """Numbers that are finite and beyond all hope end a run, too; one that was merely bad goes on."""
    torch.manual_seed(0)
    model, data = PixelIQN((1, 2, 2), 4, 4, 1), tiny_dataset((1, 2, 2))
    with pytest.raises(ModelError, match=r"the loss has grown to .* near step 3: lower --train.lr \(now 30000\)"):
        train(model, data, optimizer="adam", lr=3e4, clip=0.0, folder=tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()
    train(MADE((1,), 4, (8,)), tiny_dataset((1,), 4), lr=10.0)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        torch.OutOfMemoryError("CUDA out of memory"),
        None,
    ],
)
def test_too_little_memory(tmp_path, monkeypatch, error):
    """One sentence with the options that help, for whatever says that memory has come to an end."""

    def exhaust():
        if error is None:
            torch.empty(2**60, dtype=torch.uint8)
        raise error

    at_step(monkeypatch, 4, exhaust)
    with pytest.raises(
        ModelError, match=r"needs more memory .*--train.batch-size \(now 8\).*--train.accumulate \(now 1\)"
    ):
        train(folder=tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 3
    at_step(monkeypatch, 4, lambda: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match=r"inconsistent|size"):
        train()


# ------------------------------------------------------------------------------------------------------------ resuming

KINDS = {
    "adam": {},
    "adamw-ema": {"optimizer": "adamw", "weight_decay": 0.1, "ema": 0.9, "schedule": "cosine", "warmup": 5},
    "sgd-jitter": {"optimizer": "sgd", "jitter": 1.0, "clip": 0.5},
    "muon-ema-jitter": {"optimizer": "muon", "ema": 0.9, "jitter": 1.0, "schedule": "linear"},
    "adam-redraw-jitter": {"redraw": True, "jitter": 1.0},
}


@pytest.mark.parametrize("build", [made, pixels])
@pytest.mark.parametrize("step", [0, 4, 5, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_and_resume_is_a_run_never_interrupted(tmp_path, monkeypatch, kind, step, build):
    """Ctrl-C at any step, in the middle of an epoch: bit for bit the same weights, state, figures and journal."""
    model = build()
    data, config = redrawn(tiny_dataset(model.shape, model.levels)), KINDS[kind]
    whole, expected = train(model, data, folder=tmp_path / "whole", **config)
    at_step(monkeypatch, step, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        train(build(), data, folder=tmp_path / "parts", **config)
    saved = torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)
    assert saved["step"] == step + 1
    torch.manual_seed(12345)
    resumed, history = train(build(), data, folder=tmp_path / "parts", resume=True, **config)
    assert same_weights(resumed, whole)
    assert same_state(asdict(history), asdict(expected))
    assert journal(tmp_path / "parts") == journal(tmp_path / "whole")
    first, second = (torch.load(tmp_path / part / "checkpoint.pt", weights_only=True) for part in ("whole", "parts"))
    assert same_state(first, second)


@pytest.mark.parametrize("call", [1, 2, 4])
@pytest.mark.parametrize("kind", ["adamw-ema", "muon-ema-jitter"])
def test_ctrl_c_in_the_middle_of_an_evaluation(tmp_path, monkeypatch, kind, call):
    """It is given up at once, the weights of training are kept, and the resumed run does it first."""
    whole, expected = train(folder=tmp_path / "whole", **KINDS[kind])
    real, calls = training.validation_loss, []

    def measured(model, dataset):
        calls.append(1)
        if len(calls) == call:
            ctrl_c()
            pytest.fail("the evaluation goes on")
        return real(model, dataset)

    monkeypatch.setattr(training, "validation_loss", measured)
    with pytest.raises(KeyboardInterrupt):
        train(folder=tmp_path / "parts", **KINDS[kind])
    saved = torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)
    assert saved["step"] == min(3 * call, 11)
    assert len(saved["history"]["validation"]) == call - 1
    resumed, history = train(folder=tmp_path / "parts", resume=True, **KINDS[kind])
    assert len(calls) == 5
    assert same_weights(resumed, whole)
    assert same_state(asdict(history), asdict(expected))
    assert journal(tmp_path / "parts") == journal(tmp_path / "whole")


def test_a_schedulers_signal_is_a_ctrl_c(tmp_path, monkeypatch):
    """SIGTERM leaves a checkpoint of the step at hand, from which the run ends as one never stopped."""
    whole, _ = train(folder=tmp_path / "whole")
    at_step(monkeypatch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        train(folder=tmp_path / "parts")
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["step"] == 5
    resumed, _ = train(folder=tmp_path / "parts", resume=True)
    assert same_weights(resumed, whole)
    assert journal(tmp_path / "parts") == journal(tmp_path / "whole")


def test_two_runs_do_not_share_a_folder(tmp_path, monkeypatch):
    """The second is refused while the first goes on, and the first's files are those of a run alone."""
    train(folder=tmp_path / "alone")
    refusals = []

    def second():
        def attempt():
            with pytest.raises(ChainruleError, match=r"another run is writing into .*parts: wait"):
                train(folder=tmp_path / "parts", seed=1)
            refusals.append(True)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

    at_step(monkeypatch, 4, second)
    train(folder=tmp_path / "parts")
    assert refusals == [True]
    assert journal(tmp_path / "parts") == journal(tmp_path / "alone")
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [".lock", "checkpoint.pt", "metrics.jsonl"]


def test_many_interruptions(tmp_path, monkeypatch):
    """Interrupted after every single step, the run still is the same."""
    config = {"optimizer": "muon", "ema": 0.9, "jitter": 1.0}
    whole, expected = train(folder=tmp_path / "whole", **config)
    for step in range(10):
        with monkeypatch.context() as patch:
            at_step(patch, step, ctrl_c)
            with pytest.raises(KeyboardInterrupt):
                train(folder=tmp_path / "parts", resume=step > 0, **config)
    resumed, history = train(folder=tmp_path / "parts", resume=True, **config)
    assert same_weights(resumed, whole)
    assert same_state(asdict(history), asdict(expected))
    assert journal(tmp_path / "parts") == journal(tmp_path / "whole")


@pytest.mark.parametrize("step", [1, 5, 8])
def test_a_crash_resumes_from_the_last_checkpoint(tmp_path, monkeypatch, step):
    """With no chance to write one, the last evaluation's checkpoint is gone on from; the journal repeats nothing."""
    config = {"optimizer": "muon", "ema": 0.9, "jitter": 1.0}
    whole, _ = train(folder=tmp_path / "whole", **config)

    def crash():
        raise ZeroDivisionError

    at_step(monkeypatch, step, crash)
    with pytest.raises(ZeroDivisionError):
        train(folder=tmp_path / "parts", **config)
    if step > 3:
        with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
            file.write('{"step": 99, "train": 1.0}\n{"step": 100, "tr')
    resumed, _ = train(folder=tmp_path / "parts", resume=True, **config)
    assert same_weights(resumed, whole)
    assert journal(tmp_path / "parts") == journal(tmp_path / "whole")


@pytest.mark.parametrize("delay", [0.0005, 0.003, 0.011])
def test_ctrl_c_at_no_particular_moment(tmp_path, monkeypatch, delay):
    """As a terminal sends it, in the middle of whatever is going on: no part of a step is lost or done twice."""
    config = {"steps": 150, "eval_every": 10, "optimizer": "muon", "ema": 0.9}
    whole, _ = train(folder=tmp_path / "whole", **config)
    timer = threading.Timer(delay, ctrl_c)
    at_step(monkeypatch, 20, timer.start)
    with pytest.raises(KeyboardInterrupt):
        train(folder=tmp_path / "parts", **config)
    resumed, _ = train(folder=tmp_path / "parts", resume=True, **config)
    assert same_weights(resumed, whole)
    assert journal(tmp_path / "parts") == journal(tmp_path / "whole")


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    """All steps are done: the best weights are handed back."""
    whole, history = train(folder=tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    again, same = train(made(5), folder=tmp_path, resume=True)
    assert same_weights(whole, again)
    assert same_state(asdict(history), asdict(same))
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_an_earlier_run_is_not_replaced(tmp_path):
    """Without resuming, its folder is refused and stays as it is; once its checkpoint is gone, all begins anew."""
    train(folder=tmp_path)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ChainruleError, match=r"checkpoint.pt is an earlier run's: pass resume=True"):
        train(folder=tmp_path, steps=4, tensorboard=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    (tmp_path / "checkpoint.pt").unlink()
    train(folder=tmp_path, steps=4)
    assert max(record["step"] for record in journal(tmp_path)) == 4


def test_generators_are_as_they_were(tmp_path):
    """A run neither depends on PyTorch's global generator nor changes it, even if it ends in an error."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    weights = []
    for seed in (5, 6):
        model = made()
        torch.manual_seed(seed)
        train(model, jitter=1.0)
        weights.append(model)
        assert torch.equal(torch.rand(3), expected) == (seed == 5)
    assert same_weights(*weights)
    torch.manual_seed(5)
    with pytest.raises(ModelError, match="finite"):
        train(weights[0], lr=1e30, optimizer="sgd")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 12.5}, "steps is 12.5: it must be a whole number"),
        ({"batch_size": "8"}, "batch-size is '8': it must be a whole number"),
        ({"eval_every": 2.0}, "eval-every is 2.0"),
        ({"lr": "fast"}, "lr is 'fast': it must be a number"),
        ({"betas": (0.9, None)}, "betas is None: it must be a number"),
        ({"betas": (0.9,)}, "it must be two numbers"),
        ({"betas": 0.9}, "it must be two numbers"),
        ({"lr": 10**400}, "it must be a number"),
        ({"optimizer": ["adam"]}, "use sgd"),
        ({"only": 3}, "only is 3: it must be a word"),
        ({"redraw": "no"}, "redraw is 'no': it must be True or False"),
    ],
)
def test_numbers_that_are_none(options, said):
    model = made()
    with pytest.raises(ModelError, match=said):
        train(model, **options)
    assert same_weights(model, made())


def test_numbers_of_other_libraries(tmp_path):
    """NumPy's and PyTorch's are as good as Python's, and so is the checkpoint."""
    one, _ = train(steps=4, lr=0.5, eval_every=2)
    other, _ = train(steps=np.int64(4), lr=torch.tensor(0.5), eval_every=np.uint8(2), folder=tmp_path)
    assert same_weights(one, other)


@pytest.mark.parametrize("data", [torch.zeros(4, 3, dtype=torch.long), np.zeros((4, 3)), [1], None, "hopper-mnist"])
def test_what_is_no_dataset(data):
    with pytest.raises(DataError, match=r"fit takes a Dataset, not a .*chainrule.data.Dataset\("):
        fit(made(), data, BASE)


def test_settings_that_are_none():
    with pytest.raises(ModelError, match="`config` is a dict: give a TrainConfig"):
        fit(made(), tiny_dataset(), {"steps": 1})


def test_a_model_whose_weights_are_all_frozen():
    with pytest.raises(ModelError, match="asks for a gradient"):
        train(made().requires_grad_(False))


def test_resuming_with_other_settings_is_refused(tmp_path):
    """The difference is named: of the training, the model, and the data."""
    train(folder=tmp_path)
    with pytest.raises(ModelError, match=r"train\.lr was 0\.02, is 0\.5"):
        train(folder=tmp_path, resume=True, lr=0.5)
    with pytest.raises(ModelError, match=r"model\.hidden was \[8\], is \[9\]"):
        train(MADE((3,), 4, (9,)), folder=tmp_path, resume=True)
    with pytest.raises(ModelError, match=r"data was tiny, is other"):
        train(data=tiny_dataset(name="other"), folder=tmp_path, resume=True)


def other_data():
    """Data of the same name and shape with one thing changed, and how a sentence names that."""
    data = tiny_dataset()
    other = data.train.clone()
    other[-1, 0] = (other[-1, 0] + 1) % 4
    told = {"train": torch.zeros(len(data.train), dtype=torch.long)}
    return [
        (tiny_dataset(n=90), "train had 40 events and has 60 events"),
        (replace(data, train=other), r"\(train has other events\)"),
        (replace(data, validation=data.test), "validation has other events"),
        (replace(data, test=data.test[:-1]), r"\(test had 10 events and has 9 events\)"),
        (replace(data, labels=told), r"\(train has other events\)"),
    ]


@pytest.mark.parametrize(("data", "change"), other_data())
def test_resuming_on_other_data_is_refused(tmp_path, data, change):
    """Under the same name, in the same number: what changed is said, and the run stays as it was."""
    train(folder=tmp_path, steps=4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match=f"tiny is not what the run began with .*{change}.*give it the same data"):
        train(data=data, folder=tmp_path, resume=True, steps=4)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def places(state, path=()):
    """Every place of a nested state."""
    if path:
        yield path
    if isinstance(state, dict | list | tuple):
        for key in state if isinstance(state, dict) else range(len(state)):
            yield from places(state[key], (*path, key))


def changed(state, path, value):
    """The state with another value at a place; `...` takes it away."""
    if not path:
        return value
    new = dict(state) if isinstance(state, dict) else list(state)
    inner = changed(state[path[0]], path[1:], value)
    if inner is ...:
        del new[path[0]]
    else:
        new[path[0]] = inner
    return new if isinstance(state, dict) else type(state)(new)


@pytest.mark.parametrize("kind", ["adam", "sgd-jitter", "muon-ema-jitter"])
def test_no_checkpoint_is_resumed_that_does_not_fit(tmp_path, kind):
    """Anything missing or of another type anywhere, a tensor of another shape: a sentence, the model untouched."""
    data, config = tiny_dataset((2,), 3), KINDS[kind] | {"steps": 4, "eval_every": 2, "folder": tmp_path}
    make = lambda: MADE((2,), 3, (4,))  # noqa: E731
    train(make(), data, **config)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tried = 0
    for path in places(state):
        value = state
        for key in path:
            value = value[key]
        wrong = [{"not": "this"}, None]
        if isinstance(value, torch.Tensor):
            wrong += [value[None], value.double()]
        may_be_absent = [("optimizer",), ("history", "validation")]  # a parameter's moments, an evaluation
        if path[:-1] not in may_be_absent:
            wrong.append(...)
        for other in wrong:
            torch.save(changed(state, path, other), tmp_path / "checkpoint.pt")
            with pytest.raises(ModelError, match="checkpoint"):
                train(model, data, resume=True, **config)
            tried += 1
    assert tried > 60
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("step", [-1, 0, 3, 12, 2**70])
def test_a_checkpoint_of_an_impossible_step(tmp_path, step):
    """Before the run, after it, or other than the losses that it holds."""
    train(folder=tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save(state | {"step": step}, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match=r"checkpoint\.pt is damaged or of another version \(step does not fit\)"):
        train(folder=tmp_path, resume=True)


@pytest.mark.parametrize("damage", [b'{"step": 9, "tr', b"[1, 2]\n", b"\xff\xfe\n", b"\0" * 40])
def test_a_damaged_journal_is_made_good_again(tmp_path, damage):
    """A finished run's journal, cut off or overwritten, is whole after resuming: the checkpoint knows the losses."""
    train(folder=tmp_path)
    path = tmp_path / "metrics.jsonl"
    before = path.read_bytes()
    path.write_bytes(before[:-40] + damage)
    train(folder=tmp_path, resume=True)
    assert path.read_bytes() == before


def test_resuming_from_a_damaged_checkpoint_is_refused(tmp_path):
    """Never silently from the start."""
    train(folder=tmp_path)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ModelError, match="damaged"):
        train(folder=tmp_path, resume=True)


def test_a_disk_that_runs_full_in_training(tmp_path, monkeypatch):
    """One sentence; the last good checkpoint loads, and with room again the run ends as if nothing had been."""
    whole, _ = train(folder=tmp_path / "whole")
    real = os.fsync

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    at_step(monkeypatch, 4, lambda: monkeypatch.setattr(os, "fsync", full))
    with pytest.raises(ChainruleError, match="No space left on device"):
        train(folder=tmp_path / "parts")
    monkeypatch.setattr(os, "fsync", real)
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["step"] == 3
    resumed, _ = train(folder=tmp_path / "parts", resume=True)
    assert same_weights(resumed, whole)
    assert journal(tmp_path / "parts") == journal(tmp_path / "whole")


def test_no_folder_no_files(tmp_path, monkeypatch):
    """Without a folder nothing is written anywhere."""
    monkeypatch.chdir(tmp_path)
    train()
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------- other processes

SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from chainrule.errors import ModelError
from chainrule.training import TrainConfig, fit, leave_processes
from laws import tiny_dataset
from chainrule.models import PixelCNNMADE

folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
torch.manual_seed(0)
model = PixelCNNMADE((2, 3, 4), 3, 6, 1)
if int(os.environ.get("WORLD_SIZE", "1")) > 1:
    try:
        fit(model, tiny_dataset((2, 3, 4), 3), TrainConfig(steps=1, batch_size=7, device="cpu"), quiet=True)
        raise SystemExit("a batch of 7 was shared by 2")
    except ModelError:
        pass
history = fit(model, tiny_dataset((2, 3, 4), 3), TrainConfig(**options), folder=folder, quiet=True)
if int(os.environ.get("RANK", "0")) == 0:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    result = {"train": history.train, "validation": history.validation, "world": world}
    (folder / "history.json").write_text(json.dumps(result))
    torch.save(model.state_dict(), folder / "model.pt")
leave_processes()
assert not torch.distributed.is_initialized()
"""
OPTIONS = {"batch_size": 8, "lr": 0.02, "eval_every": 4, "precision": "float32", "device": "cpu"}


@pytest.fixture
def script(tmp_path):
    """A small training script, and the environment that it runs in."""
    (tmp_path / "train.py").write_text(SCRIPT)
    paths = os.pathsep.join(
        [os.path.dirname(os.path.dirname(os.path.abspath(__file__))), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    return str(tmp_path / "train.py"), os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def two_processes():
    """Arguments of Python that start two CPU processes. (With `--cpu` the launcher would start a single one.)"""
    options = {"num_processes": 2, "num_machines": 1, "mixed_precision": "no", "dynamo_backend": "no"}
    options |= {"num_cpu_threads_per_process": 1, "main_process_port": free_port()}
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return ["-m", "accelerate.commands.launch", "--multi_gpu", *flags]


def launch(arguments, environment, timeout=120):
    """Run Python with arguments; returns (code, out, err), and leaves no process behind."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, *arguments], stdout=pipe, stderr=pipe, text=True, env=environment)
    try:
        out, errors = process.communicate(timeout=timeout)
        return process.returncode, out, errors
    finally:
        process.terminate()  # the launcher ends its workers
        try:
            process.communicate(timeout=45)
        except subprocess.TimeoutExpired:
            process.kill()


INTERRUPTED = """
import os, signal
from chainrule.training import step as stepping
rank, real = int(os.environ["RANK"]), stepping.batch_indices
def hooked(count, batch_size, seed, step):
    if step == 4 + rank:
        os.kill(os.getpid(), signal.SIGINT)
    return real(count, batch_size, seed, step)
stepping.batch_indices = hooked
"""


@pytest.mark.slow
def test_ctrl_c_reaches_two_processes_at_different_steps(tmp_path, script):
    """A terminal's Ctrl-C never hits all processes at one moment: they must stop together, with one checkpoint."""
    _, environment = script
    hooked = tmp_path / "hooked.py"
    hooked.write_text(INTERRUPTED + SCRIPT)
    try:
        launch([*two_processes(), str(hooked), str(tmp_path), json.dumps(OPTIONS | {"steps": 50})], environment)
    except subprocess.TimeoutExpired:
        pytest.fail("the processes wait for each other for ever")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] in (5, 6, 7)
    assert not (tmp_path / "history.json").exists()


@pytest.mark.slow
def test_two_processes_are_one(tmp_path, script):
    """`accelerate launch` with two CPU processes gives one process's losses for the same global batch, to rounding.

    With Muon, which leaves the outer layers to Adam.
    """
    path, environment = script
    options = OPTIONS | {"steps": 20, "optimizer": "muon"}
    arguments = [*two_processes(), path, str(tmp_path), json.dumps(options | {"accumulate": 2})]
    code, _, errors = launch(arguments, environment)
    assert code == 0, errors[-3000:]
    two = json.loads((tmp_path / "history.json").read_text())
    _, one = train(pixels(), tiny_dataset((2, 3, 4), 3), TrainConfig(**options))
    assert len(one.train) == len(two["train"]) == 20
    assert one.train == pytest.approx(two["train"], abs=2e-4)
    assert [bits for _, bits in one.validation] == pytest.approx([bits for _, bits in two["validation"]], abs=2e-4)
    assert two["world"] == 2
    assert [r["step"] for r in journal(tmp_path) if "train" in r] == list(range(1, 21))
    # A run of two processes goes on with one: a checkpoint knows nothing of processes.
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert not any(name.startswith("module.") for name in state["model"])


@pytest.mark.slow
def test_a_killed_process_resumes(tmp_path, script):
    """SIGKILL at a random moment: the run goes on from its last checkpoint and ends as one never killed."""
    path, environment = script
    options = json.dumps(OPTIONS | {"steps": 120, "optimizer": "muon", "ema": 0.9, "jitter": 1.0})
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, path, str(folder), options], env=environment)
    began = time.monotonic()
    while not (folder / "checkpoint.pt").exists() and time.monotonic() - began < 60:
        time.sleep(0.005)
    time.sleep(0.2)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    step = torch.load(folder / "checkpoint.pt", weights_only=True)["step"]
    assert 0 < step < 120
    data, config = tiny_dataset((2, 3, 4), 3), TrainConfig(**json.loads(options))
    whole, _ = train(pixels(), data, config, folder=tmp_path / "whole")
    resumed, _ = train(pixels(), data, config, folder=folder, resume=True)
    assert same_weights(resumed, whole)
    assert journal(folder) == journal(tmp_path / "whole")
