"""How to train: the fields of a recipe's training, and what is checked of them."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from chainrule.data import Dataset
from chainrule.errors import ModelError
from chainrule.models import AutoregressiveModel
from chainrule.training.optimizers import OPTIMIZERS
from chainrule.training.schedules import SCHEDULES

if TYPE_CHECKING:
    OptimizerName = str
    Schedule = str
else:  # what the command line offers
    OptimizerName = Literal[tuple(OPTIMIZERS)]
    Schedule = Literal[tuple(SCHEDULES)]
Precision = Literal["auto", "float32", "bfloat16"]
Device = Literal["auto", "cpu"]
CHOICES: dict[str, Collection[str]] = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "precision": get_args(Precision),
    "device": get_args(Device),
}

FREE = ("device", "compile", "eval_every", "tensorboard")
"""Fields that may change when a run is resumed: they decide where and how it is computed, not what."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Every field can be overridden on the command line, as `--train.steps 500`."""

    steps: int = 1000
    """Updates in the whole run; schedules depend on it."""
    batch_size: int = 128
    """Events in one update, over all processes together."""
    accumulate: int = 1
    """Parts that a batch is split into, whose gradients are added up: for batches that do not fit into memory."""
    optimizer: OptimizerName = "adam"
    """sgd (with momentum betas[0]), adam, adamw or muon."""
    lr: float = 1e-3
    """Learning rate at its highest."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of Adam's averages."""
    weight_decay: float = 0.0
    warmup: int = 0
    """Steps over which the learning rate rises linearly, from its highest divided by them."""
    schedule: Schedule = "constant"
    """How the learning rate falls after the warm-up; it would reach zero one step after the last."""
    clip: float = 0.0
    """Largest norm of the gradient of the loss in nats per dimension; 0 for no limit."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, which is what is evaluated and kept; 0 for none."""
    label_smoothing: float = 0.0
    """Part of an entry's target that goes to all its levels alike, in [0, 1); what is evaluated is not smoothed."""
    jitter: float = 0.0
    """Standard deviation, in levels, of noise added to the training events: for ordered levels and a smooth truth."""
    redraw: bool = False
    """Draw training events anew whenever they are seen, where the data knows how: digits on fresh crops."""
    only: str = ""
    """Train only the weights that have this in their names, such as "looks"; the others stay as they are."""
    crop: int = 32
    """Side of the random crops that a model of pictures of mixed sizes is trained on."""
    turned: bool = False
    """Lay each batch of crops in one of eight ways, drawn at random: as it is, transposed, mirrored."""
    eval_every: int = 100
    """Steps between two evaluations on the whole validation set (and checkpoints)."""
    precision: Precision = "auto"
    """auto: bfloat16 where the processor multiplies it natively, float32 elsewhere."""
    device: Device = "auto"
    """auto: a GPU if there is one."""
    compile: bool = False
    """Compile the loss with torch.compile: a minute at the start, then fewer and larger kernels; meant for GPUs."""
    seed: int = 0
    """Initial weights, order of the data, dropout and noise."""
    tensorboard: bool = False
    """Write event files for TensorBoard into the run folder, beside metrics.jsonl."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(TrainConfig).items():
            value = getattr(self, name)
            if kind in (int, float):
                object.__setattr__(self, name, as_number(name, value, kind))
            elif kind in (bool, str) and not isinstance(value, kind):
                wanted = "True or False" if kind is bool else "a word"
                raise ModelError(f"--train.{name.replace('_', '-')} is {value!r}: it must be {wanted}")
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise ModelError(f"--train.betas is {self.betas!r}: it must be two numbers")
        object.__setattr__(self, "betas", tuple(as_number("betas", beta, float) for beta in self.betas))
        for name in ("steps", "batch_size", "accumulate", "crop", "eval_every"):
            if getattr(self, name) < 1:
                raise ModelError(f"--train.{name.replace('_', '-')} is {getattr(self, name)}: it must be at least 1")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ModelError(f"--train.lr is {self.lr}: a learning rate is a positive number")
        for name, value in (
            ("ema", self.ema),
            ("betas", self.betas[0]),
            ("betas", self.betas[1]),
            ("label-smoothing", self.label_smoothing),
        ):
            if not 0 <= value < 1:
                raise ModelError(f"--train.{name} is {value}: it must lie in [0, 1)")
        for name in ("warmup", "weight_decay", "clip", "jitter"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise ModelError(f"--train.{name.replace('_', '-')} is {getattr(self, name)}: it must be 0 or more")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in list(choices):
                raise ModelError(f"--train.{name} is {getattr(self, name)!r}: use {', '.join(choices)}")


def as_number(name: str, value: Any, kind: type[int] | type[float]) -> int | float:
    """A field's value as Python's own number, whatever library it comes from.

    Raises:
        ModelError: it is none, or no whole one.

    >>> import numpy as np
    >>> as_number("steps", np.int64(3), int), as_number("lr", np.float32(0.5), float)
    (3, 0.5)
    """
    try:
        return operator.index(value) if kind is int else float(value)
    except (TypeError, ValueError, OverflowError):
        wanted = "a whole number" if kind is int else "a number"
        raise ModelError(f"--train.{name.replace('_', '-')} is {value!r}: it must be {wanted}") from None


def settings(config: TrainConfig, model: AutoregressiveModel, dataset: Dataset) -> dict[str, Any]:
    """What must be the same for a checkpoint to be continued."""
    later = {
        "redraw": False,
        "label_smoothing": 0.0,
        "only": "",
        "crop": 32,
        "turned": False,
    }  # checkpoints from before there was a choice say nothing of them
    train = {key: value for key, value in asdict(config).items() if key not in FREE and later.get(key) != value}
    return {"model": model.config, "data": dataset.name, "train": train}
