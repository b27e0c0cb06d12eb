"""How much faster a training step is than in the usual code, and whether it learns the same."""

from __future__ import annotations

import copy
import math
import statistics
import time
from typing import Any

import torch
from torch import Tensor

from chainrule.data import Dataset
from chainrule.errors import DataError, ModelError
from chainrule.lab.bench.measuring import peak_megabytes
from chainrule.lab.bench.reference import PlainPixelCNNMADE, covers
from chainrule.models import AutoregressiveModel, PixelCNNMADE
from chainrule.training.allocator import keep_freed_memory
from chainrule.training.batches import batch_indices
from chainrule.training.config import TrainConfig
from chainrule.training.devices import machine_for
from chainrule.training.step import Training

LR, BETAS = 1e-3, (0.9, 0.999)
"""Adam's, on both sides."""


def bench_training(
    dataset: Dataset,
    model: AutoregressiveModel | None = None,
    batch: int = 16,
    repeats: int = 5,
    steps: int = 0,
    seeds: int = 1,
) -> dict[str, Any]:
    """Time training steps of ours and of the plain reference in turn, from the same weights, with Adam.

    Ours is as `fit` trains: cropped kernels, channels_last, compiled layers between them, freed memory kept, Adam in
    one pass, bfloat16 where the processor has it. The reference is float32, full masked kernels, NCHW, with the
    allocator and Adam as they come.

    Args:
        dataset: images; batches come from its training split.
        model: a PixelCNNMADE with layer norm and few levels; by default the assignment's full size.
        batch: images in a step.
        repeats: timed rounds of two steps each, of which the median counts.
        steps: if not 0, both are also trained for so many steps on the same batches, and their losses compared.
        seeds: how often that is done, each time with other batches and, without a `model`, from other weights: two runs
            of the same training differ, too, once their sums have been rounded differently.

    Returns:
        Images a second of both, their ratio, and the mean loss (bits/dim) of the last twenty steps of all seeds.

    Raises:
        ModelError: the model is none that the reference covers.
        DataError: the data do not fit it.
    """
    given, model = model, model or initial(dataset, 0)
    if not isinstance(model, PixelCNNMADE) or not covers(model):
        raise ModelError("the training benchmark is for a PixelCNNMADE with layer norm and at most 16 levels")
    if (tuple(dataset.shape), dataset.levels) != (model.shape, model.levels):
        raise DataError(f"{dataset.name} does not fit the model: choose data of shape {model.shape}")
    sides = both_sides(model, dataset, batch)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    memory: dict[str, float] = {}
    for name, side in sides.items():  # the allocator is changed for good, so the reference goes first
        if name == "ours":
            keep_freed_memory()
        side.step()
        for _ in range(repeats):
            began = time.perf_counter()
            for _ in range(2):
                float(side.step())
            seconds[name].append((time.perf_counter() - began) / 2)
        memory[name] = peak_megabytes()
    median = {name: statistics.median(values) for name, values in seconds.items()}
    figures: dict[str, Any] = {
        "benchmark": "training",
        "model": f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters",
        "batch": batch,
        "precision": "bfloat16" if sides["ours"].machine.bfloat16 else "float32",
        "threads": torch.get_num_threads(),
        "images_per_second": batch / median["ours"],
        "images_per_second_least": batch / max(seconds["ours"]),
        "images_per_second_most": batch / min(seconds["ours"]),
        "reference_images_per_second": batch / median["reference"],
        "reference_images_per_second_least": batch / max(seconds["reference"]),
        "reference_images_per_second_most": batch / min(seconds["reference"]),
        "peak_megabytes_of_reference": memory["reference"],
        "peak_megabytes_of_both": memory["ours"],
        "ratio": median["reference"] / median["ours"],
    }
    if steps:
        last: dict[str, list[float]] = {name: [] for name in sides}
        for seed in range(seeds):
            for name, side in both_sides(given or initial(dataset, seed), dataset, batch, seed).items():
                losses = [float(side.step()) for _ in range(steps)]
                last[name].append(statistics.fmean(losses[-20:]) / math.log(2))
        ours, plain = statistics.fmean(last["ours"]), statistics.fmean(last["reference"])
        apart = [100 * (a / b - 1) for a, b in zip(last["ours"], last["reference"], strict=True)]
        figures |= {"steps": steps, "seeds": seeds, "loss_bits_per_dim": ours, "reference_loss_bits_per_dim": plain}
        figures |= {"loss_difference_percent": 100 * (ours / plain - 1)}
        figures |= {"loss_difference_percent_least": min(apart), "loss_difference_percent_most": max(apart)}
    return figures


def profile_training(
    dataset: Dataset, model: AutoregressiveModel | None = None, batch: int = 16, steps: int = 4, rows: int = 12
) -> list[dict[str, Any]]:
    """Where the time of a training step goes: PyTorch's operations by their own time, the largest first.

    Returns:
        For each operation its name, calls a step, milliseconds a step, and share of the whole in percent.
    """
    model = model or initial(dataset, 0)
    keep_freed_memory()
    side = as_trained(model, dataset, batch)
    side.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            side.step()
    found = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in found)
    return [
        {
            "operation": event.key,
            "calls_a_step": event.count / steps,
            "milliseconds_a_step": event.self_cpu_time_total / steps / 1e3,
            "percent": 100 * event.self_cpu_time_total / total,
        }
        for event in found[:rows]
    ]


def initial(dataset: Dataset, seed: int) -> AutoregressiveModel:
    """The assignment's PixelCNN-MADE before training."""
    torch.manual_seed(seed)
    return PixelCNNMADE(dataset.shape, dataset.levels)  # type: ignore[arg-type]


def both_sides(model: AutoregressiveModel, dataset: Dataset, batch: int, seed: int = 0) -> dict[str, Any]:
    """The reference and ours, from the same weights and on the same batches."""
    return {"reference": Plain(model, dataset, batch, seed), "ours": as_trained(model, dataset, batch, seed)}


def as_trained(model: AutoregressiveModel, dataset: Dataset, batch: int, seed: int = 0) -> Training:
    """Our side: the step that `fit` takes, on the CPU and in the precision that it would choose there."""
    config = TrainConfig(batch_size=batch, lr=LR, betas=BETAS, seed=seed, device="cpu")
    return Training(copy.deepcopy(model), dataset, config, machine_for(config))


class Plain:
    """The reference: plain layers and PyTorch's Adam as it comes."""

    def __init__(self, model: AutoregressiveModel, dataset: Dataset, batch: int, seed: int) -> None:
        self.network = PlainPixelCNNMADE(model).train()  # type: ignore[arg-type]
        self.optimizer = torch.optim.Adam(self.network.parameters(), LR, betas=BETAS)
        self.events, self.batch, self.seed, self.done = dataset.train, batch, seed, 0

    def step(self) -> Tensor:
        """One update; the loss before it, in nats per dimension."""
        loss = self.network(self.events[batch_indices(len(self.events), self.batch, self.seed, self.done)])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.done += 1
        return loss.detach()
