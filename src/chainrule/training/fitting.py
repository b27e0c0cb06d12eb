"""Fitting a model by its own loss, mostly maximum likelihood: one short loop, the same for all.

A run is a pure function of (config, step). The batch of step s is found from (seed, s) alone, dropout and noise draw
from (seed, s, process), and schedules depend on a total that is fixed at the start: so a resumed run continues bit for
bit, and several processes see disjoint parts of the same global batch. Devices, processes and mixed precision are
accelerate's.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor, nn

from chainrule import metrics
from chainrule.data import Dataset
from chainrule.errors import ModelError
from chainrule.evaluation import context_of, validation_loss
from chainrule.models import GenerativeModel
from chainrule.training.allocator import keep_freed_memory
from chainrule.training.average import WeightAverage
from chainrule.training.batches import batch_indices, jittered, mixed_seed
from chainrule.training.checkpoint import Checkpoint, Journal
from chainrule.training.config import TrainConfig, rate, settings
from chainrule.training.optimizers import make_optimizer
from chainrule.training.progress import Interrupt, progress_reporter


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
    model: GenerativeModel,
    dataset: Dataset,
    config: TrainConfig | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    **overrides: Any,
) -> History:
    """Train `model` in place by its own loss; it ends with the weights that were best on validation data.

    Args:
        model: any model of the dataset's shape and levels.
        dataset: its `train` and `validation` splits are used, its `test` split is not touched.
        config: how to train; `overrides` replace single fields, as in `fit(model, dataset, steps=500, lr=1e-3)`.
        folder: where to write metrics.jsonl and checkpoint.pt; without it nothing is written.
        resume: go on from the folder's checkpoint; the result is that of a run never interrupted.
        quiet: no progress on standard error.

    Raises:
        ModelError: the model does not fit the data, the data cannot be drawn anew, or the checkpoint belongs to other
            settings.
        ChainruleError: a checkpoint could not be written; the last good one is kept.
        KeyboardInterrupt: after Ctrl-C, once the checkpoint of the step at hand is safe.

    Example:
        >>> from chainrule.data import warmup
        >>> from chainrule.models import Histogram
        >>> history = fit(Histogram(100), warmup(), steps=20, lr=0.1, quiet=True)
        >>> len(history.train), history.best_bits < 6.6
        (20, True)
    """
    config = replace(config or TrainConfig(), **overrides)
    if (tuple(dataset.shape), dataset.levels) != (model.shape, model.levels):
        raise ModelError(
            f"the model is for events of shape {model.shape} with {model.levels} levels, "
            f"the data {dataset.name!r} for {tuple(dataset.shape)} with {dataset.levels}"
        )
    check_redraw(dataset, config)
    keep_freed_memory()
    accelerator = make_accelerator(config)
    world, rank = accelerator.num_processes, accelerator.process_index
    if config.batch_size % world:
        raise ModelError(f"a batch of {config.batch_size} cannot be shared by {world} processes: use a multiple")
    model.to(accelerator.device)
    objective = accelerator.prepare(Objective(model, compiled=config.compile))
    optimizer = accelerator.prepare(
        make_optimizer(config.optimizer, model, config.lr, config.weight_decay, config.betas)
    )
    base_lrs = [group["lr"] for group in optimizer.param_groups]
    average = WeightAverage(model, config.ema)
    best = {name: value.clone() for name, value in model.state_dict().items()}
    history = History()
    journal_path = Path(folder) / "metrics.jsonl" if folder and accelerator.is_main_process else None
    journal = Journal(journal_path, tensorboard=config.tensorboard, unit=model.loss_unit)
    checkpoint = Checkpoint(Path(folder) / "checkpoint.pt" if folder else None, settings(config, model, dataset))

    first = 0
    if resume and (saved := checkpoint.read(accelerator.device)) is not None:
        first = saved["step"]
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.values, best = saved["average"], saved["best"]
        history = History(**saved["history"])
        journal.cut(first)
    else:
        journal.cut(0)

    def save(step: int) -> None:
        if accelerator.is_main_process:
            journal.flush()
            checkpoint.write(
                {
                    "step": step,
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "average": average.values,
                    "best": best,
                    "history": asdict(history),
                }
            )
        accelerator.wait_for_everyone()

    train = dataset.train.to(accelerator.device)
    context = context_of(model, dataset, "train")
    in_unit = metrics.bits if model.loss_unit == "bits/dim" else float
    pending: list[Tensor] = []
    report = progress_reporter(
        config.steps, first, unit=model.loss_unit, quiet=quiet or not accelerator.is_main_process
    )
    seconds_before, step_seconds_before, began = history.seconds, history.step_seconds, time.perf_counter()
    evaluating_seconds = 0.0
    with report, Interrupt() as interrupt:
        for step in range(first, config.steps):
            for group, base in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = base * rate(config, step)
            rows = batch_indices(len(train), config.batch_size, config.seed, step)
            mine = rows[rank::world]
            given = None if context is None else context[mine].to(train.device)
            model.train()
            torch.manual_seed(mixed_seed(config.seed, step, rank))
            x = events(dataset, train, mine, config.redraw)
            if config.jitter:
                x = jittered(x, model.levels, config.jitter)
            optimizer.zero_grad(set_to_none=True)
            loss = loss_and_gradients(accelerator, objective, x, given, config.accumulate)
            if config.clip:
                accelerator.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            average.update(step)
            pending.append(loss)

            done = step + 1
            interrupted = anywhere(accelerator, interrupt.requested)
            evaluate = done % config.eval_every == 0 or done == config.steps
            if evaluate or len(pending) == 50 or interrupted:
                losses = accelerator.reduce(torch.stack(pending).float(), "mean").tolist()
                pending.clear()
                if not all(map(math.isfinite, losses)):
                    raise ModelError(
                        f"the loss is no longer finite near step {done}: lower --train.lr (now {config.lr:g}) "
                        "or set --train.clip"
                    )
                for offset, value in enumerate(losses):
                    history.train.append(in_unit(value))
                    journal.add({"step": done - len(losses) + 1 + offset, "train": history.train[-1]})
                report.step(done, history.train[-1])
            history.step_seconds = step_seconds_before + time.perf_counter() - began - evaluating_seconds
            if evaluate:
                paused = time.perf_counter()
                with average.applied(model):
                    validation = validation_loss(model, dataset)
                    if validation < history.best_bits:
                        history.best_bits, history.best_step = validation, done
                        best = {name: value.clone() for name, value in model.state_dict().items()}
                history.validation.append((done, validation))
                journal.add({"step": done, "validation": validation})
                report.validation(done, validation)
                evaluating_seconds += time.perf_counter() - paused
            history.seconds = seconds_before + time.perf_counter() - began
            if evaluate or interrupted:
                save(done)
            if interrupted and done < config.steps:
                raise KeyboardInterrupt
    model.load_state_dict(best)
    return history


def check_redraw(dataset: Dataset, config: TrainConfig) -> None:
    """Raise `ModelError` where training events are to be drawn anew and cannot be."""
    if config.redraw and dataset.redraw is None:
        raise ModelError(
            f"--train.redraw: {dataset.name} cannot be drawn anew, only hopper-mnist can: pass --train.no-redraw"
        )


def events(dataset: Dataset, train: Tensor, rows: Tensor, redraw: bool) -> Tensor:
    """The training events of a step, on the device where `train`, the split, lies."""
    if redraw and dataset.redraw is not None:
        return dataset.redraw(rows).to(train.device, non_blocking=True)
    return train[rows.to(train.device)]


class Objective(nn.Module):
    """What is minimised: the model's own loss, compiled by PyTorch if asked for.

    Accelerate wraps this module, and so leaves the model's own `forward` as it was.
    """

    def __init__(self, model: GenerativeModel, *, compiled: bool = False) -> None:
        super().__init__()
        self.model = model
        self.loss = torch.compile(model.loss) if compiled else model.loss

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        loss: Tensor = self.loss(x, context)
        return loss


def loss_and_gradients(
    accelerator: Accelerator, objective: nn.Module, x: Tensor, context: Tensor | None, parts: int
) -> Tensor:
    """The loss of a batch, whose gradients are added up over `parts` of it, one after the other.

    Processes exchange gradients after the last part only.
    """
    pieces = [piece for piece in x.tensor_split(parts) if len(piece)]
    contexts = [None] * len(pieces) if context is None else context.tensor_split(parts)
    total = torch.zeros((), device=x.device)
    for k, (piece, given) in enumerate(zip(pieces, contexts, strict=False)):  # an empty part is a last one
        waiting = accelerator.no_sync(objective) if k + 1 < len(pieces) else contextlib.nullcontext()
        with waiting:
            loss = objective(piece, given) * (len(piece) / len(x))
            accelerator.backward(loss)
        total = total + loss.detach()
    return total


def anywhere(accelerator: Accelerator, requested: bool) -> bool:
    """Whether any process was interrupted: all must leave the loop after the same step."""
    if accelerator.num_processes == 1:
        return requested
    return bool(accelerator.reduce(torch.tensor(float(requested), device=accelerator.device), "sum") > 0)


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Accelerate's view of the machine: device, processes, precision."""
    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    precision = config.precision
    if precision == "auto":
        precision = "bfloat16" if native_bfloat16(on_cpu) else "float32"
    mixed = {"bfloat16": "bf16", "float32": "no"}[precision]
    if AcceleratorState._shared_state:  # a second fit in one process may ask for other settings
        partial = PartialState._shared_state
        moved = partial.get("_cpu") not in (None, on_cpu) and partial.get("num_processes", 1) == 1
        AcceleratorState._reset_state(reset_partial_state=moved)
    return Accelerator(mixed_precision=mixed, cpu=on_cpu)


def leave_processes() -> None:
    """Leave the group of processes, if there is one: the last thing of a program that trains in several.

    A process that ends without it is now and then aborted, since the group's threads are still running.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def native_bfloat16(on_cpu: bool = True) -> bool:
    """Whether the processor multiplies bfloat16 itself, so that autocast makes it faster and not slower."""
    if not on_cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
