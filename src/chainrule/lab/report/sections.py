"""From runs to what the page shows: figures, tables and lines, grouped by the assignment's parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.lab.report import plots, words
from chainrule.lab.report.ink import png_uri, tiles
from chainrule.lab.report.runs import CODEC, MODELS, PARTS, Run, first, shown_in_full

STRIP = 20
"""Samples at the top of the page."""


@dataclass(frozen=True)
class Image:
    """A picture on the page."""

    uri: str
    alt: str
    css: str = "plot"


@dataclass(frozen=True)
class Block:
    """A run that is shown in full."""

    run: Run
    label: str
    curves: Image
    bars: Image | None = None
    pairs: Image | None = None
    samples: Image | None = None
    receptive: Image | None = None
    receptive_sentence: str = ""


@dataclass(frozen=True)
class Group:
    """A recipe of the assignment and what there is of it."""

    recipe: str
    name: str
    blocks: list[Block]
    trained: bool
    """Whether one of them was trained for this report."""


def page(runs: Sequence[Run]) -> dict[str, Any]:
    """What the template shows of trained models; everything that it needs, but for the codec's benchmarks."""
    runs = [run for run in runs if run.recipe != CODEC]
    asked = [recipe for part in PARTS.values() for recipe in part]
    recipes = [*asked, *dict.fromkeys(run.recipe for run in runs if run.recipe not in asked)]
    groups = {recipe: group(runs, recipe) for recipe in recipes}
    return {
        "runs": sorted(runs, key=lambda run: (recipes.index(run.recipe), run.recorded)),
        "strip": strip(runs),
        "parts": {part: [groups[recipe] for recipe in names] for part, names in PARTS.items()},
        "others": [groups[recipe] for recipe in recipes if recipe not in asked],
        "encodings": encodings(runs),
        "further": further(runs),
        "receptive_sentences": list(
            dict.fromkeys(one.receptive_sentence for name in PARTS[3] for one in groups[name].blocks if one.receptive)
        ),
        "image_data": list(dict.fromkeys(run.result["data"] for run in runs if run.kind == "images")),
        "words": words,
    }


def group(runs: Sequence[Run], recipe: str) -> Group:
    blocks = [block(run) for run in shown_in_full(runs, recipe)]
    name = MODELS.get(recipe) or (blocks[0].run.name if blocks else recipe)
    return Group(recipe, name, blocks, any(run.recipe == recipe and not run.recorded for run in runs))


def block(run: Run) -> Block:
    """Every picture of one run."""
    label = f"{run.name} on {run.result['data']}, {words.count(run.result['steps'])} steps, seed {run.result['seed']}"
    pictures: dict[str, Any] = {}
    arrays = run.arrays
    if run.kind == "values" and {"model_pmf", "sample_frequencies", "data_frequencies"} <= arrays.keys():
        pictures["bars"] = bars(run)
    if run.kind == "pairs" and "samples" in arrays:
        pictures["pairs"] = pairs(run)
    if run.kind == "images" and "samples" in arrays:
        pictures["samples"] = grid(run)
    if run.kind == "images" and "receptive_field" in arrays:
        pictures["receptive"], pictures["receptive_sentence"] = receptive(run, words.receptive_sentence)
    return Block(run, label, curves(run), **pictures)


def receptive(run: Run, words_for: Callable[[np.ndarray, int, int], str]) -> tuple[Image, str]:
    """The receptive field of a run's centre, and what `words_for` says of it."""
    field = run.arrays["receptive_field"]
    row, column = field.shape[0] // 2, field.shape[1] // 2
    seen = words.receptive_sentence(field, row, column)
    alt = f"Receptive field of pixel ({row}, {column}), channel 0, of {run.name}. {seen}"
    return Image(plots.receptive_field(field, row, column), alt, "field"), words_for(field, row, column)


def curves(run: Run) -> Image:
    axis = f"{words.loss(run).lower()} ({words.unit(run)})"
    uri = plots.curves(run.curve, run.validation, axis, run.result.get("entropy_bits_per_dim"))
    alt = (
        f"{words.loss(run)} of {run.name} against training steps, in {words.unit(run)}: every minibatch "
        f"of the training data and the whole validation set. Best on validation data: "
        f"{words.number(run.validation_loss)}."
    )
    return Image(uri, alt)


