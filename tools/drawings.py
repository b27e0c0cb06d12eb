"""Draw the pictures of docs/how-it-works.md: python tools/drawings.py [FOLDER], by default docs/images

Every picture is made from the package's own masks, fronts, grids and models, and follows the reader's light or dark
theme. `make docs` runs this first.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline

import chainrule as cr
from chainrule import fixedpoint, masks
from chainrule.evaluation import receptive_field
from chainrule.fixedpoint.grid import Inputs
from chainrule.lab.report.drawing import GRID, INK, MUTED, STYLE, TRAIN, TRUTH, VALIDATION, themed
from chainrule.models.front_walk import FrontWalk
from chainrule.nn.fronts import LAG, Fronts

SEEN, UNSEEN = (TRAIN, 0.75), (GRID, 0.35)
"""Colours and how much they cover."""
IMAGES = Path(__file__).parents[1] / "docs" / "images"


class Cells:
    """Squares of a grid, row 0 on top; those of one colour become one outline, which keeps the files small."""

    def __init__(self) -> None:
        self.squares: dict[tuple[str, float], list[tuple[int, int]]] = {}

    def add(self, row: int, column: int, color: str, alpha: float = 0.75) -> None:
        self.squares.setdefault((color, alpha), []).append((row, column))

    def draw(self, axes: Axes) -> None:
        for (color, alpha), places in self.squares.items():
            corners = [[(j, i), (j + 1, i), (j + 1, i + 1), (j, i + 1), (j, i)] for i, j in places]
            outline = Outline.make_compound_path(*(Outline(square, closed=True) for square in corners))
            axes.add_patch(PathPatch(outline, facecolor=color, edgecolor=GRID, linewidth=0.8, alpha=alpha))


def frame(axes: Axes, rows: int, columns: int, title: str) -> None:
    """Square cells, no ticks; around them a little space."""
    axes.set(xlim=(-0.3, columns + 0.3), ylim=(rows + 0.3, -0.3), aspect="equal", xticks=[], yticks=[])
    axes.set_title(title, loc="left")
    axes.spines[:].set_visible(False)
    axes.grid(False)


def matrix(axes: Axes, mask: torch.Tensor, title: str) -> None:
    """A mask of a linear layer: filled where an input is connected to an output."""
    cells = Cells()
    for row, column in np.ndindex(*mask.shape):
        cells.add(row, column, *(SEEN if mask[row, column] else UNSEEN))
    cells.draw(axes)
    frame(axes, *mask.shape, title)


def mask_figure() -> Figure:
    """A MADE's masks by the ranks of its units, and the two kernels of a PixelCNN."""
    figure = Figure(figsize=(9.6, 3.5))
    first, second, seven, three = figure.subplots(1, 4, width_ratios=(3, 5, 5.5, 4.5))
    made = cr.MADE((4,), 2, hidden=(6,)).network
    hidden, output = made.layers[0].mask[:, ::2], made.output.mask[::2]
    ranks = masks.hidden_ranks(6, range(1, 4)).tolist()
    matrix(first, hidden, "MADE: x to hidden")
    matrix(second, output, "hidden to output")
    for row, rank in enumerate(ranks):
        first.text(-0.3, row + 0.5, f"rank {rank}", ha="right", va="center", fontsize=8)
        second.text(row + 0.5, 4.5, str(rank), ha="center", va="center", fontsize=8)
    second.text(3, 5.2, "rank of the hidden unit", ha="center", va="center", fontsize=8)
    for d in range(4):
        first.text(d + 0.5, 6.5, f"x{'₁₂₃₄'[d]}", ha="center", va="center", fontsize=8)
        second.text(-0.3, d + 0.5, f"p(x{'₁₂₃₄'[d]} | …)", ha="right", va="center", fontsize=8)
    for axes, side, kind in ((seven, 7, "A"), (three, 3, "B")):
        mask, radius = masks.kernel_mask(side, kind), side // 2
        matrix(
            axes, torch.cat([mask, torch.zeros(radius, side, dtype=torch.bool)]), f"{side}×{side} kernel, type {kind}"
        )
        axes.add_patch(Rectangle((radius, radius), 1, 1, fill=False, edgecolor=VALIDATION, linewidth=2))
    return figure


