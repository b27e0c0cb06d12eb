"""The runs that a report is made of: read, checked and named."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.errors import DataError
from chainrule.lab.run_folder import read_run

PARTS: dict[int, tuple[str, ...]] = {1: ("warmup",), 2: ("2d-mlp", "2d-made"), 3: ("pixelcnn", "pixelcnn-made")}
"""The recipes that the assignment's parts ask for."""

VARIANTS = {
    "pixelcnn-cpu": ("pixelcnn", ", full size"),
    "pixelcnn-made-cpu": ("pixelcnn-made", ", full size"),
    "pixelcnn-made-long-cpu": ("pixelcnn-made", ", full size, longer"),
}
"""Recipes that stand beside one of those, and what is added to their models' names."""

CODEC = "codec"
"""The recipe of a run folder that holds no training but the codec's benchmark."""

MODELS = {
    "warmup": "Softmax histogram",
    "2d-mlp": "MLP",
    "2d-made": "MADE",
    "pixelcnn": "PixelCNN",
    "pixelcnn-made": "PixelCNN-MADE",
    "gated": "Gated PixelCNN",
    "gated-made": "Gated PixelCNN-MADE",
    "gated-logistic": "Gated logistic PixelCNN",
    "gated-iqn": "Gated PixelIQN",
    "logistic": "Logistic PixelCNN",
    "grayscale": "Grayscale PixelCNN",
    "class-conditional": "Class-conditional PixelCNN",
    "iqn": "PixelIQN",
    "image-gpt": "ImageGPT",
    "pixelsnail": "PixelSNAIL",
    CODEC: "Lossless compression",
}
"""What those recipes' models, and the benchmark, are called on the page."""

DISTRIBUTIONS = ("model_pmf", "sample_frequencies", "data_frequencies")
"""Arrays of a one-dimensional run."""
GRAY = ("gray_given", "colorings", "originals")
"""Arrays of a run with a gray image as auxiliary variable."""

LOSSES = {"test_bits_per_dim": "validation_bits_per_dim", "test_quantile_loss": "validation_quantile_loss"}
"""A result has one of these test losses, perhaps with the best validation loss: bits, or a loss of quantiles."""

# What a result must hold to be shown, names by type; `float` stands for any finite number.
Needs = Mapping[type, str]
TRAINED: Needs = {str: "recipe data device", int: "levels parameters steps seed", float: "train_seconds", list: "shape"}
CODEC_TIMES = "compress_seconds decompress_seconds"
MEASURED: Needs = {
    str: "data device",
    int: "images raw_bytes file_bytes",
    float: f"exact_bits_per_dim file_bits_per_dim {CODEC_TIMES}",
    list: "others",
}
OTHER_CODEC: Needs = {str: "codec", int: "bytes", float: f"bits_per_dim {CODEC_TIMES}"}


