"""One optimiser step, the same for training and for the benchmarks: a function of (config, data, step) and the state.

The batch of step s is found from (seed, s) alone, dropout and noise draw from (seed, s, process), and schedules depend
on a total that is fixed at the start: so a resumed run continues bit for bit, and several processes see disjoint parts
of the same global batch.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.data import Dataset, Pictures
from chainrule.errors import ModelError
from chainrule.evaluation import context_of
from chainrule.models import AutoregressiveModel
from chainrule.training.average import WeightAverage
from chainrule.training.batches import batch_indices, jittered, mixed_seed
from chainrule.training.config import TrainConfig
from chainrule.training.devices import Machine
from chainrule.training.objective import Objective
from chainrule.training.optimizers import make_optimizer
from chainrule.training.schedules import rate


class Training:
    """A model in training: `step` makes one update, and `state` is all that later steps depend on."""

    def __init__(self, model: AutoregressiveModel, dataset: Dataset, config: TrainConfig, machine: Machine) -> None:
        self.model, self.dataset, self.config, self.machine = model.to(machine.device), dataset, config, machine
        objective = Objective(model, config.label_smoothing, compiled=config.compile, bfloat16=machine.bfloat16)
        self.objective: Any = machine.accelerator.prepare_model(objective, device_placement=False)
        self.optimizer = make_optimizer(config.optimizer, model, config.lr, config.weight_decay, config.betas)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.still = kept_still(model, config)
        self.average = WeightAverage(model, config.ema)
        self.events = dataset.train.to(machine.device)
        self.pieces = self.events.pieces(config.crop) if isinstance(self.events, Pictures) else None
        self.context = context_of(model, dataset, "train")
        self.done = 0
        """Steps so far."""

    def step(self) -> Tensor:
        """One update; the loss before it on this process's part of the batch, a scalar in nats per dimension."""
        config = self.config
        for group, highest in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = highest * rate(config.schedule, self.done, config.steps, config.warmup)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.gradients(*self.batch())
        self.forget_still()
        if config.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        self.average.update(self.done)
        self.done += 1
        return loss

    def batch(self) -> tuple[Tensor, Tensor | None]:
        """This process's events of the step at hand, and their context."""
        config, accelerator = self.config, self.machine.accelerator
        rank = accelerator.process_index
        count = len(self.events) if self.pieces is None else len(self.pieces)
        rows = batch_indices(count, config.batch_size, config.seed, self.done)[rank :: accelerator.num_processes]
        rows = rows if self.pieces is None else self.pieces[rows]
        torch.manual_seed(mixed_seed(config.seed, self.done, rank))
        if config.redraw and self.dataset.redraw is not None:
            x = self.dataset.redraw(rows).to(self.events.device, non_blocking=True)
        elif isinstance(self.events, Pictures):
            rows = self.events.fitting(rows, config.crop)  # whose labels these are
            x = self.events.crops(rows, config.crop, turned=config.turned)
        else:
            x = self.events[rows.to(self.events.device)]
        if config.jitter:
            x = jittered(x, self.model.levels, config.jitter)
        return x, None if self.context is None else self.context[rows].to(x.device)

    def gradients(self, x: Tensor, context: Tensor | None) -> Tensor:
        """The loss of a batch, whose gradients are added up over its parts, one after the other.

        Processes exchange gradients after the last part only.
        """
        pieces = [piece for piece in x.tensor_split(self.config.accumulate) if len(piece)]
        contexts = [None] * len(pieces) if context is None else context.tensor_split(self.config.accumulate)
        total = torch.zeros((), device=x.device)
        for k, (piece, given) in enumerate(zip(pieces, contexts, strict=False)):  # an empty part is a last one
            last = k + 1 == len(pieces)
            with contextlib.nullcontext() if last else self.machine.accelerator.no_sync(self.objective):
                loss = self.objective(piece, given) * (len(piece) / len(x))
                loss.backward()
            total = total + loss.detach()
        return total

    def forget_still(self) -> None:
        """Drop the gradients of the weights that stay as they are, so that optimisers skip them."""
        for parameter in self.still:
            parameter.grad = None

    def state(self) -> dict[str, Any]:
        """All that later steps depend on, beside the settings and the data: references, not copies."""
        states = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()["state"]}
        return {"step": self.done, **states, "average": self.average.values}

    def example_state(self) -> dict[str, Any]:
        """A state built like any that `load` takes. Call it only before `load`: it makes the optimiser take a step."""
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0  # weights stay as they are
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.forget_still()
        self.optimizer.step()
        return self.state()

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.done, self.average.values = state["step"], state["average"]
        self.model.load_state_dict(state["model"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})


def kept_still(model: AutoregressiveModel, config: TrainConfig) -> list[nn.Parameter]:
    """The weights that stay as they are.

    Raises:
        ModelError: none would be trained.
    """
    found = [parameter for name, parameter in model.named_parameters() if config.only not in name]
    if len(found) == len(list(model.parameters())):
        raise ModelError(f"--train.only {config.only}: no weight of the model has this in its name: leave it out")
    return found
