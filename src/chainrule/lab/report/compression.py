"""The section on lossless compression: what the codec's benchmark measured, as tables, two pictures and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from chainrule.lab.report import words
from chainrule.lab.report.ink import GRID, INK, MUTED, TRAIN, drawing, open_frame, svg_uri, tiles
from chainrule.lab.report.plots import PICTURE
from chainrule.lab.report.runs import CODEC, Run
from chainrule.lab.report.sections import Image

OURS = "chainrule (.crz)"
"""What our codec is called in the table and the picture."""
EXTRA = ("PNG", "WebP", "JPEG XL", "zstd", "brotli")
"""The codecs that need an extra; without it only the xz of Python's own library is measured."""
GAP = 2
"""Pixels between the images of a picture."""


@dataclass(frozen=True)
class Compression:
    """One benchmark of the codec, as the page shows it."""

    run: Run
    label: str
    headline: str
    """The outcome in one sentence."""
    figures: list[tuple[str, str, str]]
    """Key figures as (term, value, unit)."""
    rows: list[dict[str, Any]]
    """Every codec with what it took, the smallest first; `best` names the columns in which it beats all others."""
    overhead: str
    others: str
    bars: Image
    heat: Image | None
    heat_sentence: str


def compressions(runs: Sequence[Run]) -> list[Compression]:
    """The benchmarks of the codec among the runs; those that are called alike are told apart by their models' size."""
    found = [run for run in runs if run.recipe == CODEC]
    names = [name_of(run) for run in found]
    labels = [
        f"{name}, {words.count(run.result['parameters'])} parameters"
        if names.count(name) > 1 and "parameters" in run.result
        else name
        for run, name in zip(found, names, strict=True)
    ]
    return [compression(run, label) for run, label in zip(found, labels, strict=True)]


def name_of(run: Run) -> str:
    result = run.result
    return f"{words.model_name(result)} on {words.count(result['images'])} test images of {result['data']}"


def compression(run: Run, label: str) -> Compression:
    result = run.result
    rows = table(result)
    heat, sentence = None, ""
    if shows_heat(run.arrays):
        images, bits = run.arrays["heat_images"], run.arrays["heat_bits"]
        sentence = concentration(bits)
        alt = (
            f"{len(images)} test images in a row, and below each a heat map of the bits that its pixels cost, "
            f"{', '.join(f'{total:,.0f}' for total in bits.sum((1, 2)))} bits in all. {sentence}"
        )
        heat = Image(heat_map(images, bits, levels_of(run)), alt)
    alt = f"Bits per dimension of {len(rows)} codecs: " + ", ".join(
        f"{row['codec']} {words.number(row['bits_per_dim'])}" for row in rows
    )
    return Compression(
        run, label, headline(result), key_figures(result), rows, overhead(result), compared(result),
        Image(bar_chart(rows), alt + "."), heat, sentence,
    )  # fmt: skip