Curve = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run folder, read into memory."""

    folder: Path
    result: dict[str, Any]
    metrics: list[dict[str, Any]] = field(repr=False)
    arrays: dict[str, np.ndarray] = field(repr=False)
    train: dict[str, Any]  # the recipe's `train`, of config.json, and its `init`; empty where that is missing
    recorded: bool = False  # trained beforehand, not by whoever makes this report
    key: str = ""  # its name in results.json

    @property
    def recipe(self) -> str:
        """The recipe under which it is shown."""
        return VARIANTS.get(self.result["recipe"], (self.result["recipe"], ""))[0]

    @property
    def name(self) -> str:
        """What a person calls the model."""
        name = MODELS.get(self.recipe) or str(self.result.get("title") or self.recipe)
        return name + VARIANTS.get(self.result["recipe"], ("", ""))[1]

    @property
    def kind(self) -> str:
        """How its samples are looked at: values, pairs, images, or none of these."""
        shape = self.result["shape"]
        if len(shape) == 3 and None in shape:
            return "images"
        return {1: "values", 2: "pairs"}.get(math.prod(shape), "images" if len(shape) == 3 else "other")

    @property
    def has_likelihood(self) -> bool:
        """Whether its losses are bits."""
        return "test_bits_per_dim" in self.result

    @property
    def loss(self) -> tuple[str, str]:
        """What it minimised, and in which unit."""
        if not self.has_likelihood:
            return "Quantile-Huber loss", "quantile loss"
        return "Negative log-likelihood", "bits" if self.kind == "values" else "bits/dim"

    @property
    def test_loss(self) -> float:
        return next(self.result[name] for name in LOSSES if name in self.result)

    @property
    def validation_loss(self) -> float | None:
        """The best one of the run, in the same unit."""
        return next(self.result.get(LOSSES[name]) for name in LOSSES if name in self.result)

    @property
    def curve(self) -> Curve:
        """Steps and training losses: of every minibatch, or the means of the stretches of a thinned curve."""
        return self._series("train")

    @property
    def extremes(self) -> Curve:
        """The same with the least and the most of each stretch in the place of its mean."""
        return self._series("train", "least", "most")

    @property
    def validation(self) -> Curve:
        """Steps and losses of every evaluation on the validation set."""
        return self._series("validation")

    def _series(self, name: str, *instead: str) -> Curve:
        lines = [line for line in self.metrics if name in line]
        pairs = [(line["step"], line.get(other, line[name])) for line in lines for other in instead or (name,)]
        steps, losses = np.array(pairs, np.float64).reshape(-1, 2).T
        return steps, losses


def read_runs(runs: Sequence[str | Path], recorded: Sequence[str | Path] = ()) -> list[Run]:
    """Read run folders, those trained beforehand last, and give each its own name.

    Raises:
        DataError: a folder holds no finished run, or one whose files are damaged.
    """
    unnamed = [read_one(folder, False) for folder in runs] + [read_one(folder, True) for folder in recorded]
    keys = unique_keys((run.recipe, run.folder.resolve().name) for run in unnamed)
    return [replace(run, key=key) for run, key in zip(unnamed, keys, strict=True)]


def read_one(folder: str | Path, recorded: bool = False) -> Run:
    """One run folder; raises `DataError` when it holds no finished run, or a damaged one."""
    folder = Path(folder)
    result, metrics, arrays = read_run(folder)
    lines = all(isinstance(line, dict) and isinstance(line.get("step"), int) for line in metrics)
    if not lines or not is_complete(result):
        raise DataError(f"the run in {folder} is damaged (result.json or metrics.jsonl lacks what a run writes there)")
    if result["recipe"] != CODEC and not are_sound(arrays, result["shape"], result["levels"]):
        raise DataError(f"the file {folder / 'arrays.npz'} is damaged: train the run again, or leave it out")
    return Run(folder, result, metrics, arrays, read_settings(folder), recorded)


def is_complete(result: Any) -> bool:
    """Whether the content of a result.json has what the page needs of its kind of run."""
    if isinstance(result, dict) and result.get("recipe") == CODEC:
        return holds(result, MEASURED) and all(holds(row, OTHER_CODEC) for row in result["others"])
    if not holds(result, TRAINED) or result["steps"] < 1 or result["levels"] < 2:
        return False
    loss: Any = next((result[name] for name in LOSSES if name in result), None)
    sizes = bool(result["shape"]) and all(isinstance(size, int) and size > 0 for size in fixed(result["shape"]))
    return sizes and is_number(loss) and loss > 0


PICTURES = ("samples", "originals", "gray_given", "colorings")
"""The arrays that hold levels."""


def fixed(shape: Sequence[int | None]) -> Sequence[int | None]:
    """The sizes in a shape that must be whole numbers: pictures of any size have no height and width."""
    return shape[:1] if len(shape) == 3 and shape[1] is None and shape[2] is None else shape


def are_sound(arrays: dict[str, np.ndarray], shape: Sequence[int], levels: int) -> bool:
    """Whether the arrays that the page draws, as far as they are there, have the right sizes and finite entries."""
    wanted: dict[str, tuple[int | None, ...]] = dict.fromkeys(("samples", "originals"), (None, *shape))
    wanted |= {"gray_given": (None, *shape[1:]), "colorings": (None, None, *shape), "receptive_field": (*shape[1:],)}
    wanted |= dict.fromkeys(("truth", "model_joint"), (levels, levels)) | dict.fromkeys(DISTRIBUTIONS, (levels,))
    for name in wanted.keys() & arrays.keys():
        array, sizes = arrays[name], wanted[name]
        if (
            array.dtype.kind not in ("iu" if name in PICTURES else "f")
            or not array.size
            or not np.isfinite(array).all()
        ):
            return False
        if len(sizes) != array.ndim or any(a not in (None, b) for a, b in zip(sizes, array.shape, strict=True)):
            return False
    return len({len(arrays[name]) for name in GRAY if name in arrays}) <= 1


def holds(row: Any, needs: Needs) -> bool:
    return isinstance(row, dict) and all(
        is_number(row.get(name)) if kind is float else isinstance(row.get(name), kind)
        for kind, names in needs.items()
        for name in names.split()
    )


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def read_settings(folder: Path) -> dict[str, Any]:
    """How a run was trained, by its config.json: the recipe's `train`, and `init` if any. Empty where there is none."""
    try:
        recipe = json.loads((folder / "config.json").read_text(encoding="utf-8"))["recipe"]
        return dict(recipe["train"]) | ({"init": recipe["init"]} if recipe.get("init") else {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def unique_keys(names: Iterable[tuple[str, str]]) -> list[str]:
    """Keys of results.json from (recipe, folder name): the first run of a recipe has the recipe's name.

    >>> unique_keys([("2d-mlp", "a"), ("2d-mlp", "b"), ("2d-mlp", "b"), ("2d-made", "b")])
    ['2d-mlp', '2d-mlp@b', '2d-mlp@b-2', '2d-made']
    """
    keys: list[str] = []
    for recipe, folder in names:
        key, number = recipe, 1
        while key in keys:
            key, number = f"{recipe}@{folder}" + f"-{number}" * (number > 1), number + 1
        keys.append(key)
    return keys
