"""What the pictures show: the right way round, thinned without losing extremes, in the page's colours."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ElementTree

import numpy as np

from chainrule.lab.report import plots, words
from chainrule.lab.report.ink import THEME, tiles


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
    assert (np.diff(x) > 0).all()


def test_the_running_mean_of_a_constant_is_that_constant() -> None:
    for steps in (1, 2, 7, 60, 5000):
        x, y = plots.smoothed(np.arange(steps), np.full(steps, 1.5))
        assert np.allclose(y, 1.5)
        assert (x[0], x[-1]) == (0, steps - 1)


def test_figures_follow_the_readers_theme_and_are_small() -> None:
    steps = np.arange(1.0, 50_001)
    text = svg(plots.curves((steps, 1 / steps), (steps[::500], 1 / steps[::500]), "bits", entropy=0.1))
    assert "prefers-color-scheme:dark" in text
    for name, (light, _) in THEME.items():
        assert text.count(light) == 1, name  # in the table of colours alone
    assert len(text) < 200_000


def test_figures_of_nothing_are_drawn() -> None:
    nothing = (np.zeros(0), np.zeros(0))
    svg(plots.curves(nothing, nothing, "bits"))
    svg(plots.receptive_field(np.zeros((4, 4)), 2, 2))
    svg(plots.pair_pictures(np.zeros((3, 3)), None, None))


def test_a_grid_scales_levels_to_bytes_and_keeps_colours() -> None:
    images = np.zeros((5, 3, 2, 2), np.uint8)
    images[4, 1] = 2
    grid = tiles(images, levels=4, columns=2, gap=1)
    assert grid.shape == (8, 5, 3)
    assert grid[6, 0].tolist() == [0, 170, 0]
    assert grid[2, 0].tolist() == [128, 128, 128]


def test_a_receptive_field_is_described_as_it_is() -> None:
    full = np.zeros((5, 5))
    full[:2], full[2, :2] = 1e-3, 1.0
    assert "no blind spot" in words.receptive_sentence(full, 2, 2)
    assert "causal" in words.receptive_sentence(full, 2, 2)
    blind = full.copy()
    blind[1, 4] = 0
    assert "blind spot of" in words.receptive_sentence(blind, 2, 2)
    leaking = full.copy()
    leaking[3, 0] = 1e-9
    assert "causal" not in words.receptive_sentence(leaking, 2, 2)
    near = full.copy()
    near[0], near[:, 0], near[:, 4] = 0, 0, 0
    assert "no blind spot, and what stays empty is out of reach" in words.receptive_sentence(near, 2, 2)
    near[1, 3] = 0
    assert "this is the blind spot of" in words.receptive_sentence(near, 2, 2)
    assert words.blind_spot(full, 0, 2) == words.blind_spot(full, 2, 4) == ""
    assert words.receptive_sentence(np.zeros((5, 5)), 2, 2) == "No pixel influences this one."
