"""Fitting a model by its own loss, mostly maximum likelihood: one short loop, the same for all."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chainrule import metrics
from chainrule.data import Dataset, Pictures
from chainrule.errors import ChainruleError, DataError, ModelError, out_of_memory
from chainrule.evaluation import check_splits, splits_of, validation_loss
from chainrule.models import AutoregressiveModel
from chainrule.stopping import Interrupt
from chainrule.training.checkpoint import Checkpoint, Journal
from chainrule.training.config import TrainConfig, settings
from chainrule.training.devices import Machine, anywhere, machine_for
from chainrule.training.lock import holding
from chainrule.training.progress import Silent, progress_reporter
from chainrule.training.step import Training

NOTED = 50
"""Losses are fetched from the device at least every so many steps."""
HOPELESS = 1e6
"""A loss that has grown by this factor does not come back."""


@dataclass
class History:
    """What a run measured on its way: losses in the model's `loss_unit`, bits per dimension for a likelihood."""

    train: list[float] = field(default_factory=list)
    """Loss of the minibatch of steps 1, 2, …"""
    validation: list[tuple[int, float]] = field(default_factory=list)
    """(step, loss on the whole validation set)."""
    best_step: int = 0
    best_bits: float = math.inf
    seconds: float = 0.0
    """Time spent training, evaluations included; over all parts of a run that was resumed."""
    step_seconds: float = 0.0
    """The same without the evaluations."""


def fit(
    model: AutoregressiveModel,
    dataset: Dataset,
    config: TrainConfig | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    **overrides: Any,
) -> History:
    """Train `model` in place by its own loss; it ends with the weights that were best on validation data.

    A program that does nothing but train calls `chainrule.training.keep_freed_memory()` first, as the command line
    does: on a CPU, steps are then faster, and the process keeps the memory that it once had. Once a run has ended,
    PyTorch's global generators, on the CPU and on GPUs in use, are as they were before it.

    Args:
        model: any model of the dataset's shape and levels.
        dataset: its `train` and `validation` splits are used; its `test` split is hashed, for the record, and not used.
        config: how to train; `overrides` replace single fields, as in `fit(model, dataset, steps=500, lr=1e-3)`.
        folder: where to write metrics.jsonl and checkpoint.pt; without it nothing is written.
        resume: go on from the folder's checkpoint; the result is that of a run never interrupted.
        quiet: no progress on standard error.

    Raises:
        ModelError: the model does not fit the data or has no weight to train, the data cannot be drawn anew, the
            checkpoint is damaged or belongs to other settings, the training diverges, or memory runs out.
        DataError: `dataset` is no Dataset, or the run that is resumed began with other events.
        ChainruleError: a checkpoint could not be written, another run holds the folder, or an earlier one has left its
            checkpoint there. The last good checkpoint is kept, here and above.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the checkpoint of the step at hand is safe.

    Example:
        >>> from chainrule.data import warmup
        >>> from chainrule.models import Histogram
        >>> history = fit(Histogram(100), warmup(), steps=20, lr=0.1, quiet=True)
        >>> len(history.train), history.best_bits < 6.6
        (20, True)
    """
    if not isinstance(config, TrainConfig | None):
        raise ModelError(f"`config` is a {type(config).__name__}: give a TrainConfig, or its fields by name")
    config = replace(config or TrainConfig(), **overrides)
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"fit takes a Dataset, not a {type(dataset).__name__}: give your events to "
            "chainrule.data.Dataset(name, levels, train, validation, test)"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError("no weight of the model asks for a gradient: call model.requires_grad_() first")
    if not model.takes(dataset.shape, dataset.levels):
        raise ModelError(
            f"the model is for events of shape {model.shape} with {model.levels} levels, "
            f"the data {dataset.name!r} for {tuple(dataset.shape)} with {dataset.levels}"
        )
    check_drawing(dataset, config)
    machine = machine_for(config)
    with holding(folder if machine.is_main else None), generators_kept(machine):
        try:
            run = Run(Training(model, dataset, config, machine), folder, resume, quiet)
            run.begin(resume)
            run.go_on()
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise ModelError(
                f"training needs more memory than there is: lower --train.batch-size (now {config.batch_size}), or "
                f"split batches by --train.accumulate (now {config.accumulate})"
            ) from error
        model.load_state_dict(run.best)
        return run.history


def generators_kept(machine: Machine) -> contextlib.AbstractContextManager[None]:
    """Within the block steps may seed PyTorch's global generators; afterwards these are as they were."""
    used = machine.device.type == "cuda" or torch.cuda.is_initialized()
    return torch.random.fork_rng(range(torch.cuda.device_count()) if used else [])


def check_drawing(dataset: Dataset, config: TrainConfig) -> None:
    """Raise `ModelError` where training events are to be drawn anew, or turned, and cannot be."""
    if config.redraw and dataset.redraw is None:
        raise ModelError(
            f"--train.redraw: {dataset.name} cannot be drawn anew, only hopper-mnist can: pass --train.no-redraw"
        )
    if config.turned and not isinstance(dataset.train, Pictures):
        raise ModelError(f"--train.turned: {dataset.name} has no pictures of any size: pass --train.no-turned")