def table(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Ours and the others in one table, the smallest first."""
    ours = {
        "codec": OURS,
        "ours": True,
        "bytes": result["file_bytes"],
        "bits_per_dim": result["file_bits_per_dim"],
        "compress_seconds": result["compress_seconds"],
        "decompress_seconds": result["decompress_seconds"],
    }
    rows = sorted([ours, *({**row, "ours": False} for row in result["others"])], key=lambda row: row["bytes"])
    columns = ("bytes", "bits_per_dim", "compress_seconds", "decompress_seconds")
    least = {column: min(row[column] for row in rows) for column in columns}
    for row in rows:
        row["times"] = row["bytes"] / max(ours["bytes"], 1)
        row["best"] = {column for column in columns if row[column] == least[column] and len(rows) > 1}
    return rows


def levels_of(run: Run) -> int:
    """Levels of the images in a benchmark's picture; where it does not say, as few bits as hold the highest value."""
    top = int(run.arrays["heat_images"].max(initial=1))
    return max(int(run.result.get("levels", 2 ** top.bit_length())), 2)


def shows_heat(arrays: dict[str, np.ndarray]) -> bool:
    """Whether there are images, and bits for each of their pixels."""
    images, bits = arrays.get("heat_images"), arrays.get("heat_bits")
    return images is not None and bits is not None and images.ndim == 4 and (
        bits.shape == (len(images), *images.shape[2:]) and bits.size > 0
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- sentences


def headline(result: dict[str, Any]) -> str:
    """The outcome in one sentence."""
    times = result.get("times_smaller_than_best_other")
    beside = ""
    if times:
        how = f"{times:.2f} times smaller" if times >= 1 else f"{1 / times:.2f} times larger"
        beside = f", {how} than with {result['best_other']}"
    return (
        f"{words.count(result['images'])} test images of {result['data']} in a file of "
        f"{words.number(result['file_bits_per_dim'])} bits/dim{beside}."
    )


def key_figures(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What the codec comes to, as (term, value, unit)."""
    file, twin, model = (result.get(f"{name}_bits_per_dim") for name in ("file", "exact", "model"))
    figures = [
        ("File", words.number(file), "bits/dim"),
        ("Exact model", words.number(twin), "bits/dim"),
    ]
    if model is not None:
        figures.append(("Float model", words.number(model), "bits/dim"))
    figures.append(("File above exact", excess(file, twin), "%"))
    if model is not None:
        figures.append(("Exact above float", excess(twin, model), "%"))
    if times := result.get("times_smaller_than_best_other"):
        how, times = ("Smaller", times) if times >= 1 else ("Larger", 1 / times)
        figures.insert(1, (f"{how} than {result['best_other']}", words.number(times, 2), "times"))
    return figures


def excess(value: float | None, base: float | None) -> str:
    """How many percent a figure is above another.

    >>> excess(2.002, 2.0), excess(1.99996, 2.0), excess(3.0, 2.0), excess(1.0, None)
    ('0.100', '−0.002', '50.0', '–')
    """
    if value is None or not base:
        return "–"
    percent = 100 * (value / base - 1)
    return words.number(percent, 3 if abs(percent) < 1 else 1)


def overhead(result: dict[str, Any]) -> str:
    """What the file holds beyond the model's own count of bits."""
    promised = result["file_bytes"] * result["exact_bits_per_dim"] / result["file_bits_per_dim"]
    return (
        f"The file has {words.count(result['file_bytes'])} bytes for {words.count(result['raw_bytes'])} bytes of raw "
        f"pixels. By the exact model's own likelihoods it should have {promised:,.0f}; the rest, "
        f"{result['file_bytes'] - promised:,.0f} bytes, is headers, checksums and the coder's rounding."
    )


def compared(result: dict[str, Any]) -> str:
    """Which codecs are missing from the comparison, and how to have them."""
    if not all(row["codec"].startswith("xz") for row in result["others"]):
        return ""
    there = "Only xz, which comes with Python, was" if result["others"] else "No other codec was"
    *most, last = EXTRA
    return f"{there} measured beside ours. To add {', '.join(most)} and {last}, install the extra and measure again:"


def concentration(bits: np.ndarray) -> str:
    """How unevenly the bits are spread over the pixels of a picture.

    >>> concentration(np.array([[[8.0, 1, 1, 1, 1]]]))
    'Half of all bits in this picture fall on 20.0 % of its pixels.'
    """
    spent = np.sort(bits, axis=None)[::-1].cumsum()
    share = (int(np.searchsorted(spent, spent[-1] / 2)) + 1) / bits.size
    return f"Half of all bits in this picture fall on {100 * share:.1f} % of its pixels."


# ------------------------------------------------------------------------------------------------------------ pictures


def bar_chart(rows: Sequence[dict[str, Any]]) -> str:
    """Bits per dimension of every codec, the smallest on top, ours in colour."""
    with drawing():
        figure = Figure(figsize=(9.6, 0.55 + 0.36 * len(rows)))
        axes = figure.subplots()
        sizes = [row["bits_per_dim"] for row in rows]
        colors = [TRAIN if row["ours"] else MUTED for row in rows]
        bars = axes.barh(range(len(rows)), sizes, color=colors, height=0.66)
        for bar, row in zip(bars, rows, strict=True):
            bar.set_alpha(1 if row["ours"] else 0.45)
            axes.annotate(
                words.number(row["bits_per_dim"]), (bar.get_width(), bar.get_y() + bar.get_height() / 2), (5, 0),
                textcoords="offset points", va="center", color=INK, weight="bold" if row["ours"] else "normal",
            )  # fmt: skip
        axes.set(xlabel="bits per dimension, lower is better", xlim=(0, 1.09 * max(sizes)))
        axes.set_yticks(range(len(rows)), [row["codec"] for row in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.invert_yaxis()
        axes.grid(False)
        axes.spines["left"].set_color(GRID)
        return svg_uri(figure)


def heat_map(images: np.ndarray, bits: np.ndarray, levels: int) -> str:
    """Images in a row and below each the bits of its pixels, all on one square-root scale."""
    count, _, height, width = images.shape
    row = np.full((height, count * (width + GAP) - GAP), np.nan)
    for i, one in enumerate(bits):
        row[:, i * (width + GAP) : i * (width + GAP) + width] = one
    gaps = np.isnan(row)[..., None]
    pixels = tiles(images, levels, columns=count, gap=GAP)
    pixels = np.concatenate([np.broadcast_to(pixels, (*pixels.shape[:2], 3)), np.where(gaps, 0, 255)], axis=2)
    top = max(float(np.quantile(bits, 0.998)), 1e-3)
    with drawing():
        figure = Figure(figsize=(9.6, 8.6 * 2 * height / row.shape[1] + 0.5))
        above, below = figure.subplots(2, 1)
        above.imshow(pixels.astype(np.uint8), interpolation="none")
        picture = below.imshow(row, cmap=PICTURE, norm=PowerNorm(0.5, 0, top), interpolation="none")
        for axes in (above, below):
            open_frame(axes)
            axes.spines[:].set_visible(False)
            axes.set(xticks=[], yticks=[])
        middles = [i * (width + GAP) + (width - 1) / 2 for i in range(count)]
        below.set_xticks(middles, [f"{total:,.0f} bits" for total in bits.sum((1, 2))])
        below.tick_params(axis="x", length=0, labelcolor=INK)
        bar = figure.colorbar(picture, ax=[above, below], extend="max" if bits.max() > top else "neither", pad=0.015)
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.set_label("bits per pixel", color=MUTED)
        return svg_uri(figure)
