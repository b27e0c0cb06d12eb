"""A walk's inner part as data: operations on the memory of one image, in the form of walk/program.h."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

NORM, ACTIVATE, PRODUCT, WIDE_PRODUCT, ADD = range(5)
"""Kinds of operations."""

LANES, WIDE_LANES = 16, 8
"""Outputs in a panel of a product's weights, in float32 and in float64."""

MOST_TAPS = 128
"""Pixels that a masked kernel reaches, at most."""

Integer, Real, Address = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class WindowRecord(ctypes.Structure):
    _fields_ = [(name, Integer) for name in ("rows", "stride", "channels", "taps")]


class OperationRecord(ctypes.Structure):
    _fields_ = [
        *((name, Integer) for name in ("kind", "source", "target", "inputs", "outputs")),
        ("from_window", WindowRecord),
        ("to_window", WindowRecord),
        *((name, Integer) for name in ("whole", "positive")),
        *((name, Real) for name in ("scale", "low", "high", "constant")),
        *((name, Address) for name in ("weight", "bias")),
    ]


class ProgramRecord(ctypes.Structure):
    _fields_ = [
        ("count", Integer),
        ("operations", Address),
        *((name, Integer) for name in ("memory", "scratch", "head", "input")),
        ("seen", WindowRecord),
        ("width", Integer),
        ("encoding", Address),
        *((name, Integer) for name in ("height", "columns", "channels", "levels")),
        *((name, Integer) for name in ("made", "exact", "features", "inputs", "units")),
        *((name, Address) for name in ("weight", "bias", "ends", "table", "out_weight", "out_bias")),
        *((name, Real) for name in ("out_scale", "out_low", "out_high")),
        ("exponentials", Address),
        ("entries", Integer),
    ]


@dataclass(frozen=True)
class Window:
    """Where an image's memory holds the rows of a layer's values that a masked kernel still reaches."""

    place: int
    rows: int
    stride: int
    channels: int
    taps: int

    @property
    def record(self) -> WindowRecord:
        return WindowRecord(self.rows, self.stride, self.channels, self.taps)


