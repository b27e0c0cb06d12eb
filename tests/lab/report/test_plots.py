"""What the pictures show: the right way round, thinned without losing extremes, in the page's colours."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from chainrule.lab.report import plots
from chainrule.lab.report.drawing import THEME, tiles
from chainrule.lab.report.readers import Run


def svg(uri: str) -> str:
    kind, content = uri.split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    text = base64.b64decode(content).decode()
    ElementTree.fromstring(text)
    return text


def test_x1_counts_rows_of_a_histogram_of_pairs() -> None:
    counts = plots.counts_of_pairs(np.array([[0, 2], [0, 2], [1, 0]]), levels=3)
    assert counts.tolist() == [[0, 0, 2], [1, 0, 0], [0, 0, 0]]


def test_a_long_curve_is_thinned_but_keeps_its_extremes() -> None:
    y = np.random.default_rng(0).normal(size=100_000)
    x, kept = plots.thinned(np.arange(len(y)), y)
    assert len(x) <= plots.MOST_POINTS
    assert (kept.min(), kept.max()) == (y.min(), y.max())
    assert (np.diff(x) >= 0).all()


def test_the_mean_of_stretches_keeps_straight_lines() -> None:
    for steps in (0, 1, 2, 7, 60, 5000):
        x, y = plots.smoothed(np.arange(steps), 1.5 - 0.5 * np.arange(steps))
        assert np.allclose(y, 1.5 - 0.5 * x)
        assert len(x) == min(100, -(-steps // 4))


def test_figures_follow_the_readers_theme_and_are_small() -> None:
    steps = np.arange(1.0, 50_001)
    text = svg(
        plots.curves((steps, 1 / steps), (steps, 1 / steps), (steps[::500], 1 / steps[::500]), "bits", entropy=0.1)
    )
    assert "prefers-color-scheme:dark" in text
    for name, (light, _) in THEME.items():
        assert text.count(light) == 1, name  # in the table of colours alone
    assert len(text) < 200_000


def test_figures_of_nothing_are_drawn() -> None:
    nothing = (np.zeros(0), np.zeros(0))
    svg(plots.curves(nothing, nothing, nothing, "bits"))
    svg(plots.receptive_field(np.zeros((4, 4)), 2, 2))
    svg(plots.pair_pictures(np.zeros((3, 3)), None, None))


def test_a_grid_scales_levels_to_bytes_and_keeps_colours() -> None:
    images = np.zeros((5, 3, 2, 2), np.uint8)
    images[4, 1] = 2
    grid = tiles(images, levels=4, columns=2, gap=1)
    assert grid.shape == (8, 5, 3)
    assert grid[6, 0].tolist() == [0, 170, 0]
    assert grid[2, 0].tolist() == [128, 128, 128]


def test_a_heat_map_is_drawn_of_any_images_and_bits() -> None:
    for channels, bits in ((1, np.zeros((2, 3, 4))), (3, np.full((2, 3, 4), 5.0)), (2, np.ones((2, 3, 4)))):
        svg(plots.heat_map(np.zeros((2, channels, 3, 4), np.uint8), bits, levels=2))


def test_a_thinned_curve_keeps_its_means_and_its_extremes() -> None:
    lines = [
        {"step": 5, "train": 2.0, "least": 1.0, "most": 4.0},
        {"step": 9, "validation": 3.0},
        {"step": 9, "train": 1.5},
    ]
    run = Run(Path("run"), {}, lines, {}, {})
    assert [part.tolist() for part in run.curve] == [[5, 9], [2.0, 1.5]]
    assert [part.tolist() for part in run.extremes] == [[5, 5, 9, 9], [1.0, 4.0, 1.5, 1.5]]
    assert [part.tolist() for part in run.validation] == [[9], [3.0]]