def field_figure() -> Figure:
    """Which pixels the conditional of one pixel depends on, by its gradient."""
    figure = Figure(figsize=(9.6, 3.3))
    side, row, column = 21, 11, 10
    panels = figure.subplots(1, 3)
    torch.manual_seed(0)
    models = {
        "PixelCNN, 3 blocks": cr.PixelCNN((1, side, side), 2, filters=16, blocks=3),
        "PixelCNN, 8 blocks": cr.PixelCNN((1, side, side), 2, filters=16, blocks=8),
        "Gated PixelCNN, 3 blocks": cr.GatedPixelCNN((1, side, side), 2, filters=16, blocks=3),
    }
    for axes, (title, model) in zip(panels, models.items(), strict=True):
        seen = receptive_field(model.double(), (0, row, column)) > 0
        cells = Cells()
        for i, j in np.ndindex(side, side):
            cells.add(i, j, *(SEEN if seen[i, j] else (VALIDATION, 0.3) if (i, j) < (row, column) else UNSEEN))
        cells.draw(axes)
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=VALIDATION, linewidth=2))
        frame(axes, side, side, title)
    return figure


def walk_figure() -> Figure:
    """What the two kinds of layers remember of an image during a walk, and what one step multiplies."""
    figure = Figure(figsize=(9.6, 3.5))
    height, width, row, column = 9, 12, 5, 6
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 0.95))
    trunk = cr.PixelCNN((1, height, width), 2, filters=4, blocks=1).trunk
    layers = {"First layer, 7×7, type A": trunk.input, "A block's layer, 3×3, type B": trunk.blocks[0].spatial}
    for axes, (title, conv) in zip(panels, layers.items(), strict=False):
        kept = conv.start(1, width).rows.shape[1]
        taps = {(row + int(i) - conv.radius, column + int(j) - conv.radius) for i, j in conv.mask.nonzero()}
        known = row * width + column + (conv.mask_type == "B")
        cells = Cells()
        for i, j in np.ndindex(height, width):
            done, in_cache = i * width + j < known, row - kept < i <= row
            cells.add(i, j, *(SEEN if (i, j) in taps else (TRUTH, 0.45) if done and in_cache else UNSEEN))
            if not done:
                axes.text(j + 0.5, i + 0.5, "·", ha="center", va="center")
        cells.draw(axes)
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=VALIDATION, linewidth=2))
        frame(axes, height, width, title)
        axes.set_xlabel(f"{kept} rows in the cache, {len(taps)} taps")
    model = cr.PixelCNNMADE((3, 28, 28), 4, filters=4, blocks=1)
    pixels = 28 * 28
    full = len(model.sites()) * pixels
    bars = panels[2]
    counts = {"a full pass\nfor every entry": full, "a full pass\nfor every pixel": pixels**2, "cached walk": pixels}
    bars.barh(list(counts), list(counts.values()), color=[VALIDATION, VALIDATION, TRAIN], height=0.6)
    bars.set_xscale("log")
    bars.set_xlim(100, 3e7)
    bars.invert_yaxis()
    bars.set_title("Times a layer computes a pixel\nfor one image of 28×28×3", loc="left")
    for place, count in enumerate(counts.values()):
        bars.text(count * 1.25, place, f"{count:,}", va="center", fontsize=8.5)
    bars.tick_params(axis="y", length=0)
    bars.grid(axis="y", visible=False)
    return figure


