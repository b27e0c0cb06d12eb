"""What the template shows: runs by the assignment's parts, their pictures with descriptions, and the bonus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.lab.report import plots, tables
from chainrule.lab.report.bonus_folder import BASE, ORDER, Bonus, Entry, find
from chainrule.lab.report.drawing import png_uri, tiles
from chainrule.lab.report.readers import CODEC, DISTRIBUTIONS, GRAY, MODELS, PARTS, Run

STACKS = (BASE, "gated-made"), ("pixelcnn", "gated")
"""One stack of masked convolutions and two, whose receptive fields stand side by side."""
NONE = Entry("", "", [])


@dataclass(frozen=True)
class Image:
    """A picture on the page."""

    uri: str
    alt: str
    css: str = "plot"


@dataclass(frozen=True)
class Block:
    """A run that is shown in full, with its pictures by name."""

    run: Run
    label: str
    images: dict[str, Image] = field(repr=False)


def content(runs: Sequence[Run], bonus: Bonus | None) -> dict[str, Any]:
    """Everything that the template shows."""
    asked = [recipe for part in PARTS.values() for recipe in part]
    recipes = list(dict.fromkeys([*asked, *(run.recipe for run in runs if run.recipe != CODEC)]))
    order = [*recipes, CODEC]
    anchors = {run: f"run-{i}" for i, run in enumerate(sorted(runs, key=lambda run: order.index(run.recipe)), 1)}
    groups = {recipe: {"recipe": recipe, "blocks": blocks(runs, recipe)} for recipe in recipes}
    return {
        "tables": tables,
        "MODELS": MODELS,
        "anchors": anchors,
        "best": (run := best(runs)),
        "strip": run and grid(run, 20, 20, "strip"),
        "summary": tables.of_runs(anchors, recipes),
        "pairs": tables.of_runs(anchors, PARTS[2]),
        "parts": {part: [groups[recipe] for recipe in names] for part, names in PARTS.items()},
        "others": [groups[recipe] for recipe in recipes if recipe not in asked],
        "codecs": [Block(run, codec_label(run), heat(run)) for run in runs if run.recipe == CODEC],
        "bonus": bonus and other_models(bonus),
    }


def blocks(runs: Sequence[Run], recipe: str) -> list[Block]:
    """The runs of a recipe that are shown in full: on each data set the first, all recorded ones, all of images."""
    found: list[Block] = []
    for run in [run for run in runs if run.recipe == recipe]:
        new = run.result["data"] not in {block.run.result["data"] for block in found}
        if new or run.recorded or run.kind in ("images", "other"):
            label = f"{run.name} on {run.result['data']}, {run.result['steps']:,} steps, seed {run.result['seed']}"
            found.append(Block(run, label, pictures(run)))
    return found


def codec_label(run: Run) -> str:
    """A benchmark of the codec in words."""
    model = str(run.result.get("model", "A model")).replace("CNNMADE", "CNN-MADE")
    size = f", {run.result['parameters']:,} parameters" if "parameters" in run.result else ""
    return f"{model} on {run.result['images']:,} test images of {run.result['data']}{size}"


# ------------------------------------------------------------------------------------------------------------ pictures


def pictures(run: Run) -> dict[str, Image]:
    """Every picture of one run for which its folder holds what is drawn."""
    arrays, (loss, unit) = run.arrays, run.loss
    entropy = run.result.get("entropy_bits_per_dim")
    uri = plots.curves(run.curve, run.extremes, run.validation, f"{loss.lower()} ({unit})", entropy)
    best = f"Best on validation data: {tables.show(run.validation_loss)}."
    found = {"curves": Image(uri, f"{loss} of {run.name} against training steps, in {unit}. {best}")}
    if run.kind == "values" and all(name in arrays for name in DISTRIBUTIONS):
        offset = int(arrays.get("offset", 0))
        uri = plots.bar_graphs(*(arrays[name] for name in DISTRIBUTIONS), offset)
        alt = f"Bar graphs: the probabilities of {run.name}, the frequencies of its samples and the data's histogram."
        found["bars"] = Image(uri, alt)
    if run.kind == "pairs" and "samples" in arrays:
        counts = plots.counts_of_pairs(arrays["samples"], run.result["levels"])
        uri = plots.pair_pictures(counts, arrays.get("truth"), arrays.get("model_joint"))
        alt = f"2-D histogram of samples of {run.name} on {run.result['data']}, beside the truth and the model's own."
        found["pairs"] = Image(uri, alt)
    if run.kind == "images" and "samples" in arrays:
        found["samples"] = grid(run, 100, 10, "samples")
    if run.kind == "images" and "receptive_field" in arrays:
        found["receptive"] = receptive(run)
    return found


def grid(run: Run, count: int, columns: int, css: str) -> Image:
    """The first samples of a run."""
    shown = run.arrays["samples"][:count]
    alt = f"{len(shown)} samples of {run.name} on {run.result['data']}, in rows of {columns}."
    return Image(png_uri(tiles(shown, run.result["levels"], columns)), alt, css)


def receptive(run: Run) -> Image:
    seen = run.arrays["receptive_field"]
    row, column = seen.shape[0] // 2, seen.shape[1] // 2
    alt = f"Receptive field of pixel ({row}, {column}), channel 0, of {run.name}: it sees {(seen > 0).sum()} pixels."
    return Image(plots.receptive_field(seen, row, column), alt, "field")


def best(runs: Sequence[Run]) -> Run | None:
    """The image model with the best likelihood, whose samples stand at the top of the page."""
    candidates = [run for run in runs if run.has_likelihood and run.kind == "images" and "samples" in run.arrays]
    return min(candidates, key=lambda run: run.test_loss, default=None)


def heat(run: Run) -> dict[str, Image]:
    """Where the bits of a benchmark's first images go, if its folder says so."""
    images, bits = (run.arrays.get(name, np.zeros(0)) for name in ("heat_images", "heat_bits"))
    if not bits.size or bits.shape != (len(images), *images.shape[2:]):
        return {}
    alt = f"{len(images)} test images in a row, and below each a heat map of the bits that its pixels cost."
    levels = run.result.get("levels", 2 ** int(images.max(initial=1)).bit_length())
    return {"heat": Image(plots.heat_map(images, bits, levels), alt)}


