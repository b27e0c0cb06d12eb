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
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chainrule.errors import DataError
from chainrule.lab.report.readers import MODELS, Run, holds, is_number, read_one

BUDGETS = ("steps", "time", "full", "photos", "digits")
"""The folders of runs."""
BASE = "pixelcnn-made"
"""Part 3's model, which the others are compared with."""
ORDER = (
    *("pixelcnn", BASE, "gated", "gated-made", "image-gpt", "pixelsnail"),
    *("logistic", "grayscale", "class-conditional", "iqn"),
)
"""The models as the page lists them; others follow."""
PACE = {
    str: "recipe",
    int: "parameters steps",
    float: "milliseconds milliseconds_least milliseconds_most ratio",
}
"""What every row of steps.json must hold."""


@dataclass(frozen=True)
class Entry:
    """One model and the results of all its seeds: of training at one budget, or of measuring its samples."""

    key: str
    name: str
    results: list[dict[str, Any]]
    run: Run | None = None  # that of the first seed, where there are runs

    def values(self, figure: str) -> list[float]:
        """A figure of each seed that has it."""
        return [result[figure] for result in self.results if is_number(result.get(figure))]


@dataclass(frozen=True)
class Bonus:
    """All that a bonus folder holds."""

    budgets: dict[str, list[Entry]]  # by folder of runs; empty where there are none
    runs: list[Run]
    quality: list[Entry]  # measures of models' samples, and last those of the real images beside them
    pace: dict[str, Any] | None
    results: dict[str, Any]  # the same as it stands in results.json


def read_bonus(folder: str | Path) -> Bonus:
    """Read a bonus folder.

    Raises:
        DataError: there is no such folder, or something in it is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: make it with make bonus, or leave --bonus out")
    runs = {budget: read_budget(folder, budget) for budget in BUDGETS}
    budgets = {budget: entries(found) for budget, found in runs.items()}
    if budgets["time"] and find(budgets["time"], BASE) is None and (base := find(budgets["steps"], BASE)):
        budgets["time"] = in_order([*budgets["time"], base])  # its steps are the time that the others are given
    files = {
        path.stem: read_json(path, is_quality, "chainrule quality MODEL --json")
        for path in sorted((folder / "quality").glob("*.json"))
    }
    steps = folder / "steps.json"
    pace = read_json(steps, is_pace, "chainrule bench steps --json") if steps.exists() else None
    results: dict[str, Any] = {name: {run.folder.name: run.result for run in found} for name, found in runs.items()}
    results = {name: part for name, part in (results | {"quality": files, "bench_steps": pace}).items() if part}
    return Bonus(budgets, [run for found in runs.values() for run in found], measured(files), pace, results)


def read_budget(folder: Path, budget: str) -> list[Run]:
    """The runs of one of the folders, by name; raises `DataError` where one is not of images."""
    found = sorted(path for path in (folder / budget).glob("*") if path.is_dir())
    runs = [replace(read_one(path), key=f"{budget}/{path.name}") for path in found]
    for run in runs:
        if run.kind != "images":
            raise DataError(f"the run in {run.folder} is damaged (its events are no images): leave it out")
    return runs


def entries(runs: Sequence[Run]) -> list[Entry]:
    """Runs grouped by model, in the page's order, seeds in order."""
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.result["seed"]):
        groups.setdefault(run.folder.name.removesuffix(f"-{run.result['seed']}"), []).append(run)
    found = []
    for key, group in groups.items():
        first = group[0]
        name = first.name if first.recipe == key else f"{first.name} ({key})"
        found.append(Entry(key, name, [run.result for run in group], first))
    return in_order(found)


def measured(files: dict[str, dict[str, Any]]) -> list[Entry]:
    """The quality files grouped by model, and the real images that were measured beside them, each once."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, content in files.items():
        groups.setdefault(re.sub(r"-\d+$", "", name), []).append(content | content["samples"])
    real = [content["real"] for content in files.values() if content.get("real")]
    distinct = [row for i, row in enumerate(real) if row not in real[:i]]
    found = in_order(Entry(key, MODELS.get(key, key), group) for key, group in groups.items())
    return [*found, Entry("real", "Real images", distinct)] if distinct else found


def in_order(found: Iterable[Entry]) -> list[Entry]:
    """Sorted as the page lists models."""
    return sorted(found, key=lambda one: (ORDER.index(one.key) if one.key in ORDER else len(ORDER), one.key))


def find(found: Iterable[Entry], key: str) -> Entry | None:
    return next((one for one in found if one.key == key), None)


def read_json(path: Path, is_sound: Callable[[Any], bool], command: str) -> dict[str, Any]:
    """What a command printed into a file; raises `DataError` where that is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not is_sound(content):
        raise DataError(f"{path} is damaged (it lacks what {command} prints): measure again, or delete it")
    return content


def is_quality(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("real", {}), dict):
        return False
    return isinstance(content.get("samples"), dict) and any(map(is_number, content["samples"].values()))


def is_pace(content: Any) -> bool:
    rows = content.get("rows") if isinstance(content, dict) else None
    return isinstance(rows, list) and bool(rows) and all(holds(row, PACE) for row in rows)