def exact_figure() -> Figure:
    """The grid of an input, one sum in many orders, and how much room each layer's certificate leaves."""
    figure = Figure(figsize=(9.6, 3.5))
    grid, sums, proof = figure.subplots(1, 3)
    inputs = Inputs(bits=2, low=0, high=7)
    x = torch.linspace(-0.5, 2.5, 1201)
    grid.plot(x, x, color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
    grid.plot(x, inputs.quantise(x) / 2**inputs.bits, color=TRAIN, linewidth=1.8)
    grid.set(xlabel="a layer's input", ylabel="what it multiplies")
    grid.set_title("A grid of ¼, from 0 to 7/4", loc="left")

    model = cr.load("colored-mnist")
    exact = fixedpoint.exact(model)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(exact.trunk.hidden.in_channels, generator=generator).relu()
    for label, color, spread in order_spreads(model.trunk.hidden, exact.trunk.hidden, drawn):
        sums.hist(spread, bins=np.arange(-8.5, 9.5), color=color, label=label, alpha=0.75)
    sums.set(xlabel="difference in units of the last place", ylabel="orders of summation", xlim=(-8.5, 8.5))
    sums.set_title("One sum, in 1,000 orders", loc="left")
    sums.legend(loc="upper right", handlelength=1.2)

    certified = fixedpoint.certificate(exact)
    share = [row.worst / row.limit for row in certified]
    proof.bar(range(len(share)), share, color=TRAIN, width=0.8)
    proof.axhline(1, color=VALIDATION, linewidth=1.5)
    proof.text(len(share) - 0.5, 1.02, "the carrier is exact up to here", ha="right", va="bottom", fontsize=8.5)
    proof.set(xlabel=f"the {len(share)} layers of colored-mnist", ylabel="worst sum / limit", ylim=(0, 1.2), xticks=[])
    proof.set_title("Its certificate", loc="left")
    return figure


def order_spreads(layer: Any, exact: Any, x: torch.Tensor) -> Iterator[tuple[str, str, np.ndarray]]:
    """The sum of output 0 in 1,000 orders, in float32: of the float layer's products, and of the exact one's."""
    rng = np.random.RandomState(0)
    orders = [rng.permutation(len(x)) for _ in range(1000)]
    weight = layer.weight[0, :, 0, 0].detach()
    for label, color, terms in (
        ("float32", VALIDATION, (weight * x).numpy()),
        ("on the grid", TRAIN, (exact.grid_weight[0].flatten() * exact.quantised(x)).numpy()),
    ):
        found = np.array([np.cumsum(terms[order], dtype=np.float32)[-1] for order in orders])
        yield label, color, (found - np.median(found)) / np.spacing(np.abs(np.median(found)))


def wavefront_figure() -> Figure:
    """The front of every pixel of a small picture, what one of them needs, and the fronts of a photograph."""
    figure = Figure(figsize=(9.6, 3.7))
    small, large = figure.subplots(1, 2, width_ratios=(1.35, 1))
    height, width, shown = 5, 15, 14
    model = cr.PixelCNN((1, height, width), 2, filters=4, blocks=1)
    fronts = FrontWalk(model).fronts
    now = {(int(i), int(j)) for i, j in zip(*fronts[shown], strict=True)}
    row, column = 2, shown - LAG * 2
    conv = model.trunk.input
    taps = {(row + int(i) - conv.radius, column + int(j) - conv.radius) for i, j in conv.mask.nonzero()}
    cells = Cells()
    for t in range(len(fronts)):
        for i, j in zip(*(part.tolist() for part in fronts[t]), strict=True):
            cells.add(i, j, *((VALIDATION, 0.6) if (i, j) in now else (TRAIN, 0.45) if t < shown else UNSEEN))
            small.text(j + 0.5, i + 0.5, str(t), ha="center", va="center", fontsize=7.5)
            if (i, j) in taps:
                small.add_patch(Rectangle((j + 0.08, i + 0.08), 0.84, 0.84, fill=False, edgecolor=INK, linewidth=1))
    cells.draw(small)
    small.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=INK, linewidth=2.2))
    frame(small, height, width, f"Front {shown} of a picture of {height}×{width}")
    small.set_xlabel("framed: what the pixel with the thick frame looks at")
    photograph = Fronts(426, 640)
    sizes = [last - first for first, last in map(photograph.rows, range(len(photograph)))]
    large.fill_between(range(0, len(sizes), 9), sizes[::9], color=TRAIN, alpha=0.6, linewidth=0)
    large.axhline(1, color=VALIDATION, linewidth=1.5)
    large.text(len(sizes) / 2, 4, "one at a time", ha="center", va="bottom", fontsize=8.5)
    large.set(xlabel="step", ylabel="pixels at a time", xlim=(0, len(sizes)), ylim=(0, 190))
    large.set_title(
        f"640×426 pixels: {len(sizes):,} steps\nof {np.mean(sizes):.0f} pixels on average, not {426 * 640:,} of one",
        loc="left",
    )
    return figure


FIGURES = {
    "masks.svg": mask_figure,
    "fields.svg": field_figure,
    "walk.svg": walk_figure,
    "exact.svg": exact_figure,
    "wavefront.svg": wavefront_figure,
}


def main(folder: Path) -> None:
    """Write every picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        buffer = io.StringIO()
        with mpl.rc_context(STYLE):
            figure = draw()
            FigureCanvasSVG(figure)
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        (folder / name).write_text(themed(buffer.getvalue()), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
