"""The report's figures. They draw what a run folder holds; nothing is measured here."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from chainrule.lab.report.ink import INK, MUTED, TRAIN, TRUTH, VALIDATION, drawing, open_frame, svg_uri

MOST_POINTS = 1200
"""Points of a curve: more cannot be told apart on the page, and a long run has hundreds of thousands."""
PICTURE = "magma"
"""Colours of pictures of probabilities."""

Curve = tuple[np.ndarray, np.ndarray]


def curves(train: Curve, validation: Curve, axis: str, entropy: float | None = None) -> str:
    """Training loss of each minibatch and validation loss against steps: the whole run, and its last nine tenths."""
    with drawing():
        figure = Figure(figsize=(9.6, 3.5))
        whole, close = figure.subplots(1, 2)
        for axes in (whole, close):
            _losses(axes, train, validation, entropy)
        whole.set(title="Whole run", ylabel=axis)
        steps = max((float(x[-1]) for x, _ in (train, validation) if len(x)), default=1.0)
        whole.set_xlim(0, steps)
        close.set(title="Close-up: the first tenth left out", xlim=(steps / 10, steps))
        if limits := _limits_after(steps / 10, train, validation, entropy):
            close.set_ylim(*limits)
        legend = figure.legend(*whole.get_legend_handles_labels(), loc="outside upper right", ncols=4, handlelength=1.6)
        legend.legend_handles[0].set(linewidth=1.6, alpha=0.5)  # type: ignore[union-attr]
        return svg_uri(figure)


def _losses(axes: Axes, train: Curve, validation: Curve, entropy: float | None) -> None:
    axes.plot(*thinned(*train), color=TRAIN, alpha=0.35, linewidth=0.6, label="training, each minibatch")
    axes.plot(*smoothed(*train), color=TRAIN, linewidth=1.6, label="training, running mean")
    few = len(validation[0]) <= 60
    axes.plot(*thinned(*validation), color=VALIDATION, linewidth=1.5, marker="o" if few else "", markersize=3,
              label="validation, whole set")  # fmt: skip
    if entropy is not None:
        axes.axhline(entropy, color=TRUTH, linewidth=1.3, linestyle=(0, (4, 2)), label="entropy of the truth")
    axes.set_xlabel("training step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))


def _limits_after(start: float, train: Curve, validation: Curve, entropy: float | None) -> tuple[float, float] | None:
    parts = [y[x >= start] for x, y in (train, validation)]
    if not any(map(len, parts)):
        return None
    low, high = np.quantile(parts[0], (0.03, 0.97)) if len(parts[0]) else (np.inf, -np.inf)
    if len(parts[1]):
        low, high = min(low, parts[1].min()), max(high, parts[1].max())
    if entropy is not None:
        low, high = min(low, entropy), max(high, entropy)
    margin = 0.05 * (high - low) or 0.01
    return float(low - margin), float(high + margin)


def thinned(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> Curve:
    """A curve of at most `most` points with the same envelope: the lowest and the highest of every stretch.

    >>> thinned(np.arange(6), np.array([0.0, 5, 1, 2, 9, 3]), most=4)[1].tolist()
    [0.0, 5.0, 2.0, 9.0]
    """
    if len(x) <= most:
        return x, y
    edges = np.linspace(0, len(x), most // 2 + 1).astype(int)
    keep = []
    for start, stop in pairwise(edges):
        ends = {start + int(np.argmin(y[start:stop])), start + int(np.argmax(y[start:stop]))}
        keep += sorted(ends)
    return x[keep], y[keep]


def smoothed(x: np.ndarray, y: np.ndarray) -> Curve:
    """The mean over a window of a fiftieth of the run (more of a short one), at 300 points at most."""
    window = max(len(y) // 50, min(15, len(y) // 4))
    if len(y) < 2:
        return x, y
    total = np.concatenate([[0.0], np.cumsum(y)])
    centres = np.unique(np.linspace(0, len(y) - 1, 300).astype(int))
    # at the start the window stays symmetric and shrinks, so that a steep beginning is not flattened
    start = centres - np.minimum(window // 2, centres)
    stop = np.minimum(2 * centres - start + 1, len(y))
    return x[centres], (total[stop] - total[start]) / (stop - start)


def bar_graphs(model: np.ndarray, samples: np.ndarray, data: np.ndarray, offset: int, count: int) -> str:
    """Model, samples and data on {1…100} × [0, 1], and below each the same, enlarged to what the bars reach."""
    values = np.arange(len(model)) + offset
    top = 1.12 * max(model.max(), samples.max(), data.max())
    columns = [
        ("Model probabilities", model, TRAIN),
        (f"Frequencies of {count:,} samples", samples, VALIDATION),
        ("Data histogram", data, TRUTH),
    ]
    with drawing():
        figure = Figure(figsize=(9.6, 4.9))
        grid = figure.subplots(2, 3, sharex=True, sharey="row")
        for row, limit in enumerate((1.0, float(top))):
            for axes, (title, heights, color) in zip(grid[row], columns, strict=True):
                # one filled outline instead of a hundred rectangles: the same picture, a tenth of the file
                edges = np.concatenate([values - 0.5, [values[-1] + 0.5]])
                axes.stairs(heights, edges, fill=True, color=color, linewidth=0)
                if row and heights is not data:
                    axes.stairs(data, edges, color=INK, linewidth=0.7, label="data")
                    axes.legend(loc="upper left", handlelength=1.2)
                axes.set(xlim=(values[0] - 0.5, values[-1] + 0.5), ylim=(0, limit), title="" if row else title)
                axes.grid(False, axis="x")
                axes.set_xticks([values[0], *(v for v in range(20, values[-1] + 1, 20))])
            grid[row, 0].set_ylabel("probability" if row == 0 else "probability, enlarged")
        for axes in grid[1]:
            axes.set_xlabel("x")
        return svg_uri(figure)


def pair_pictures(samples: np.ndarray, truth: np.ndarray | None, model: np.ndarray | None, large: bool = True) -> str:
    """The 2-D histogram of samples beside the truth and the model's own joint distribution, x₁ downwards.

    Truth and model share one scale. With `large` the samples get two thirds of the width.
    """
    shown = {"samples": samples, "truth": truth, "model": model}
    titles = {"samples": f"{int(samples.sum()):,} samples", "truth": "Truth", "model": "Model"}
    reference = truth if truth is not None else model
    likely = 1.0 if reference is None else float(np.quantile(reference, 0.999))
    tops = {"samples": max(float(np.quantile(samples, 0.995)), 1.0), "truth": likely, "model": likely}
    with drawing():
        figure = Figure(figsize=(9.6, 6.25) if large else (9.6, 3.5))
        mosaic: Any = [["samples", "truth"], ["samples", "model"]] if large else [["samples", "truth", "model"]]
        places = figure.subplot_mosaic(mosaic, width_ratios=(2.1, 1) if large else None)
        for name, axes in places.items():
            table = shown[name]
            if table is None:
                axes.set_visible(False)
                continue
            axes.imshow(table, cmap=PICTURE, vmin=0, vmax=tops[name], interpolation="none")
            axes.set(title=titles[name], xticks=range(0, table.shape[1], 50), yticks=range(0, table.shape[0], 50))
            axes.set_xlabel("x₂" if name != "truth" or not large else "")
            axes.set_ylabel("x₁" if name == "samples" else "")
            open_frame(axes)
        return svg_uri(figure)


def counts_of_pairs(samples: np.ndarray, levels: int) -> np.ndarray:
    """The 2-D histogram of samples (N, 2): one bin for each pair of levels."""
    bins = np.arange(levels + 1) - 0.5
    return np.histogram2d(samples[:, 0], samples[:, 1], bins=(bins, bins))[0]


def receptive_field(field: np.ndarray, row: int, column: int) -> str:
    """|gradient| by pixel on a logarithmic scale; pixels without influence stay empty, the pixel itself is framed."""
    seen = field[field > 0]
    top = float(seen.max()) if len(seen) else 1.0
    low = max(float(seen.min()), top * 1e-12) if len(seen) else 0.1
    with drawing():
        figure = Figure(figsize=(4.7, 3.9))
        axes = figure.subplots()
        shown = np.ma.masked_where(field <= 0, field)
        picture = axes.imshow(shown, cmap="viridis", norm=LogNorm(min(low, top / 10), top), interpolation="none")
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=VALIDATION, linewidth=1.8))
        axes.set(xlabel="column", ylabel="row", xticks=range(0, field.shape[1], 7), yticks=range(0, field.shape[0], 7))
        open_frame(axes)
        bar = figure.colorbar(picture, ax=axes, shrink=0.9)
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.set_label("|∂ log p / ∂ x|, largest channel", color=MUTED)
        return svg_uri(figure)
