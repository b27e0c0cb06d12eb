"""The records of programs, field by field as walk/program.h has them, and the numbers that both sides know."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

NORM, ACTIVATE, PRODUCT, WIDE_PRODUCT, ADD, GATE, SQUARES, SPREAD, ATTEND, PLACE, RECALL = range(11)
"""Kinds of operations."""

LOGITS, MADE, MIXTURE = range(3)
"""Kinds of heads."""

GROUP = 24
"""Images (or pixels of a front) that are taken together: each weight is used often, and all stays in the cache."""

LANES, WIDE_LANES = 16, 8
"""Outputs in a panel of a product's weights, in float32 and in float64."""

MOST_TAPS = 128
"""Pixels that a masked kernel reaches, at most."""

MOST_KEYS, MOST_DEPTH = 4096, 128
"""Pixels that attention looks back to, and channels of one of its heads, at most."""

SQUARES_RING, SQUARES_COLUMNS, SQUARES_WINDOWS, SQUARES_BLOCK, MOST_SQUARES_WEIGHTS = 17, 8, 2, 8, 96
"""Of local least squares by fronts: cells that a line remembers, sums of columns and of windows; of all: numbers that
products are rounded up to, and weights of a pixel. A line is `LAG` columns behind the one above: of cells of four
columns it must remember one for each row above, the one that a window leaves too, and each to the left, of eight
columns one for two rows."""

Integer, Real, Address = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class WindowRecord(ctypes.Structure):
    _fields_ = [(name, Integer) for name in ("rows", "reach", "taps", "channels", "stride")]


class OperationRecord(ctypes.Structure):
    _fields_ = [
        *((name, Integer) for name in ("kind", "stage", "source", "target", "inputs", "outputs")),
        ("from_window", WindowRecord),
        ("to_window", WindowRecord),
        *((name, Integer) for name in ("whole", "positive")),
        *((name, Real) for name in ("scale", "low", "high", "constant")),
        *((name, Address) for name in ("weight", "bias")),
    ]


class EntryRecord(ctypes.Structure):
    _fields_ = [
        ("place", Integer),
        ("seen", WindowRecord),
        *((name, Integer) for name in ("offset", "width", "far")),
        ("encoding", Address),
        ("whole", Integer),
        *((name, Real) for name in ("scale", "low", "high")),
    ]


class ProgramRecord(ctypes.Structure):
    _fields_ = [
        ("count", Integer),
        ("operations", Address),
        ("stages", Integer),
        ("entered", Integer),
        ("entries", Address),
        *((name, Integer) for name in ("fronts", "memory", "scratch", "room")),
        *((name, Integer) for name in ("height", "columns", "channels", "levels")),
        *((name, Integer) for name in ("head", "exact", "features", "inputs", "units")),
        *((name, Address) for name in ("weight", "bias", "ends", "table", "out_weight", "out_bias")),
        *((name, Real) for name in ("out_scale", "out_low", "out_high")),
        *((name, Integer) for name in ("components", "copies", "predicted", "predictions", "squares", "remembered")),
        ("near", Address),
        *((name, Real) for name in ("unit", "shift")),
        *((name, Address) for name in ("sigmoids", "exponentials")),
        ("exponentials_count", Integer),
    ]


@dataclass(frozen=True)
class Window:
    """Where an image's memory holds what a kernel still reaches of a layer's values."""

    place: int
    rows: int
    reach: int
    taps: int
    channels: int
    stride: int

    @property
    def record(self) -> WindowRecord:
        return WindowRecord(self.rows, self.reach, self.taps, self.channels, self.stride)