class Program:
    """The operations of one step of a walk, added layer by layer; then `images` and a head.

    Weights are copied: a program is a picture of the model as it was. Layers of an exact model carry the grid of their
    input (`layer.inputs`, with `bits`, `low` and `high`); layers of a float model have none.

    Args:
        shape: (C, H, W).
        levels: of every channel.
    """

    def __init__(self, shape: Sequence[int], levels: int) -> None:
        self.shape, self.levels = tuple(shape), levels
        self.operations: list[OperationRecord] = []
        self.kept: list[np.ndarray] = []
        self.record = ProgramRecord(channels=shape[0], height=shape[1], columns=shape[2], levels=levels)
        self.memory = self.scratch = self.most = 0

    # -------------------------------------------------------------------------------------------------------- memory

    def vector(self, length: int) -> int:
        """Room for a vector in an image's scratch memory, with space to the next multiple of 16."""
        place, self.scratch = self.scratch, self.scratch + _rounded(length)
        self.most = max(self.most, self.scratch)
        return place

    @contextmanager
    def passing(self) -> Iterator[None]:
        """What is made room for in the block is not needed after it."""
        before = self.scratch
        yield
        self.scratch = before

    def window(self, kernel: int, taps: int, channels: int) -> Window:
        """Room in an image's memory for what a masked kernel of side `kernel` sees; `taps` of its last row count."""
        radius = kernel // 2
        if radius * kernel + taps > MOST_TAPS:
            raise ValueError(f"a kernel of side {kernel} has more taps than compiled code has room for: {MOST_TAPS}")
        stride = (self.shape[2] + 2 * radius) * channels
        place, self.memory = self.memory, self.memory + _rounded((radius + 1) * stride)
        return Window(place, radius + 1, stride, channels, taps)

    # ---------------------------------------------------------------------------------------------------- operations

    def norm(self, layer: Any, source: int, target: int) -> None:
        """`target = layer(source)`, a layer norm."""
        n, grid = layer.normalized_shape[0], getattr(layer, "inputs", None)
        unit = 1.0 if grid is None else 4.0**grid.bits
        self._add(
            NORM,
            source,
            target,
            inputs=n,
            constant=layer.eps * n * n * unit,
            weight=self._floats(layer.weight),
            bias=self._floats(layer.bias),
            **_grid(grid),
        )

    def activate(self, layer: Any, source: int, target: int | Window, length: int) -> None:
        """`target = relu(source)`, put on the grid of the layer that reads it."""
        self._add(ACTIVATE, source, target, inputs=length, positive=1, **_grid(getattr(layer, "inputs", None)))

    def product(self, weight: Tensor, bias: Tensor, source: int | Window, target: int) -> None:
        """`target = weight · source + bias`, with weight (O, I); in float64 if the weight is."""
        wide = weight.dtype == torch.float64
        outputs = _rounded(len(weight))
        matrix = weight.new_zeros(outputs, weight.shape[1])
        matrix[: len(weight)] = weight.detach()
        shift = weight.new_zeros(outputs)
        shift[: len(weight)] = bias.detach()
        self._add(
            WIDE_PRODUCT if wide else PRODUCT,
            source,
            target,
            inputs=weight.shape[1],
            outputs=outputs,
            weight=self._keep(_panels(matrix, 8 if wide else LANES)),
            bias=self._keep(shift.numpy()),
        )

    def add(self, source: int, target: int, length: int) -> None:
        """`target += source`."""
        self._add(ADD, source, target, inputs=length)

    # --------------------------------------------------------------------------------------------------------- ends

    def images(self, seen: Window, encoding: Tensor) -> None:
        """How a known pixel enters: each channel as a row of `encoding` (levels, width), side by side, into `seen`."""
        self.record.input, self.record.seen = seen.place, seen.record
        self.record.width, self.record.encoding = encoding.shape[1], self._floats(encoding)

    def logits(self, logits: int, count: int) -> None:
        """The head of channels that are independent: all their logits lie at `logits`."""
        self.record.features, self.record.units = logits, -(-count // 8) * 8

    def made(
        self, weight: Tensor, bias: Tensor, source: int, *, ends: Sequence[int], table: Tensor, output: Any, grid: Any
    ) -> None:
        """The head of channels that are tied by a MADE of one hidden layer.

        Args:
            weight, bias: (units, features) and (units,): the hidden units' sums before any channel is known.
            ends: how many hidden units each channel's logits see.
            table: (C, levels, units), what a channel's value adds to the sums.
            output: the layer to the logits, with `weight` (C · levels, units) and `bias`.
            grid: of that layer's input.
        """
        units = self._head(weight, bias, source)
        self.record.made = 1
        self.record.ends = self._keep(np.array(ends, np.int64))
        self.record.table = self._keep(_padded(table, units))
        self.record.out_weight = self._keep(_padded(output.weight, units))
        self.record.out_bias = self._keep(output.bias.detach().double().numpy().copy())
        if grid is not None:
            self.record.out_scale, self.record.out_low, self.record.out_high = 2.0**grid.bits, grid.low, grid.high

    def finish(self, exponentials: Tensor | None) -> Program:
        """The program is complete; `exponentials` is the table of exact mode's softmax."""
        array = (OperationRecord * len(self.operations))(*self.operations)
        self.array = array
        record = self.record
        record.count, record.operations = len(array), ctypes.addressof(array)
        record.memory, record.scratch = self.memory, self.most
        record.head = _rounded(2 * record.units + 2 * self.levels)
        if exponentials is not None:
            record.exact, record.entries = 1, len(exponentials)
            record.exponentials = self._keep(exponentials.numpy().astype(np.int64))
        return self

    @property
    def address(self) -> int:
        return ctypes.addressof(self.record)

    # ------------------------------------------------------------------------------------------------------- private

    def _head(self, weight: Tensor, bias: Tensor, source: int) -> int:
        units = -(-len(weight) // 8) * 8
        record = self.record
        record.units = units
        if weight.dtype == torch.float64:  # sums that float32 cannot hold
            matrix = weight.new_zeros(units, weight.shape[1])
            matrix[: len(weight)] = weight
            record.features, record.inputs = source, weight.shape[1]
            record.weight = self._keep(_panels(matrix, 8))
            record.bias = self._keep(_padded(bias, units))
        else:
            record.features = self.vector(units)
            self.product(weight, bias, source, record.features)
        return units

    def _add(self, kind: int, source: int | Window, target: int | Window, **fields: Any) -> None:
        operation = OperationRecord(kind=kind, **fields)
        for name, place in (("source", source), ("target", target)):
            if isinstance(place, Window):
                setattr(operation, {"source": "from_window", "target": "to_window"}[name], place.record)
            setattr(operation, name, place.place if isinstance(place, Window) else place)
        self.operations.append(operation)

    def _keep(self, array: np.ndarray) -> int:
        """The address of an array that lives as long as the program."""
        array = np.ascontiguousarray(array)
        self.kept.append(array)
        return array.ctypes.data

    def _floats(self, tensor: Tensor) -> int:
        return self._keep(tensor.detach().float().numpy().copy())


def _rounded(length: int) -> int:
    return -(-length // LANES) * LANES


def _grid(grid: Any) -> dict[str, Any]:
    return {} if grid is None else {"whole": 1, "scale": 2.0**grid.bits, "low": grid.low, "high": grid.high}


def _panels(matrix: Tensor, lanes: int) -> np.ndarray:
    """(O, I) → (O / lanes, I, lanes): for some outputs after the other, a vector for each input."""
    return matrix.unflatten(0, (-1, lanes)).transpose(1, 2).contiguous().numpy()


def _padded(tensor: Tensor, units: int) -> np.ndarray:
    """Float64, with zeros up to `units` in the last dimension."""
    array = np.zeros((*tensor.shape[:-1], units))
    array[..., : tensor.shape[-1]] = tensor.detach().double().numpy()
    return array
