"""The bonus folder: runs of other models at the same budget, what measured their samples, and what fixed the budget.

    steps/NAME/       trained for the same number of steps, on the same batches
    time/NAME/        trained for the same time
    full/NAME/        trained on the full preset
    photos/NAME/      trained on 8-bit colour images
    digits/NAME/      trained on scikit-learn's digits, 8×8 with 17 levels
    quality/NAME.json what `chainrule quality --json` printed; NAME ends in -SEED
    steps.json        what `chainrule bench steps --json` printed

All of it is optional. Seeds of a model stand in folders NAME, NAME-1, NAME-2, …
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.errors import DataError
from chainrule.lab.report.runs import MODELS, NEEDED, Run, holds, read_one

BUDGETS = ("steps", "time", "full", "photos", "digits")
"""The folders of runs."""
BASE = "pixelcnn-made"
"""Part 3's model, which the others are compared with."""
ORDER = ("pixelcnn", BASE, "gated", "gated-made", "logistic", "grayscale", "class-conditional", "iqn")
"""The models as the page lists them; others follow."""
NOT_MEASURES = ("images", "against", "seed", "n", "samples")
"""Figures of a quality file that say how was measured."""
CALIBRATION = ("calibration_error", "uncertain_share", "uncertain_calibration_error")
"""Figures of a quality file that measure the model rather than its samples; older files have none."""
CALIBRATION_IMAGES = "calibration_images"
"""How many test images these were measured on."""
NEEDED_OF_PACE: dict[str, Any] = {
    "recipe": str,
    "parameters": int,
    "milliseconds": (int, float),
    "milliseconds_least": (int, float),
    "milliseconds_most": (int, float),
    "ratio": (int, float),
    "steps": int,
}


@dataclass(frozen=True)
class Entry:
    """One model at one budget: the runs of all its seeds."""

    key: str
    runs: list[Run]

    @property
    def name(self) -> str:
        """What a person calls it; the folder's name is added where it is not the recipe's."""
        run = self.runs[0]
        return run.name if run.recipe == self.key else f"{run.name} ({self.key})"

    @property
    def result(self) -> dict[str, Any]:
        """Of the first seed."""
        return self.runs[0].result

    def values(self, figure: str) -> list[float]:
        """A figure of each seed that has it."""
        return [run.result[figure] for run in self.runs if is_number(run.result.get(figure))]

    @property
    def bits(self) -> list[float]:
        return self.values("test_bits_per_dim")

    @property
    def steps(self) -> int:
        return self.result["steps"]


@dataclass(frozen=True)
class Measured:
    """The measures of a model's samples, one dictionary a seed, and those of real images beside them."""

    key: str
    seeds: list[dict[str, float]]
    real: list[dict[str, float]]
    calibration: list[dict[str, float]]
    """How well the model's conditionals are calibrated, one dictionary a seed; empty ones where it is not known."""

    @property
    def name(self) -> str:
        return MODELS.get(self.key, self.key)

    def values(self, measure: str) -> list[float]:
        return [row[measure] for row in self.calibration + self.seeds if measure in row]


@dataclass(frozen=True)
class Bonus:
    """All that a bonus folder holds."""

    folder: Path
    budgets: dict[str, list[Entry]]
    """By folder of runs, in the page's order; empty where there are none."""
    quality: list[Measured]
    pace: dict[str, Any] | None
    results: dict[str, Any]
    """The same as it stands in results.json."""

    @property
    def runs(self) -> list[Run]:
        """Every run once."""
        return list(dict.fromkeys(run for found in self.budgets.values() for entry in found for run in entry.runs))


def read_bonus(folder: str | Path) -> Bonus:
    """Read a bonus folder.

    Raises:
        DataError: there is no such folder, or something in it is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: make it with make bonus, or leave --bonus out")
    runs = {budget: read_budget(folder, budget) for budget in BUDGETS}
    files = {path.stem: read_json(path) for path in sorted((folder / "quality").glob("*.json"))}
    timed = (folder / "steps.json").exists()
    pace = read_json(folder / "steps.json") if timed else None
    if timed and not is_pace(pace):
        raise damaged(folder / "steps.json", "chainrule bench steps --json")
    results: dict[str, Any] = {
        budget: {run.folder.name: run.result for run in found} for budget, found in runs.items() if found
    }
    results |= {"quality": files} if files else {}
    results |= {"bench_steps": pace} if pace else {}
    budgets = {budget: entries(found) for budget, found in runs.items()}
    if budgets["time"] and find(budgets["time"], BASE) is None and (base := find(budgets["steps"], BASE)):
        budgets["time"] = in_order([*budgets["time"], base])  # its steps are the time that the others are given
    return Bonus(folder, budgets, measured(folder, files), pace, results)


def read_budget(folder: Path, budget: str) -> list[Run]:
    """The runs of one of the folders, by name."""
    found = sorted(path for path in (folder / budget).glob("*") if path.is_dir())
    runs = [replace(read_one(path, False, is_complete), key=f"{budget}/{path.name}") for path in found]
    for run in runs:
        if not has_sound_pictures(run):
            raise DataError(f"the file {run.folder / 'arrays.npz'} is damaged: train the run again, or leave it out")
    return runs


def has_sound_pictures(run: Run) -> bool:
    """Whether the arrays that the section draws, as far as they are there, are images of the run's shape."""
    arrays, shape = run.arrays, tuple(run.result["shape"])
    wanted = {"samples": ((None, *shape), 4), "originals": ((None, *shape), 4), "gray_given": ((None, *shape[1:]), 3)}
    wanted["colorings"] = ((None, None, *shape), 5)
    for name, (sizes, dims) in wanted.items():
        array = arrays.get(name)
        if array is None:
            continue
        if array.dtype.kind not in "iu" or array.ndim != dims or not array.size:
            return False
        if any(size not in (None, there) for size, there in zip(sizes, array.shape, strict=True)):
            return False
    field = arrays.get("receptive_field")
    if field is not None and (field.dtype.kind != "f" or field.shape != shape[1:] or not np.isfinite(field).all()):
        return False
    counts = {len(arrays[name]) for name in ("gray_given", "colorings", "originals") if name in arrays}
    return len(counts) <= 1


