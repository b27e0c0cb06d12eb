"""The report's figures. They draw what a run folder holds; nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from chainrule.report.ink import INK, MUTED, TRAIN, TRUTH, VALIDATION, drawing, open_frame, svg_uri

MOST_POINTS = 1200
"""Points of a curve: more cannot be told apart on the page, and a long run has hundreds of thousands."""
PICTURE = "magma"
"""Colours of pictures of probabilities."""

Curve = tuple[np.ndarray, np.ndarray]


def curves(train: Curve, validation: Curve, unit: str, entropy: float | None = None) -> str:
    """Training loss of each minibatch and validation loss against steps: the whole run, and its last nine tenths."""
    with drawing():
        figure = Figure(figsize=(9.6, 3.5))
        whole, close = figure.subplots(1, 2, width_ratios=(1, 1))
        for axes in (whole, close):
            _losses(axes, train, validation, entropy)
        whole.set(title="Whole run", ylabel=f"negative log-likelihood ({unit})")
        steps = max((float(x[-1]) for x, _ in (train, validation) if len(x)), default=1.0)
        whole.set_xlim(0, steps)
        close.set(title="Close-up: the first tenth left out", xlim=(steps / 10, steps))
        if limits := _limits_after(steps / 10, train, validation, entropy):
            close.set_ylim(*limits)
        handles, labels = whole.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=4, handlelength=1.6, columnspacing=1.4)
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
    low, high = (np.quantile(parts[0], (0.002, 0.995)) if len(parts[0]) else (np.inf, -np.inf))
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
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        ends = {start + int(np.argmin(y[start:stop])), start + int(np.argmax(y[start:stop]))}
        keep += sorted(ends)
    return x[keep], y[keep]


def smoothed(x: np.ndarray, y: np.ndarray) -> Curve:
    """The mean over a window of a fiftieth of the run, at most 300 points of it."""
    window = max(1, len(y) // 50)
    if len(y) < 2:
        return x, y
    total = np.concatenate([[0.0], np.cumsum(y)])
    centres = np.unique(np.linspace(0, len(y) - 1, 300).astype(int))
    # near the ends the window shrinks and stays symmetric, so that a steep beginning is not pulled inwards
    half = np.minimum(window // 2, np.minimum(centres, len(y) - 1 - centres))
    return x[centres], (total[centres + half + 1] - total[centres - half]) / (2 * half + 1)


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


def pair_pictures(pictures: Sequence[tuple[str, np.ndarray]], counts: np.ndarray | None = None) -> str:
    """Tables p(x₁ = i, x₂ = j) side by side on one scale, x₁ downwards; `counts` of samples last, on their own."""
    panels = [(title, table, np.quantile(pictures[0][1], 0.999)) for title, table in pictures]
    if counts is not None:
        panels.append((f"{int(counts.sum()):,} samples", counts, max(float(np.quantile(counts, 0.999)), 1.0)))
    with drawing():
        figure = Figure(figsize=(9.6, 9.6 / 3 + 0.35))
        for axes, (title, table, top) in zip(np.atleast_1d(figure.subplots(1, max(3, len(panels)))), panels, strict=False):
            axes.imshow(table, cmap=PICTURE, vmin=0, vmax=top, interpolation="none")
            axes.set(title=title, xlabel="x₂", xticks=range(0, table.shape[1], 50), yticks=range(0, table.shape[0], 50))
            open_frame(axes)
        for i, axes in enumerate(figure.axes):
            axes.set_ylabel("x₁" if i == 0 else "")
            axes.set_visible(i < len(panels))
        return svg_uri(figure)


def counts_of_pairs(samples: np.ndarray, levels: int) -> np.ndarray:
    """The 2-D histogram of samples (N, 2): one bin for each pair of levels."""
    bins = np.arange(levels + 1) - 0.5
    return np.histogram2d(samples[:, 0], samples[:, 1], bins=(bins, bins))[0]


def receptive_field(field: np.ndarray, row: int, column: int) -> str:
    """|gradient| by pixel on a logarithmic scale; pixels without influence are left empty, the pixel itself is framed."""
    seen = field[field > 0]
    top = float(seen.max()) if len(seen) else 1.0
    low = max(float(seen.min()), top * 1e-6) if len(seen) else 0.1
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
