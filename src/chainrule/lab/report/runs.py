"""The runs that a report is made of: read, checked, named and sorted into the assignment's parts."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from chainrule.errors import DataError
from chainrule.lab.experiment import read_run

PARTS: dict[int, tuple[str, ...]] = {1: ("warmup",), 2: ("2d-mlp", "2d-made"), 3: ("pixelcnn", "pixelcnn-made")}
"""The recipes that the assignment's parts ask for."""

VARIANTS = {
    "pixelcnn-cpu": ("pixelcnn", ", full size"),
    "pixelcnn-made-cpu": ("pixelcnn-made", ", full size"),
    "pixelcnn-made-long-cpu": ("pixelcnn-made", ", full size, longer"),
}
"""Recipes that stand beside one of those, and what their models' names say more."""

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
    "logistic": "Logistic PixelCNN",
    "grayscale": "Grayscale PixelCNN",
    "class-conditional": "Class-conditional PixelCNN",
    "iqn": "PixelIQN",
    CODEC: "Lossless compression",
}
"""What those recipes' models, and the benchmark, are called on the page."""

NEEDED: dict[str, Any] = {
    "recipe": str,
    "data": str,
    "levels": int,
    "shape": list,
    "parameters": int,
    "steps": int,
    "train_seconds": (int, float),
    "seed": int,
    "device": str,
}
"""What result.json must hold for a run to be shown; everything else is shown where it is there."""

TEST_LOSSES = ("test_bits_per_dim", "test_quantile_loss")
"""And one of these: bits of a likelihood model, or the loss of a model of quantiles."""

NEEDED_OF_CODEC: dict[str, Any] = {
    "data": str,
    "images": int,
    "raw_bytes": int,
    "exact_bits_per_dim": (int, float),
    "file_bytes": int,
    "file_bits_per_dim": (int, float),
    "compress_seconds": (int, float),
    "decompress_seconds": (int, float),
    "others": list,
    "device": str,
}
"""The same of the codec's benchmark."""

NEEDED_OF_OTHERS: dict[str, Any] = {
    "codec": str,
    "bytes": int,
    "bits_per_dim": (int, float),
    "compress_seconds": (int, float),
    "decompress_seconds": (int, float),
}
"""The same of each codec that ours is compared with."""


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run folder, read into memory."""

    folder: Path
    result: dict[str, Any]
    metrics: list[dict[str, Any]] = field(repr=False)
    arrays: dict[str, np.ndarray] = field(repr=False)
    train: dict[str, Any]
    """How it was trained: the recipe's `train`, of config.json, and its `init`, if any; empty where that is missing."""
    recorded: bool = False
    """Trained beforehand, not by whoever makes this report."""
    key: str = ""
    """Its name in results.json."""

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
    def dims(self) -> int:
        return int(np.prod(self.result["shape"]))

    @property
    def has_likelihood(self) -> bool:
        """Whether its losses are bits."""
        return TEST_LOSSES[0] in self.result

    @property
    def test_loss(self) -> float:
        """In bits, bits per dimension, or of quantiles."""
        return next(self.result[name] for name in TEST_LOSSES if name in self.result)

    @property
    def validation_loss(self) -> float | None:
        """The best one of the run, in the same unit."""
        return self.result.get("validation_bits_per_dim" if self.has_likelihood else "validation_quantile_loss")

    @property
    def kind(self) -> str:
        """How its samples are looked at: values, pairs, images, or none of these."""
        shape = self.result["shape"]
        return {1: "values", 2: "pairs"}.get(self.dims, "images" if len(shape) == 3 else "other")

    @cached_property
    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps and losses of every minibatch."""
        return self._series("train")

    @cached_property
    def validation(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps and losses of every evaluation on the validation set."""
        return self._series("validation")

    def _series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        pairs = [(line["step"], line[name]) for line in self.metrics if name in line]
        table = np.array(pairs, np.float64).reshape(-1, 2)
        return table[:, 0], table[:, 1]


def read_runs(runs: Sequence[str | Path], recorded: Sequence[str | Path] = ()) -> list[Run]:
    """Read run folders, those trained beforehand last, and give each its own name.

    Raises:
        DataError: a folder holds no finished run, or one whose result lacks what the page needs.
    """
    unnamed = [read_one(Path(folder), False) for folder in runs] + [read_one(Path(folder), True) for folder in recorded]
    keys = unique_keys((run.recipe, run.folder.resolve().name) for run in unnamed)
    return [replace(run, key=key) for run, key in zip(unnamed, keys, strict=True)]


def read_one(folder: Path, recorded: bool, complete: Callable[[Any], bool] | None = None) -> Run:
    """One run folder; raises `DataError` when it holds no finished run, or `complete` denies its result."""
    try:
        result, metrics, arrays = read_run(folder)
    except (BadZipFile, EOFError, zlib.error):
        raise DataError(f"the file {folder / 'arrays.npz'} is damaged: train the run again, or leave it out") from None
    broken = DataError(f"the run in {folder} is damaged (result.json or metrics.jsonl lacks what a run writes there)")
    if not (complete or is_complete)(result):
        raise broken
    if not all(isinstance(line, dict) and isinstance(line.get("step"), int) for line in metrics):
        raise broken
    return Run(folder, result, metrics, arrays, read_settings(folder), recorded)


def is_complete(result: Any) -> bool:
    """Whether the content of a result.json has what the page needs of its kind of run."""
    if not isinstance(result, dict):
        return False
    if result.get("recipe") != CODEC:
        return holds(result, NEEDED) and any(isinstance(result.get(name), int | float) for name in TEST_LOSSES)
    return holds(result, NEEDED_OF_CODEC) and all(holds(row, NEEDED_OF_OTHERS) for row in result["others"])


def holds(row: Any, needed: dict[str, Any]) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(name), kind) for name, kind in needed.items())


def read_settings(folder: Path) -> dict[str, Any]:
    """How a run was trained, by its config.json: the recipe's `train`, and `init` if any. Empty where there is none."""
    try:
        recipe = json.loads((folder / "config.json").read_text(encoding="utf-8"))["recipe"]
        return dict(recipe["train"]) | ({"init": recipe["init"]} if recipe.get("init") else {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def unique_keys(names: Iterable[tuple[str, str]]) -> list[str]:
    """Keys of results.json from (recipe, folder name): the first run of a recipe is called like the recipe.

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


def first(runs: Iterable[Run], recipe: str) -> Run | None:
    """The run that stands for a recipe: the first, before any that was trained beforehand."""
    return next((run for run in runs if run.recipe == recipe), None)


def shown_in_full(runs: Sequence[Run], recipe: str) -> list[Run]:
    """The runs of a recipe that get curves and samples; the others of it are lines of a table.

    These are the first run, those trained beforehand, and every run on images.
    """
    of_recipe = [run for run in runs if run.recipe == recipe]
    return [run for run in of_recipe if run is first(runs, recipe) or run.recorded or run.kind in ("images", "other")]