def is_complete(result: Any) -> bool:
    """Whether a result.json has what the section needs: bits/dim, or a quantile loss where there is no likelihood."""
    needed = {name: kind for name, kind in NEEDED.items() if name != "test_bits_per_dim"}
    if not holds(result, needed) or result["steps"] < 1 or not is_number(result["train_seconds"]):
        return False
    shape = result["shape"]
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape) or result["levels"] < 2:
        return False
    loss = "test_bits_per_dim" if "test_bits_per_dim" in result else "test_quantile_loss"
    return is_number(result.get(loss)) and result[loss] > 0


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def entries(runs: Sequence[Run]) -> list[Entry]:
    """Runs grouped by model, in the page's order, seeds in order."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(model_key(run.folder.name, run.result["seed"]), []).append(run)
    found = [Entry(key, sorted(group, key=lambda run: run.result["seed"])) for key, group in groups.items()]
    return in_order(found)


def in_order(found: Iterable[Any]) -> list[Any]:
    """What has a key, sorted as the page lists models."""
    return sorted(found, key=lambda one: (ORDER.index(one.key) if one.key in ORDER else len(ORDER), one.key))


def model_key(folder: str, seed: int) -> str:
    """A folder's name without its seed.

    >>> model_key("iqn-2", 2), model_key("gated-made", 0), model_key("gated-10", 0)
    ('iqn', 'gated-made', 'gated-10')
    """
    return folder.removesuffix(f"-{seed}")


def measured(folder: Path, files: dict[str, Any]) -> list[Measured]:
    """The quality files grouped by model, one dictionary of measures for each seed."""
    groups: dict[str, Measured] = {}
    for name, content in files.items():
        own, real = (part_of(content, *parts) for parts in (("samples",), ("real", "reference")))
        if not measures(own or content):
            raise damaged(folder / "quality" / f"{name}.json", "chainrule quality MODEL --json")
        key = re.sub(r"-\d+$", "", name)
        group = groups.setdefault(key, Measured(key, [], [], []))
        group.seeds.append(measures(own or content))
        group.real.append(measures(real))
        group.calibration.append(figures(content, (*CALIBRATION, CALIBRATION_IMAGES)))
    return sorted(in_order(groups.values()), key=lambda one: one.key != "iqn")


def part_of(content: Any, *names: str) -> dict[str, Any]:
    """The first of the named rows that is there, else nothing."""
    rows = (content.get(name) for name in names) if isinstance(content, dict) else ()
    return next((row for row in rows if isinstance(row, dict)), {})


def measures(row: Any) -> dict[str, float]:
    """The figures of a row that say how good samples are."""
    aside = (*NOT_MEASURES, *CALIBRATION, CALIBRATION_IMAGES)
    return figures(row, [name for name in row if name not in aside]) if isinstance(row, dict) else {}


def figures(row: Any, names: Sequence[str]) -> dict[str, float]:
    """Those of the named entries of a row that are numbers."""
    return {name: float(row[name]) for name in names if is_number(row.get(name))}


def is_pace(content: Any) -> bool:
    rows = content.get("rows") if isinstance(content, dict) else None
    return isinstance(rows, list) and bool(rows) and all(holds(row, NEEDED_OF_PACE) for row in rows)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"{path} is damaged (it holds no JSON): measure again, or delete it") from None


def damaged(path: Path, command: str) -> DataError:
    return DataError(f"{path} is damaged (it lacks what {command} prints): measure again, or delete it")


def mean_of(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def find(found: Iterable[Any], key: str) -> Any:
    """The one of that key, or None."""
    return next((one for one in found if one.key == key), None)
