"""The report's figures. They draw what a run folder holds; nothing is measured here. Each returns a data URI."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from chainrule.lab.report.drawing import INK, MUTED, TRAIN, TRUTH, VALIDATION, drawn, open_frame, tiles
from chainrule.lab.report.readers import Curve

MOST_POINTS = 1200
"""Points of a curve: more cannot be told apart on the page, and a long run has hundreds of thousands."""
PICTURE = "magma"
"""Colours of pictures of probabilities."""
GAP = 2
"""Pixels between the images of a picture."""


@drawn
def curves(train: Curve, extremes: Curve, validation: Curve, axis: str, entropy: float | None = None) -> Figure:
    """Training loss of each minibatch and validation loss against steps: the whole run, and its last nine tenths."""
    figure = Figure(figsize=(9.6, 3.5))
    whole, close = figure.subplots(1, 2)
    for axes in (whole, close):
        losses(axes, train, extremes, validation, entropy)
    steps = max((float(x[-1]) for x, _ in (train, validation) if len(x)), default=1.0)
    whole.set(title="Whole run", ylabel=axis, xlim=(0, steps))
    close.set(title="Close-up: the first tenth left out", xlim=(steps / 10, steps))
    late, checked = (y[x >= steps / 10] for x, y in (extremes, validation))
    shown = np.concatenate([np.quantile(late, (0.03, 0.97)) if len(late) else late, checked])
    if len(shown):
        ends = np.append(shown, shown if entropy is None else entropy)
        margin = 0.05 * np.ptp(ends) or 0.01
        close.set_ylim(ends.min() - margin, ends.max() + margin)
    legend = figure.legend(*whole.get_legend_handles_labels(), loc="outside upper right", ncols=4, handlelength=1.6)
    legend.legend_handles[0].set(linewidth=1.6, alpha=0.5)  # type: ignore[union-attr]
    return figure


def losses(axes: Axes, train: Curve, extremes: Curve, validation: Curve, entropy: float | None) -> None:
    axes.plot(*thinned(*extremes), color=TRAIN, alpha=0.35, linewidth=0.6, label="training, each minibatch")
    axes.plot(*smoothed(*train), color=TRAIN, linewidth=1.6, label="training, mean")
    marker = "o" if len(validation[0]) <= 60 else ""
    options: dict[str, Any] = {"linewidth": 1.5, "marker": marker, "markersize": 3, "label": "validation, whole set"}
    axes.plot(*thinned(*validation), color=VALIDATION, **options)
    if entropy is not None:
        axes.axhline(entropy, color=TRUTH, linewidth=1.3, linestyle=(0, (4, 2)), label="entropy of the truth")
    axes.set_xlabel("training step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))


def thinned(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> Curve:
    """A curve of at most `most` points with the same envelope: the lowest and the highest of every stretch.

    >>> thinned(np.arange(6), np.array([0.0, 5, 1, 2, 9, 3]), most=4)[1].tolist()
    [0.0, 5.0, 2.0, 9.0]
    """
    if len(x) <= most:
        return x, y
    starts = np.linspace(0, len(x), most // 2, endpoint=False).astype(int)
    ends = np.stack([np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)], axis=1)
    return np.repeat(x[starts], 2), ends.ravel()


def smoothed(x: np.ndarray, y: np.ndarray) -> Curve:
    """The means of a hundred stretches, of fewer where there are few points."""
    starts = np.linspace(0, len(x), min(100, -(-len(x) // 4)), endpoint=False).astype(int)
    sizes = np.diff(starts, append=len(x))
    steps, losses = (np.add.reduceat(values, starts) / sizes if len(x) else values for values in (x, y))
    return steps, losses


@drawn
def bar_graphs(model: np.ndarray, samples: np.ndarray, data: np.ndarray, offset: int) -> Figure:
    """Model, samples and data on {1…100} × [0, 1], and below each the same, enlarged to what the bars reach."""
    edges = np.arange(len(model) + 1) + offset - 0.5
    top = float(1.12 * max(model.max(), samples.max(), data.max()))
    columns = [
        ("Model probabilities", model, TRAIN),
        ("Frequencies of samples", samples, VALIDATION),
        ("Data histogram", data, TRUTH),
    ]
    figure = Figure(figsize=(9.6, 4.9))
    grid = figure.subplots(2, 3, sharex=True, sharey="row")
    for row, limit in enumerate((1.0, top)):
        for axes, (title, heights, color) in zip(grid[row], columns, strict=True):
            # one filled outline instead of a hundred rectangles: the same picture, a tenth of the file
            axes.stairs(heights, edges, fill=True, color=color, linewidth=0)
            if row and heights is not data:
                axes.stairs(data, edges, color=INK, linewidth=0.7, label="data")
                axes.legend(loc="upper left", handlelength=1.2)
            axes.set(ylim=(0, limit), xlim=(edges[0], edges[-1]), title="" if row else title)
            axes.set_xticks([offset, *range(20, offset + len(model), 20)])
            axes.grid(axis="x", visible=False)
    grid[0][0].set_ylabel("probability")
    grid[1][0].set_ylabel("probability, enlarged")
    for axes in grid[1]:
        axes.set_xlabel("x")
    return figure


@drawn
def pair_pictures(samples: np.ndarray, truth: np.ndarray | None, model: np.ndarray | None) -> Figure:
    """The 2-D histogram of samples, large, beside the truth and the model's own joint distribution, x₁ downwards.

    Truth and model share one scale.
    """
    reference = next((table for table in (truth, model) if table is not None), np.ones(1))
    shown = {"samples": samples, "truth": truth, "model": model}
    titles = {"samples": f"{int(samples.sum()):,} samples", "truth": "Truth", "model": "Model"}
    figure = Figure(figsize=(9.6, 6.25))
    places = figure.subplot_mosaic([["samples", "truth"], ["samples", "model"]], width_ratios=(2.1, 1))
    for name, axes in places.items():
        table = shown[name]
        if table is None:
            axes.set_visible(False)
            continue
        top = max(float(np.quantile(table, 0.995)), 1.0) if name == "samples" else float(np.quantile(reference, 0.999))
        axes.imshow(table, cmap=PICTURE, vmin=0, vmax=top, interpolation="none")
        axes.set(title=titles[name], xticks=range(0, table.shape[1], 50), yticks=range(0, table.shape[0], 50))
        axes.set(xlabel="" if name == "truth" else "x₂", ylabel="x₁" if name == "samples" else "")
        open_frame(axes)
    return figure


def counts_of_pairs(samples: np.ndarray, levels: int) -> np.ndarray:
    """The 2-D histogram of samples (N, 2): one bin for each pair of levels."""
    bins = np.arange(levels + 1) - 0.5
    return np.histogram2d(samples[:, 0], samples[:, 1], bins=(bins, bins))[0]


@drawn
def receptive_field(field: np.ndarray, row: int, column: int) -> Figure:
    """|gradient| by pixel on a logarithmic scale; pixels without influence stay empty, the pixel itself is framed."""
    seen = field[field > 0]
    top = float(seen.max()) if len(seen) else 1.0
    low = min(max(float(seen.min()), top * 1e-12), top / 10) if len(seen) else 0.1
    figure = Figure(figsize=(4.7, 3.9))
    axes = figure.subplots()
    picture = axes.imshow(
        np.ma.masked_where(field <= 0, field), cmap="viridis", norm=LogNorm(low, top), interpolation="none"
    )
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=VALIDATION, linewidth=1.8))
    axes.set(xlabel="column", ylabel="row", xticks=range(0, field.shape[1], 7), yticks=range(0, field.shape[0], 7))
    open_frame(axes)
    scale(figure, picture, axes, "|∂ log p / ∂ x|, largest channel", shrink=0.9)
    return figure


@drawn
def heat_map(images: np.ndarray, bits: np.ndarray, levels: int) -> Figure:
    """Images in a row and below each the bits of its pixels, all on one square-root scale."""
    count, _, height, width = images.shape
    row = np.pad(bits, ((0, 0), (0, 0), (0, GAP)), constant_values=np.nan).transpose(1, 0, 2).reshape(height, -1)
    row = row[:, :-GAP]
    pixels = tiles(images, levels, columns=count, gap=GAP)
    pixels = np.concatenate([pixels, np.where(np.isnan(row), 0, 255)[..., None]], axis=2).astype(np.uint8)
    top = max(float(np.quantile(bits, 0.998)), 1e-3)
    figure = Figure(figsize=(9.6, 8.6 * 2 * height / row.shape[1] + 0.5))
    above, below = figure.subplots(2, 1)
    above.imshow(pixels, interpolation="none")
    picture = below.imshow(row, cmap=PICTURE, norm=PowerNorm(0.5, 0, top), interpolation="none")
    for axes in (above, below):
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set(xticks=[], yticks=[])
    middles = np.arange(count) * (width + GAP) + (width - 1) / 2
    below.set_xticks(middles, [f"{total:,.0f} bits" for total in bits.sum((1, 2))])
    below.tick_params(axis="x", length=0, labelcolor=INK)
    scale(figure, picture, [above, below], "bits per pixel", extend="max" if bits.max() > top else "neither", pad=0.015)
    return figure


def scale(figure: Figure, picture: object, axes: object, label: str, **options: object) -> None:
    """The colour scale of a picture."""
    bar = figure.colorbar(picture, ax=axes, **options)  # type: ignore[arg-type]
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label(label, color=MUTED)
