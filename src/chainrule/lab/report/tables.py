"""The rows of the page's tables; the only results computed here are means, spreads and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chainrule.lab.report.bonus_folder import BASE, Entry
from chainrule.lab.report.readers import Run

CONDITIONAL = "class-conditional"
"""The model whose bits are those of an image given its class, so that it is never the best of a table."""
ENCODINGS = {"onehot": "one-hot vector", "scalar": "real number", "embedding": "learned embedding"}
"""What the MLP's input encodings are called."""


@dataclass(frozen=True)
class Row:
    """A line of a table: its heading, and figures by key."""

    name: str
    values: Mapping[str, Any]
    note: str = ""  # shown small after the name
    best: Collection[str] = ()  # keys of the figures that are the best of their column
    link: str = ""  # where on the page the name leads
    run: Run | None = None  # the run whose badge the name carries


def show(value: Any, digits: int | None = 4) -> str:
    """A figure with a fixed number of decimals, several seeds' as mean ± standard deviation, nothing as a dash.

    >>> show(7.43), show(None), show(-0.00001), show(-1234.5, 1), show(119440, 0), show("a")
    ('7.4300', '–', '0.0000', '−1,234.5', '119,440', 'a')
    >>> show([0.1, 0.2]), show([0.1], 2), show([])
    ('0.1500 ± 0.0707', '0.10', '–')
    """
    if isinstance(value, list):
        mean = show(statistics.fmean(value) if value else None, digits)
        return f"{mean} ± {show(statistics.stdev(value), digits)}" if len(set(value)) > 1 else mean
    if value is None:
        return "–"
    if digits is None or isinstance(value, str | bool):
        return str(value)
    return f"{value:,.{digits}f}".replace("-", "−") if round(value, digits) else f"{0:.{digits}f}"


def of_runs(anchors: Mapping[Run, str], recipes: Collection[str]) -> list[Row]:
    """One line a run of these recipes; of those that would have the same name, all but one say their folder's, too."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in anchors:
        if run.recipe in recipes:
            encoding = ENCODINGS.get(run.result.get("encoding", ""), "")
            groups.setdefault((run.name, encoding, run.result["data"]), []).append(run)
    notes: dict[Run, str] = {}
    for (_, encoding, _), alike in groups.items():
        plain = next((run for run in alike if run.folder.name == run.result["recipe"]), alike[0])
        notes |= {run: encoding if run is plain else f"{encoding} {run.folder.name}".strip() for run in alike}
    return [Row(run.name, run.result, notes[run], (), anchor, run) for run, anchor in anchors.items() if run in notes]


def facts(run: Run) -> dict[str, Any]:
    """Everything that is told of a run: how it was trained, its result, and its folder's name."""
    loss = {"test_loss": run.test_loss, "validation_loss": run.validation_loss} if "steps" in run.result else {}
    return {**run.train, **run.result, **loss, "folder": run.folder.name}


def of_codecs(result: Mapping[str, Any]) -> list[Row]:
    """Our codec and the usual ones, the smallest first, the best of each column marked."""
    ours = {"codec": "chainrule (.crz)", "bytes": result["file_bytes"], "bits_per_dim": result["file_bits_per_dim"]}
    ours |= {name: result[name] for name in ("compress_seconds", "decompress_seconds")}
    found = sorted([ours, *result["others"]], key=lambda row: row["bytes"])
    least = {key: min(row[key] for row in found) for key in ours if key != "codec"}
    times = [row["bytes"] / max(ours["bytes"], 1) for row in found]
    best = [[key for key in least if row[key] == least[key]] for row in found]
    return [
        Row(row["codec"], row | {"times": ratio}, "", keys) for row, ratio, keys in zip(found, times, best, strict=True)
    ]


def codec_figures(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result of the codec's benchmark, and the bytes above the exact model's own count."""
    promised = result["file_bytes"] * result["exact_bits_per_dim"] / result["file_bits_per_dim"]
    return {**result, "excess_bytes": result["file_bytes"] - promised}


def of_budget(entries: Sequence[Entry]) -> list[Row]:
    """The models of one budget, one line each, figures of several seeds as lists."""
    bits = {entry.key: statistics.fmean(found) for entry in entries if (found := entry.values("test_bits_per_dim"))}
    least = min((mean for key, mean in bits.items() if key != CONDITIONAL), default=None)
    rows = []
    for entry in entries:
        several = [f"{len(entry.results)} seeds"] * (len(entry.results) > 1)
        loss = [f"quantile loss {show(found)}" for found in [entry.values("test_quantile_loss")] if found]
        values = dict(entry.results[0])
        values |= {key: entry.values(key) for key in ("test_bits_per_dim", "train_seconds")}
        values["data"] = ", ".join(sorted({result["data"] for result in entry.results}))
        if entry.key != BASE and BASE in bits and entry.key in bits:
            values["gain"] = 100 * (1 - bits[entry.key] / bits[BASE])
        best = ["test_bits_per_dim"] * (entry.key in bits and bits[entry.key] == least and len(bits) > 1)
        rows.append(Row(entry.name, values, "; ".join(several + loss), best))
    return rows


def of_quality(found: Sequence[Entry], needed: str) -> list[Row]:
    """One line a model for which one figure was measured; figures of several seeds as lists."""
    rows = []
    for entry in found:
        if count := len(entry.values(needed)):
            note = f"{count} seeds" if count > 1 and entry.key != "real" else ""
            keys = {key for result in entry.results for key in result}
            rows.append(Row(entry.name, {key: entry.values(key) for key in keys}, note))
    return rows
