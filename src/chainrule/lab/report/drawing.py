"""How the report's pictures are drawn: vector figures that follow the reader's light or dark theme, and pixels.

A figure is drawn in a handful of named colours. In the finished SVG each becomes a CSS variable with a value for a
light and one for a dark page, so that one picture serves both (and paper). Everything ends as a data URI.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

# Named colours as (on light, on dark). Drawn in the first, which therefore must be unlike one another.
INK, MUTED, GRID = "#1f2328", "#59636e", "#dfe3e8"
TRAIN, VALIDATION, TRUTH = "#2f6fb2", "#c4501b", "#3c7d57"
THEME = {
    "ink": (INK, "#e6e8eb"),
    "muted": (MUTED, "#a3acb6"),
    "grid": (GRID, "#353c44"),
    "train": (TRAIN, "#74aee8"),
    "validation": (VALIDATION, "#f2935f"),
    "truth": (TRUTH, "#7fc59a"),
}
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],  # wider than what readers have, so labels that fit here fit there
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "chainrule",
    "path.simplify_threshold": 0.2,
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 9.5),
    **dict.fromkeys(("axes.linewidth", "grid.linewidth"), 0.7),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor"), "none"),
    **dict.fromkeys(("axes.titlecolor", "text.color", "legend.labelcolor"), INK),
    **dict.fromkeys(("axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
}


def drawn(draw: Callable[..., Figure]) -> Callable[..., str]:
    """Let a function that returns a figure return the data URI of its SVG, drawn in the report's style."""

    @wraps(draw)
    def uri(*args: Any, **kwargs: Any) -> str:
        buffer = io.StringIO()
        with mpl.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            FigureCanvasSVG(figure)
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        return data_uri(themed(buffer.getvalue()).encode(), "image/svg+xml")

    return uri


def themed(svg: str) -> str:
    """Replace the named colours by variables that follow the reader's theme, and the font by the reader's own."""
    svg = svg[svg.index("<svg") :]
    for name, (light, _) in THEME.items():
        svg = svg.replace(light, f"var(--{name})")
    svg = svg.replace("'DejaVu Sans'", FONTS)
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in THEME.items()) for i in (0, 1))
    rules = f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return re.sub(r"(<svg[^>]*>)", rf"\1<style>{rules}</style>", svg, count=1)


def open_frame(axes: Axes) -> None:
    """Take the grid off axes that hold a picture, and close their frame."""
    axes.grid(False)
    axes.spines[["top", "right"]].set_visible(True)


def tiles(images: np.ndarray, levels: int, columns: int, gap: int = 2) -> np.ndarray:
    """Images (N, C, H, W) of integers in a grid of `columns`, levels spread over 0…255, with gaps in mid-gray.

    Three channels are colours; of any other number the first is shown in gray. Returns bytes (H', W', 3).

    >>> tiles(np.array([[[[0]]], [[[3]]]]), levels=4, columns=2, gap=1)[0, :, 0].tolist()
    [0, 128, 255]
    """
    count, channels, height, width = images.shape
    colors = (images if channels == 3 else images[:, :1]).transpose(0, 2, 3, 1).astype(np.int64)
    rows = -(-count // columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 128, np.uint8)
    for i, image in enumerate(colors.clip(0, levels - 1) * 255 // (levels - 1)):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def png_uri(pixels: np.ndarray) -> str:
    """Bytes (H, W, 3) as the data URI of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return data_uri(buffer.getvalue(), "image/png")


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as a data URI.

    >>> data_uri(b"hi", "text/plain")
    'data:text/plain;base64,aGk='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
