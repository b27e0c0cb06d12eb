"""The section on other models at the same budget: tables, sheets of samples and sentences from a bonus folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.lab.report import bonus_words as words
from chainrule.lab.report.bonus_runs import (
    BASE,
    BUDGETS,
    CALIBRATION,
    CALIBRATION_IMAGES,
    ORDER,
    Bonus,
    Entry,
    Measured,
    find,
)
from chainrule.lab.report.ink import png_uri, tiles
from chainrule.lab.report.runs import MODELS
from chainrule.lab.report.sections import Image, receptive
from chainrule.lab.report.words import blind_spot, count, number

TITLES = {
    "steps": "By steps",
    "time": "By time",
    "full": "Full preset",
    "photos": "8-bit images",
    "digits": "8×8 digits",
}
"""Headings of the budgets' columns."""
SHEET, ACROSS = 25, 5
"""Samples on a small sheet, and how many side by side."""
CLASSES = 10
STACKS = (BASE, "gated-made"), ("pixelcnn", "gated")
"""One stack of masked convolutions and two, whose receptive fields stand side by side."""
COLORED = 8
"""Gray images whose colourings are shown."""
SEPARATION = 6
"""Pixels between the parts of a picture."""


@dataclass(frozen=True)
class Cell:
    """One model at one budget."""

    bits: str
    gain: str
    steps: str
    seconds: str
    best: bool


@dataclass(frozen=True)
class Row:
    """One line of a table of models."""

    name: str
    note: str
    parameters: str
    cells: list[Cell | None]


@dataclass(frozen=True)
class Table:
    """Models in lines and budgets in groups of columns."""

    titles: list[tuple[str, str]]
    """Of each group: its heading and the number of steps, if all models have the same."""
    rows: list[Row]
    notes: list[str]


@dataclass(frozen=True)
class Sheet:
    """A small picture of a model's samples, or of what it sees."""

    name: str
    image: Image
    caption: str = ""


def section(bonus: Bonus) -> dict[str, Any]:
    """What the template shows of a bonus folder."""
    steps, time, full, photos, digits = (bonus.budgets[name] for name in BUDGETS)
    main = steps or time
    gray, conditional = (find(steps, key) or find(time, key) for key in ("grayscale", words.CONDITIONAL))
    return {
        "headline": words.headline(bonus),
        "table": table({"steps": steps, "time": time}),
        "sentences": [
            sentence
            for sentence in (words.gains(steps, "steps"), words.gains(time, "time"), *words.seeds(steps or time))
            if sentence
        ]
        + words.pairs(bonus),
        "missing": missing(main),
        "fields": fields(main),
        "sheets": sheets(main),
        "gray": colorings(gray) if gray else None,
        "gray_sentence": words.gray(gray, steps if gray in steps else time) if gray else "",
        "classes": columns(conditional) if conditional else None,
        "quality": quality(bonus.quality),
        "calibration": calibration(bonus.quality),
        "quality_sentences": words.quality(bonus.quality),
        "twins": words.size(bonus),
        "photos": table({"photos": photos}),
        "photo_sentences": words.photos(bonus) if photos else [],
        "photo_sheets": sheets(photos),
        "digits": table({"digits": digits}),
        "digit_sentences": words.digits(digits),
        "digit_sheets": sheets(digits),
        "full": table({"full": full}),
        "full_sentence": words.gains(full, "full"),
        "pace": bonus.pace,
        "runs": bonus.runs,
    }


def table(budgets: dict[str, list[Entry]]) -> Table | None:
    """The models of one or more budgets side by side; None where there are none."""
    budgets = {name: entries for name, entries in budgets.items() if entries}
    keys = list(dict.fromkeys(entry.key for entries in budgets.values() for entry in entries))
    keys.sort(key=lambda key: ORDER.index(key) if key in ORDER else len(ORDER))
    least = {
        name: min((np.mean(one.bits) for one in entries if one.bits and one.key != words.CONDITIONAL), default=None)
        for name, entries in budgets.items()
    }
    rows = []
    for key in keys:
        found = {name: find(entries, key) for name, entries in budgets.items()}
        entry = next(one for one in found.values() if one is not None)
        cells = [cell(found[name], budgets[name], name, least[name]) for name in budgets]
        rows.append(Row(entry.name, note(entry), count(entry.result["parameters"]), cells))
    titles = []
    for name, entries in budgets.items():
        steps = {run.result["steps"] for entry in entries for run in entry.runs}
        titles.append((TITLES[name], f"{count(steps.pop())} steps" if len(steps) == 1 else ""))
    return Table(titles, rows, [words.budget(entries, name) for name, entries in budgets.items()]) if rows else None


def cell(entry: Entry | None, entries: Sequence[Entry], budget: str, least: Any) -> Cell | None:
    if entry is None:
        return None
    percent = words.gain(entry, find(entries, BASE))
    return Cell(
        bits=words.spread(entry.bits),
        gain="" if entry.key == BASE else number(percent, 1),
        steps=count(entry.steps),
        seconds=words.spread(entry.values("train_seconds"), 0),
        best=bool(entry.bits) and len(entries) > 1 and bool(np.mean(entry.bits) == least),
    )