class Run:
    """A training and what is kept of it: the best weights, the history, the files in the folder."""

    def __init__(self, training: Training, folder: str | Path | None, resume: bool, quiet: bool) -> None:
        self.training, self.model, self.config = training, training.model, training.config
        self.machine: Machine = training.machine
        self.quiet = quiet or not self.machine.is_main
        self.history = History()
        self.best = copy_of(self.model)
        self.pending: list[Tensor] = []
        """Losses of the last steps, which are still on the device."""
        path = Path(folder) if folder else None
        self.splits = splits_of(training.dataset) if folder else {}
        said = settings(self.config, self.model, training.dataset)
        self.checkpoint = Checkpoint(path / "checkpoint.pt" if path else None, said)
        if not resume and self.checkpoint.exists():
            kept = self.checkpoint.path
            raise ChainruleError(f"{kept} is an earlier run's: pass resume=True to go on with it, or another folder")
        self.journal = Journal(
            path / "metrics.jsonl" if path and self.machine.is_main else None,
            tensorboard=self.config.tensorboard,
            unit=self.model.loss_unit,
        )

    def begin(self, resume: bool) -> None:
        """Start from the checkpoint, if that is asked for and there is one; otherwise anew."""
        if resume and self.checkpoint.exists():
            like = self.training.example_state() | {"history": asdict(History([0.0, ...], [(0, 0.0), ...]))}  # type: ignore[list-item]
            saved = self.checkpoint.read(self.machine.device, like | {"best": self.best, "splits": self.splits})
            if not len(saved["history"]["train"]) == saved["step"] <= self.config.steps:
                raise self.checkpoint.damaged("step")
            check_splits(saved["splits"], self.training.dataset)
            self.training.load(saved)
            self.best, self.history = saved["best"], History(**saved["history"])
        self.journal.begin(self.history.train, self.history.validation)

    def go_on(self) -> None:
        """Take the steps that are left, and between them what is due."""
        config, training = self.config, self.training
        self.lap = time.perf_counter()
        reporter = progress_reporter(config.steps, training.done, unit=self.model.loss_unit, quiet=self.quiet)
        with reporter, Interrupt() as interrupt:
            while self.due or training.done < config.steps:
                if not self.due:  # after a stop in front of an evaluation, that comes first
                    self.pending.append(training.step())
                stop = anywhere(self.machine.accelerator, interrupt.requested)
                if self.pending and (self.due or stop or len(self.pending) == NOTED):
                    self.note(reporter)
                if not stop and self.due:
                    stop = not self.evaluate(reporter, interrupt)
                    self.save()
                elif stop:
                    self.save()
                if stop:
                    raise KeyboardInterrupt

    @property
    def due(self) -> bool:
        """Whether the weights at hand are to be evaluated, and have not been."""
        step, found = self.training.done, self.history.validation
        wanted = step > 0 and (step % self.config.eval_every == 0 or step == self.config.steps)
        return wanted and not (found and found[-1][0] == step)

    def note(self, reporter: Silent) -> None:
        """Record the losses of the last steps, the means over all processes."""
        losses: list[float] = self.machine.accelerator.reduce(torch.stack(self.pending).float(), "mean").tolist()
        self.pending.clear()
        if self.model.loss_unit == "bits/dim":
            losses = [metrics.bits(loss) for loss in losses]
        self.refuse_divergence(losses)
        for loss in losses:
            self.history.train.append(loss)
            self.journal.add({"step": len(self.history.train), "train": loss})
        reporter.step(self.training.done, self.history.train[-1])
        self.spend(training=True)

    def evaluate(self, reporter: Silent, interrupt: Interrupt) -> bool:
        """Measure the averaged weights on the validation set, and keep them if they are the best.

        Returns:
            False if a stop was requested meanwhile: the evaluation is given up, and comes first when the run is
                resumed.
            Several processes measure to the end, since all must stop at one step.
        """
        step, history = self.training.done, self.history
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters()):
            raise self.diverged("a weight is no longer finite")
        alone = self.machine.accelerator.num_processes == 1
        with self.training.average.applied():
            try:
                with interrupt.at_once() if alone else contextlib.nullcontext():
                    loss = validation_loss(self.model, self.training.dataset)
            except KeyboardInterrupt:
                return False
            self.refuse_divergence([loss])
            if loss < history.best_bits:
                history.best_bits, history.best_step, self.best = loss, step, copy_of(self.model)
        history.validation.append((step, loss))
        self.journal.add({"step": step, "validation": loss})
        reporter.validation(step, loss)
        self.spend(training=False)
        return True

    def refuse_divergence(self, losses: list[float]) -> None:
        """Stop where a loss is not finite, or out of all proportion to the first."""
        first = self.history.train[0] if self.history.train else losses[0]
        for loss in losses:
            if not math.isfinite(loss):
                raise self.diverged("the loss is no longer finite")
            if loss > HOPELESS * max(1.0, first):
                raise self.diverged(f"the loss has grown to {loss:.2g}")

    def diverged(self, what: str) -> ModelError:
        kept = "; the last checkpoint is kept" if self.checkpoint.exists() else ""
        remedy = f"lower --train.lr (now {self.config.lr:g}) or set --train.clip"
        return ModelError(f"{what} near step {self.training.done}: {remedy}{kept}")

    def spend(self, training: bool) -> None:
        """Add the time since the last call to the history."""
        before, self.lap = self.lap, time.perf_counter()
        self.history.seconds += self.lap - before
        self.history.step_seconds += (self.lap - before) * training

    def save(self) -> None:
        """Put all that a later part of the run needs on disk."""
        if self.machine.is_main:
            self.journal.flush()
            kept = {"best": self.best, "history": asdict(self.history), "splits": self.splits}
            self.checkpoint.write(self.training.state() | kept)
        self.machine.accelerator.wait_for_everyone()


def copy_of(model: AutoregressiveModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