def bars(run: Run) -> Image:
    model, samples, data = (run.arrays[name] for name in ("model_pmf", "sample_frequencies", "data_frequencies"))
    offset = int(run.arrays.get("offset", 0))
    uri = plots.bar_graphs(model, samples, data, offset, run.result.get("sample_count", 0))
    alt = (
        f"Bar graphs over {offset} to {offset + len(model) - 1}: the model's probabilities, the frequencies of its "
        f"samples and the data's histogram; on an axis from 0 to 1 above, enlarged below. The highest probability is "
        f"{model.max():.3f}, at {int(model.argmax()) + offset}."
    )
    return Image(uri, alt)


def pairs(run: Run, large: bool = True) -> Image:
    """Samples, truth and model of a two-dimensional run side by side."""
    levels, arrays = run.result["levels"], run.arrays
    counts = plots.counts_of_pairs(arrays["samples"], levels)
    uri = plots.pair_pictures(counts, arrays.get("truth"), arrays.get("model_joint"), large)
    alt = (
        f"{run.name} on {run.result['data']}: 2-D histogram of samples with {levels} bins a side, beside the truth and "
        f"the model's probabilities, x1 downwards and x2 to the right."
    )
    return Image(uri, alt)


def grid(run: Run) -> Image:
    shown = run.arrays["samples"][:100]
    alt = f"{len(shown)} samples of {run.name} in a grid of ten columns, trained on {run.result['data']}."
    return Image(png_uri(tiles(shown, run.result["levels"], columns=10)), alt, "samples")


def strip(runs: Sequence[Run]) -> Image | None:
    """A row of samples of the image model with the best likelihood."""
    candidates = [run for run in runs if run.kind == "images" and run.has_likelihood and "samples" in run.arrays]
    if not candidates:
        return None
    best = min(candidates, key=lambda run: run.result["test_bits_per_dim"])
    shown = best.arrays["samples"][:STRIP]
    beforehand = ", trained beforehand" if best.recorded else ""
    alt = f"{len(shown)} samples of {best.name} ({best.result['data']}{beforehand})."
    return Image(png_uri(tiles(shown, best.result["levels"], columns=len(shown))), alt, "strip")


def encodings(runs: Sequence[Run]) -> dict[str, Any]:
    """The MLP's runs that differ in how x₁ enters, on the same data with the same seed."""
    used = first(runs, "2d-mlp")
    if used is None:
        return {"rows": [], "best": None, "sentence": ""}
    same = lambda run: all(run.result[name] == used.result[name] for name in ("recipe", "data", "seed"))  # noqa: E731
    rows: dict[str, Run] = {}
    for run in filter(same, runs):
        if "encoding" in run.result and (not run.recorded or used.recorded):
            rows.setdefault(run.result["encoding"], run)
    best = min(rows.values(), key=lambda run: run.result.get("validation_bits_per_dim", float("inf")), default=None)
    return {"rows": list(rows.values()), "best": best, "sentence": words.best_encoding(list(rows.values()), used)}


def further(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Two-dimensional runs on other data or with other seeds; those on other data with their pictures."""
    rows: list[dict[str, Any]] = []
    pictured: set[tuple[str, str]] = set()
    for recipe in PARTS[2]:
        main = first(runs, recipe)
        full = shown_in_full(runs, recipe)
        for run in runs:
            if run.recipe != recipe or main is None or run is main:
                continue
            if all(run.result[name] == main.result[name] for name in ("data", "seed")) and not run.recorded:
                continue  # another encoding, or another size: not another set
            new = run.result["data"] != main.result["data"] and (recipe, run.result["data"]) not in pictured
            pictured.add((recipe, run.result["data"]))
            picture = pairs(run, large=False) if new and run not in full and "samples" in run.arrays else None
            rows.append({"run": run, "picture": picture})
    return rows


def results(runs: Sequence[Run]) -> dict[str, Any]:
    """The content of results.json: every run's result, with its folder and whether it was trained beforehand."""
    return {run.key: {**run.result, "folder": run.folder.name, "trained_beforehand": run.recorded} for run in runs}