def note(entry: Entry) -> str:
    """What stands small beside a model's name."""
    loss = "" if entry.bits else f"no likelihood; quantile loss {words.spread(entry.values('test_quantile_loss'))}"
    many = f"{len(entry.runs)} seeds" if len(entry.runs) > 1 else ""
    return "; ".join(filter(None, [many, loss]))


def missing(entries: Sequence[Entry]) -> str:
    """Which of the models are not among the runs."""
    there = {entry.key for entry in entries}
    names = [MODELS[key] for key in ORDER if key not in there]
    if not there or not names:
        return ""
    return f"Left out, since the folder holds no runs of {'it' if len(names) == 1 else 'them'}: {words.listing(names)}."


# ------------------------------------------------------------------------------------------------------------ pictures


def sheets(entries: Sequence[Entry]) -> list[Sheet]:
    """The first samples of every model, in small."""
    found = []
    for entry in entries:
        run = entry.runs[0]
        if "samples" in run.arrays:
            shown = run.arrays["samples"][:SHEET]
            alt = f"{len(shown)} samples of {entry.name} ({run.result['data']}, seed {run.result['seed']})."
            image = Image(png_uri(tiles(shown, run.result["levels"], columns=ACROSS)), alt, "sheet")
            found.append(Sheet(entry.name, image))
    return found


def fields(entries: Sequence[Entry]) -> list[Sheet]:
    """What a masked and a gated PixelCNN see before training, the first pair of which there are both."""
    for pair in STACKS:
        runs = [entry.runs[0] for key in pair if (entry := find(entries, key)) is not None]
        if len(runs) == len(pair) and all("receptive_field" in run.arrays for run in runs):
            return [Sheet(run.name, *receptive(run, blind_spot)) for run in runs]
    return []


def colorings(entry: Entry) -> Image | None:
    """Gray images, several colourings of each, and the originals, in lines; None where a run has none."""
    run = entry.runs[0]
    arrays, levels = run.arrays, run.result["levels"]
    if not {"gray_given", "colorings", "originals"} <= arrays.keys():
        return None
    gray, colored, originals = (arrays[name][:COLORED] for name in ("gray_given", "colorings", "originals"))
    several = colored.shape[1]
    grays = int(np.ravel(arrays.get("gray_levels", gray.max() + 1))[0])
    parts = [
        tiles(gray[:, None], max(grays, 2), columns=1),
        tiles(colored.reshape(-1, *colored.shape[2:]), levels, columns=several),
        tiles(originals, levels, columns=1),
    ]
    alt = (
        f"{len(gray)} lines: a gray test image, {several} colourings of it drawn by {entry.name}, and the original "
        f"colours ({run.result['data']})."
    )
    return Image(png_uri(side_by_side(parts)), alt, "colorings")


def side_by_side(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, 1 or 3) of one height as one (H, W', 4), with transparent pixels between them.

    >>> side_by_side([np.zeros((1, 2, 1), np.uint8), np.ones((1, 1, 3), np.uint8)])[0, :, 3].tolist()
    [255, 255, 0, 0, 0, 0, 0, 0, 255]
    """
    height = parts[0].shape[0]
    between = np.zeros((height, SEPARATION, 4), np.uint8)
    opaque = [np.full((*part.shape[:2], 1), 255, np.uint8) for part in parts]
    colored = [
        np.concatenate([np.broadcast_to(part, (*part.shape[:2], 3)), alpha], axis=2)
        for part, alpha in zip(parts, opaque, strict=True)
    ]
    pieces = [piece for part in colored for piece in (between, part)][1:]
    return np.concatenate(pieces, axis=1)


def columns(entry: Entry) -> Image | None:
    """Samples in a column for each class; None where a run has none."""
    run = entry.runs[0]
    if "samples" not in run.arrays:
        return None
    samples = run.arrays["samples"][:100]
    alt = f"{len(samples)} samples of {entry.name} in columns, one for each of the classes 0 to 9."
    return Image(png_uri(tiles(samples, run.result["levels"], columns=CLASSES)), alt, "samples")


# ------------------------------------------------------------------------------------------------------------- quality


def quality(found: Sequence[Measured]) -> dict[str, Any]:
    """Every measure in a column, models and real images in lines; seeds as mean and spread."""
    if not found:
        return {}
    there = dict.fromkeys(name for one in found for seed in one.seeds for name in seed)
    names = [name for name in words.MEASURES if name in there] + [name for name in there if name not in words.MEASURES]
    titles = [words.MEASURES.get(name, (name.replace("_", " ").capitalize(), False))[0] for name in names]
    rows = [(one.name, len(one.seeds), [words.spread(one.values(name), 3) for name in names]) for one in found]
    real = {name: sorted({row[name] for one in found for row in one.real if name in row}) for name in names}
    if any(real.values()):
        rows.append(("Real images", 0, [words.spread(real[name], 3) for name in names]))
    return {"titles": titles, "rows": rows}


def calibration(found: Sequence[Measured]) -> dict[str, Any]:
    """How well each model's conditionals are calibrated; seeds as mean and spread. Nothing if not measured."""
    there = [one for one in found if any(one.values(name) for name in CALIBRATION)]
    images = sorted({int(number) for one in there for number in one.values(CALIBRATION_IMAGES)})
    rows = [
        (one.name, len(one.values(CALIBRATION[0])), [words.spread(one.values(name)) for name in CALIBRATION])
        for one in there
    ]
    return {"rows": rows, "images": words.between(images, count) if images else ""} if rows else {}