def colorings(run: Run) -> Image | None:
    """Gray images, several colourings of each, and the originals, in rows; None where a run has none."""
    if not set(GRAY) <= run.arrays.keys():
        return None
    gray, colored, originals = (run.arrays[name][:8].astype(int) for name in GRAY)
    grays = max(int(run.arrays.get("gray_levels", gray.max() + 1)), 2)
    shown = np.concatenate([colored, originals[:, None]], axis=1) * 255 // (run.result["levels"] - 1)
    left = np.broadcast_to((gray * 255 // (grays - 1))[:, None, None], shown[:, :1].shape)
    row = np.concatenate([left, shown], axis=1)
    alt = f"{len(row)} rows: a gray test image, colourings of it drawn by {run.name}, and the original."
    return Image(png_uri(tiles(row.reshape(-1, *row.shape[2:]), 256, row.shape[1])), alt, "colorings")


# -------------------------------------------------------------------------------------------------------- other models


def other_models(bonus: Bonus) -> dict[str, Any]:
    """What the template shows of a bonus folder."""
    main = bonus.budgets["steps"] or bonus.budgets["time"]
    either = [*bonus.budgets["steps"], *bonus.budgets["time"]]
    gray, conditional = ((find(either, key) or NONE).run for key in ("grayscale", tables.CONDITIONAL))
    return {
        "rows": {name: tables.of_budget(found) for name, found in bonus.budgets.items()},
        "sheets": {name: sheets(found) for name, found in {**bonus.budgets, "main": main}.items()},
        "missing": [MODELS[key] for key in ORDER if main and find(main, key) is None],
        "pace": [tables.Row(row["recipe"], row) for row in bonus.pace["rows"]] if bonus.pace else [],
        "fields": fields(main),
        "gray": gray,
        "colorings": gray and colorings(gray),
        "classes": conditional and "samples" in conditional.arrays and grid(conditional, 100, 10, "samples"),
        "quality": tables.of_quality(bonus.quality, "frechet_distance"),
        "calibration": tables.of_quality(bonus.quality, "calibration_error"),
        "runs": [tables.Row(run.key, run.result) for run in bonus.runs],
    }


def sheets(entries: Sequence[Entry]) -> list[tuple[str, Image]]:
    """The first samples of every model, in small."""
    return [(one.name, grid(one.run, 25, 5, "sheet")) for one in entries if one.run and "samples" in one.run.arrays]


def fields(entries: Sequence[Entry]) -> list[tuple[str, Image]]:
    """What a masked and a gated network see before training, the first pair of which there are both."""
    for pair in STACKS:
        runs = [entry.run for key in pair if (entry := find(entries, key)) and entry.run]
        if len(runs) == len(pair) and all("receptive_field" in run.arrays for run in runs):
            return [(run.name, receptive(run)) for run in runs]
    return []
