"""Every named experiment: which data, which model, how it is trained.

A recipe is a value, not a script: `chainrule train NAME` runs it, and every field can be overridden on the command
line. The presets: `quick` fits two CPU cores and a quarter of an hour for all of them together, `full` is the
assignment's size and training. The table can be read without PyTorch; `get_recipe` makes of a line what can be run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chainrule.errors import ModelError

if TYPE_CHECKING:
    from chainrule.lab.fields import ModelFields
    from chainrule.training.config import TrainConfig

Preset = Literal["quick", "full"]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A named experiment."""

    name: str
    title: str
    data: str
    """A dataset's name, or a file or folder."""
    model: ModelFields
    train: TrainConfig
    validation: int | None = None
    """Images of the Hopper set that are held out for validation; None for 5,000."""
    levels: int | None = None
    """Levels that images of one's own are quantised to; None for as many as they have."""
    init: str | None = None
    """A model or run that the weights are taken from at first, as far as they have the same names and shapes."""
    preset: Preset = "quick"
    """The preset that this recipe started from."""


@dataclass(frozen=True)
class Line:
    """A recipe as it stands in the table."""

    title: str
    data: str
    model: str
    """The class, a name in `chainrule.models.REGISTRY`."""
    fields: Values
    """The model's arguments that differ from its constructor's own."""
    train: Values
    """Fields of `TrainConfig`."""
    full: Values | None = None
    """The model's arguments on the full preset, with its training; None where both presets are the same."""
    validation: int | None = None
    init: str | None = None


WARMUP = {
    "steps": 2000,
    "batch_size": 200,
    "lr": 0.03,
    "schedule": "cosine",
    "ema": 0.99,
    "eval_every": 20,
    "precision": "float32",
    "device": "cpu",
}
TWO_D = {
    "steps": 2000,
    "batch_size": 1000,
    "lr": 3e-3,
    "warmup": 100,
    "schedule": "cosine",
    "jitter": 1.5,
    "eval_every": 100,
    "precision": "float32",
    "device": "cpu",
}
FULL_IMAGES = {"steps": 21_500, "batch_size": 128, "lr": 1e-3, "eval_every": 430}
QUICK_IMAGES = {
    "steps": 3200,
    "batch_size": 8,
    "optimizer": "muon",
    "lr": 0.02,
    "warmup": 100,
    "schedule": "cosine",
    "ema": 0.998,
    "clip": 1.0,
    "eval_every": 400,
}
CPU_IMAGES = QUICK_IMAGES | {"steps": 7000, "batch_size": 16, "eval_every": 500}


def digits(title: str, model: str, quick: Values, full: Values) -> Line:
    """A model of the Hopper set in either preset: all are trained alike, so that they can be compared."""
    return Line(title, "hopper-mnist", model, quick, QUICK_IMAGES, full, 1000)


def on_cpu(title: str, model: str, init: str | None = None, **train: Any) -> Line:
    """The assignment's size, as well trained as two CPU cores can in an hour or two; for every preset the same."""
    return Line(title, "hopper-mnist", model, {}, CPU_IMAGES | train, None, 1000, init)


QUICK, GATED_QUICK, GATED_FULL = (
    {"filters": 64, "blocks": 8},
    {"filters": 24, "blocks": 8},
    {"filters": 52, "blocks": 10},
)
"""Gated models of these sizes have about as many parameters as masked ones of the same preset."""

RECIPES: dict[str, Line] = {
    "warmup": Line("Part 1: softmax histogram", "warmup", "Histogram", {}, WARMUP),
    "2d-mlp": Line("Part 2.1: MLP", "portrait-2d", "ConditionalMLP", {}, TWO_D | {"batch_size": 2000}),
    "2d-made": Line("Part 2.2: MADE", "portrait-2d", "MADE", {"hidden": (128, 128)}, TWO_D),
    "pixelcnn": digits("Part 3: PixelCNN, factorised over channels", "PixelCNN", QUICK, {}),
    "pixelcnn-made": digits("Part 3: PixelCNN-MADE", "PixelCNNMADE", QUICK, {}),
    "gated": digits("Bonus: gated PixelCNN, factorised over channels", "GatedPixelCNN", GATED_QUICK, GATED_FULL),
    "gated-made": digits("Bonus: gated PixelCNN-MADE", "GatedPixelCNNMADE", GATED_QUICK, GATED_FULL),
    "class-conditional": digits(
        "Bonus: gated PixelCNN-MADE given the class",
        "GatedPixelCNNMADE",
        GATED_QUICK | {"classes": 10},
        GATED_FULL | {"classes": 10},
    ),
    # two gated PixelCNNs, with about as many parameters together as the one of gated-made
    "grayscale": digits(
        "Bonus: PixelCNN with a gray image as auxiliary variable",
        "GrayscalePixelCNN",
        {"filters": 16, "blocks": 8},
        {"filters": 36, "blocks": 10},
    ),
    # as many parameters as pixelcnn-made, and with the same seed the same batches
    "iqn": digits("Bonus: PixelIQN, quantile regression", "PixelIQN", QUICK, {}),
    "logistic": digits("Bonus: PixelCNN with a discretised mixture of logistics", "LogisticPixelCNN", QUICK, {}),
    "gated-logistic": digits(
        "Bonus: gated PixelCNN with a discretised mixture of logistics",
        "ImageModel",
        GATED_QUICK | {"trunk": "gated", "head": "logistic"},
        GATED_FULL | {"trunk": "gated", "head": "logistic"},
    ),
    "gated-iqn": digits(
        "Bonus: gated PixelIQN, quantile regression",
        "ImageModel",
        GATED_QUICK | {"trunk": "gated", "head": "quantile"},
        GATED_FULL | {"trunk": "gated", "head": "quantile"},
    ),
    # the last of four runs, each from the weights of the one before: `chainrule study shipped` has them all
    "pixelcnn-cpu": on_cpu(
        "Part 3: PixelCNN, factorised over channels, full size, on a CPU",
        "PixelCNN",
        "runs/pixelcnn-cpu-2",
        steps=20_000,
        lr=0.01,
        redraw=True,
        eval_every=1000,
    ),
    "pixelcnn-made-cpu": on_cpu("Part 3: PixelCNN-MADE, full size, on a CPU", "PixelCNNMADE"),
    "pixelcnn-made-long-cpu": on_cpu(
        "Part 3: PixelCNN-MADE, full size, longer on a CPU",
        "PixelCNNMADE",
        "runs/pixelcnn-made-cpu",
        steps=60_000,
        lr=0.01,
        ema=0.999,
        redraw=True,
        eval_every=2000,
    ),
}


def get_recipe(name: str, preset: Preset = "quick") -> Recipe:
    """The recipe called `name`.

    Raises:
        ModelError: there is none.

    Example:
        >>> get_recipe("pixelcnn-made", "full").model
        PixelCNNMADEFields(filters=128, blocks=12, layer_norm=True)
    """
    from chainrule.lab.fields import fields_of
    from chainrule.training.config import TrainConfig

    if name not in RECIPES:
        raise ModelError(f"there is no recipe {name!r}: choose one of {', '.join(RECIPES)}")
    line = RECIPES[name]
    fields, train, validation = line.fields, line.train, line.validation
    if preset == "full" and line.full is not None:
        fields, train, validation = line.full, FULL_IMAGES, 5000
    model = fields_of(line.model)(**fields)
    return Recipe(name, line.title, line.data, model, TrainConfig(**train), validation, init=line.init, preset=preset)
