"""Every named experiment: which data, which model, how it is trained.

A recipe is a value, not a script: `chainrule train NAME` runs it, and every field can be overridden on the command
line. The presets: `quick` fits two CPU cores and a quarter of an hour for all of them together, `full` is the
assignment's size and training. The table can be read without PyTorch; `get_recipe` turns a line into what can be run.
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
    any_size: bool = False
    """Whether the model is one of pictures of any size, even if all that it is trained on have one."""


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
    any_size: bool = False


SMALL = {"steps": 2000, "schedule": "cosine", "precision": "float32", "device": "cpu"}
WARMUP = SMALL | {"batch_size": 200, "lr": 0.03, "ema": 0.99, "eval_every": 20}
TWO_D = SMALL | {"batch_size": 1000, "lr": 3e-3, "warmup": 100, "jitter": 1.5, "eval_every": 100}
FULL_IMAGES = {"steps": 21_500, "batch_size": 128, "lr": 1e-3, "eval_every": 430}
MUON = {"optimizer": "muon", "lr": 0.02, "warmup": 100, "schedule": "cosine", "ema": 0.998, "clip": 1.0}
QUICK_IMAGES = MUON | {"steps": 3200, "batch_size": 8, "eval_every": 400}
CPU_IMAGES = MUON | {"steps": 7000, "batch_size": 16, "eval_every": 500}
FRESH = CPU_IMAGES | {"lr": 0.01, "redraw": True}
LARGE_BATCHES = FRESH | {"steps": 7500, "batch_size": 128, "ema": 0.999, "eval_every": 2500}


def digits(title: str, model: str, quick: Values, full: Values) -> Line:
    """A model of the Hopper set in either preset: all are trained alike, so that they can be compared."""
    return Line(title, "hopper-mnist", model, quick, QUICK_IMAGES, full, 1000)


def on_cpu(title: str, model: str, train: Values = CPU_IMAGES, init: str | None = None) -> Line:
    """The assignment's size, trained as well as two CPU cores can in an hour or two; the same for every preset."""
    return Line(f"Part 3: {title}, on a CPU", "hopper-mnist", model, {}, train, None, 1000, init)


def gated(title: str, model: str, **more: Any) -> Line:
    """A gated model with about as many parameters as the masked ones of the same preset."""
    quick, full = {"filters": 24, "blocks": 8, **more}, {"filters": 52, "blocks": 10, **more}
    return digits(f"Bonus: gated {title}", model, quick, full)


QUICK = {"filters": 64, "blocks": 8}
GRAYS = {"filters": 16, "blocks": 8}, {"filters": 36, "blocks": 10}
"""Two gated PixelCNNs, with about as many parameters together as the one of gated-made."""

PHOTO = {"filters": 64, "blocks": 6, "layer_norm": False, "components": 5, "prediction": 2}
OWN = PHOTO | {"copies": 4}
"""Images of one's own may be drawings, whose pixels are often their neighbours again."""
IMAGES = MUON | {"steps": 3000, "batch_size": 16, "eval_every": 500}
"""What photographs are trained with, and whatever else has many levels."""
PHOTO_STEPS = {"steps": 10_000, "eval_every": 1000, "crop": 64, "batch_size": 4}

RECIPES: dict[str, Line] = {
    "warmup": Line("Part 1: softmax histogram", "warmup", "Histogram", {}, WARMUP),
    "2d-mlp": Line("Part 2.1: MLP", "portrait-2d", "ConditionalMLP", {}, TWO_D | {"batch_size": 2000}),
    "2d-made": Line("Part 2.2: MADE", "portrait-2d", "MADE", {"hidden": (128, 128)}, TWO_D),
    "pixelcnn": digits("Part 3: PixelCNN, factorised over channels", "PixelCNN", QUICK, {}),
    "pixelcnn-made": digits("Part 3: PixelCNN-MADE", "PixelCNNMADE", QUICK, {}),
    "gated": gated("PixelCNN, factorised over channels", "GatedPixelCNN"),
    "gated-made": gated("PixelCNN-MADE", "GatedPixelCNNMADE"),
    "class-conditional": gated("PixelCNN-MADE given the class", "GatedPixelCNNMADE", classes=10),
    "grayscale": digits("Bonus: PixelCNN with a gray image as auxiliary variable", "GrayscalePixelCNN", *GRAYS),
    # as many parameters as pixelcnn-made, and with the same seed the same batches
    "iqn": digits("Bonus: PixelIQN, quantile regression", "PixelIQN", QUICK, {}),
    "logistic": digits("Bonus: PixelCNN with a discretised mixture of logistics", "LogisticPixelCNN", QUICK, {}),
    "gated-logistic": gated("PixelCNN with a mixture of logistics", "ImageModel", trunk="gated", head="logistic"),
    "gated-iqn": gated("PixelIQN, quantile regression", "ImageModel", trunk="gated", head="quantile"),
    # about as many parameters as pixelcnn-made
    "image-gpt": digits(
        "Bonus: ImageGPT, attention alone", "ImageGPT", {"filters": 48, "blocks": 4}, {"filters": 96, "blocks": 5}
    ),
    "pixelsnail": digits("Bonus: PixelSNAIL, PixelCNN-MADE with attention", "PixelSNAIL", QUICK, {}),
    "images": Line("Your own images, of any size", "", "LogisticPixelCNN", OWN, IMAGES, any_size=True),
    # the shipped models of photographs, on what tools/photos.py makes
    "photo": Line("Photographs of any size", "", "LogisticPixelCNN", PHOTO, IMAGES | PHOTO_STEPS, any_size=True),
    # the last of four runs, each from the weights of the one before: `chainrule study shipped` has them all
    "pixelcnn-cpu": on_cpu(
        "PixelCNN, factorised over channels, full size",
        "PixelCNN",
        FRESH | {"steps": 20_000, "eval_every": 1000},
        "runs/pixelcnn-cpu-2",
    ),
    "pixelcnn-made-cpu": on_cpu("PixelCNN-MADE, full size", "PixelCNNMADE"),
    "pixelcnn-made-long-cpu": on_cpu(
        "PixelCNN-MADE, full size, longer",
        "PixelCNNMADE",
        FRESH | {"steps": 60_000, "ema": 0.999, "eval_every": 2000},
        "runs/pixelcnn-made-cpu",
    ),
    # for a GPU; it begins as good as the model that it takes its convolutions from
    "pixelsnail-long": Line(
        "PixelSNAIL, full size, from the shipped PixelCNN-MADE, for a GPU",
        "hopper-mnist",
        "PixelSNAIL",
        {},
        LARGE_BATCHES,
        init="pixelcnn-made",
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
    return Recipe(
        name,
        line.title,
        line.data,
        model,
        TrainConfig(**train),
        validation,
        init=line.init,
        preset=preset,
        any_size=line.any_size,
    )
