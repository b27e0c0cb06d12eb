"""A walk's inner part as data: operations on the memory of one image, in the form of walk/program.h."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.compiled.walk.layouts import grid_fields, padded, panels, room_of, rounded
from chainrule.compiled.walk.records import (
    ACTIVATE,
    ADD,
    ATTEND,
    GATE,
    LANES,
    LOGITS,
    MADE,
    MIXTURE,
    MOST_TAPS,
    NORM,
    PLACE,
    PRODUCT,
    RECALL,
    SPREAD,
    SQUARES,
    WIDE_PRODUCT,
    EntryRecord,
    OperationRecord,
    ProgramRecord,
    Window,
)
from chainrule.nn.fronts import LAG
from chainrule.nn.least_squares import LocalLeastSquares


class Program:
    """The operations of one step of a walk, added layer by layer; then how pixels enter, and a head.

    Weights are copied: a program is a picture of the model as it was. Layers of an exact model carry the grid of their
    input (`layer.inputs`, with `bits`, `low` and `high`); layers of a float model have none.

    Args:
        shape: (C, H, W).
        levels: of every channel.
        fronts: whether the walk goes by fronts, and not in raster order.
    """

    def __init__(self, shape: Sequence[int], levels: int, *, fronts: bool = False) -> None:
        self.shape, self.levels, self.fronts = tuple(shape), levels, fronts
        self.operations: list[OperationRecord] = []
        self.entries: list[EntryRecord] = []
        self.kept: list[np.ndarray] = []
        self.record = ProgramRecord(channels=shape[0], height=shape[1], columns=shape[2], levels=levels)
        self.record.fronts, self.record.predicted = int(fronts), -1
        self.memory = self.scratch = self.most = self.stage = 0

    # -------------------------------------------------------------------------------------------------------- memory

    def vector(self, length: int) -> int:
        """Room for a vector in an image's scratch memory, with space to the next multiple of 16."""
        place, self.scratch = self.scratch, self.scratch + rounded(length)
        self.most = max(self.most, self.scratch)
        return place

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Room that is made in the block is not needed after it."""
        before = self.scratch
        yield
        self.scratch = before

    @contextmanager
    def rows_stage(self) -> Iterator[None]:
        """What is added in the block runs at all pixels of a row before its first step, after the stages so far."""
        self.record.stages += 1
        self.stage = self.record.stages
        with self.passing():
            yield
        self.stage = 0

    def window(self, rows: int, reach: int, taps: int, channels: int) -> Window:
        """Room in an image's memory for what a kernel sees: `rows` with the pixel's own, of which `taps` count."""
        if (rows - 1) * (2 * reach + 1) + taps > MOST_TAPS:
            raise ValueError(f"a kernel of {rows} rows has more taps than compiled code has room for: {MOST_TAPS}")
        if self.fronts:
            stride = 1 << (LAG * (rows - 1) + reach).bit_length()
            place, self.memory = self.memory, self.memory + stride * channels
        else:
            stride = (self.shape[2] + 2 * reach) * channels
            place, self.memory = self.memory, self.memory + rounded(rows * stride)
        return Window(place, rows, reach, taps, channels, stride)

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
            **grid_fields(grid),
        )

    def activate(self, layer: Any, source: int, target: int | Window, length: int, *, positive: bool = True) -> None:
        """`target = relu(source)` (or `source`), put on the grid of the layer that reads it, if there is one."""
        grid = grid_fields(getattr(layer, "inputs", None))
        self._add(ACTIVATE, source, target, inputs=length, positive=int(positive), **grid)

    def product(self, weight: Tensor, bias: Tensor, source: int | Window, target: int) -> None:
        """`target = weight · source + bias`, with weight (O, I); in float64 if the weight is."""
        wide = weight.dtype == torch.float64
        outputs = rounded(len(weight))
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
            weight=self._keep(panels(matrix, 8 if wide else LANES)),
            bias=self._keep(shift.numpy()),
        )

    def add(self, source: int | Window, target: int, length: int) -> None:
        """`target += source`."""
        self._add(ADD, source, target, inputs=length)

    def gate(self, table: Tensor | None, source: int, target: int, length: int) -> None:
        """`target = tanh(a) · σ(b)` of the halves of `source`; by an exact gate's table, if there is one."""
        if table is None:
            self._add(GATE, source, target, inputs=length)
        else:
            most = len(table) // 2
            self._add(GATE, source, target, inputs=length, whole=1, high=most, weight=self._floats(table))

    def attend(self, source: int, width: int, heads: int, table: Tensor | None) -> None:
        """`source = attention(source)` of queries, keys and values side by side; exact by the table of exponentials."""
        pixels = self.shape[1] * self.shape[2]
        place, self.memory = self.memory, self.memory + rounded(2 * width * pixels)
        exact = {} if table is None else {"whole": 1, "high": len(table) - 1, "weight": self._floats(table)}
        scale = 1.0 / math.sqrt(width // heads)
        self._add(ATTEND, source, place, inputs=width, outputs=heads, constant=scale, **exact)

    def place(self, table: Tensor, target: int, *, first: bool = False) -> None:
        """`target += table[pixel]`, of (H · W, n) rows; with `first`, at the first pixel `target` is its row alone."""
        self._add(PLACE, target, target, inputs=table.shape[1], positive=int(first), weight=self._floats(table))

    def recall(self, seen: Window, target: int) -> None:
        """`target` is what entered `seen`, a window of two rows, at the pixel before, or zeros at the first."""
        self._add(RECALL, seen, target, inputs=seen.channels)

    def squares(self, layers: Sequence[LocalLeastSquares]) -> None:
        """The numbers of local least squares, by `NEAR` and perhaps `FAR`."""
        channels, record = self.shape[0], self.record
        record.predictions = sum(layer.predictions for layer in layers)
        slopes = len(layers) * channels * (channels - 1) // 2
        record.predicted = self.vector(record.predictions * channels + slopes)
        width = None if self.fronts else self.shape[2]
        record.squares = self.memory
        record.remembered = rounded(sum(room_of(layer.by, channels, width) for layer in layers))
        self.memory += record.remembered
        record.near = self._keep(layers[0].weights.numpy().astype(np.int64))
        self._add(SQUARES, 0, record.predicted)

    def spread(self, layer: Any) -> int:
        """Where the predictions' spread will lie, on the grid of the layer that reads it, if there is one."""
        record = self.record
        target = self.vector(layer.in_channels)
        grid = grid_fields(getattr(layer, "inputs", None))
        self._add(SPREAD, record.predicted, target, inputs=layer.in_channels, outputs=self.shape[0], **grid)
        return target

    # --------------------------------------------------------------------------------------------------------- ends

    def enter(self, seen: Window, encoding: Tensor) -> None:
        """How a known pixel enters: each channel as a row of `encoding` (levels, width), side by side, into `seen`."""
        self._enter(seen, width=encoding.shape[1], encoding=self._floats(encoding))

    def enter_residuals(self, seen: Window, offset: int, grid: Any, *, far: bool) -> None:
        """And as softened residuals of one kind of least squares, from `offset` on, on its reader's grid."""
        self._enter(seen, offset=offset, width=1, far=int(far), **grid_fields(grid))

    def logits(self, logits: int, count: int) -> None:
        """The head of channels that are independent: all their logits lie at `logits`."""
        self.record.head, self.record.features, self.record.units = LOGITS, logits, -(-count // 8) * 8
        self.record.room = 2 * self.record.units + 2 * self.levels

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
        self.record.head = MADE
        self.record.room = 2 * units + 2 * self.levels
        self.record.ends = self._keep(np.array(ends, np.int64))
        self.record.table = self._keep(padded(table, units))
        self.record.out_weight = self._keep(padded(output.weight, units))
        self.record.out_bias = self._keep(output.bias.detach().double().numpy().copy())
        if grid is not None:
            self.record.out_scale, self.record.out_low, self.record.out_high = 2.0**grid.bits, grid.low, grid.high

    def mixture(self, numbers: int, count: int, components: int, copies: int, unit: float, shift: float) -> None:
        """The head of channels that are tied by a mixture of logistics, whose numbers lie at `numbers`.

        Args:
            unit: of the means, in half-bins.
            shift: what is subtracted from the sharpness.
        """
        record, channels = self.record, self.shape[0]
        record.head, record.features, record.units = MIXTURE, numbers, -(-count // 8) * 8
        record.components, record.copies, record.unit, record.shift = components, copies, unit, shift
        pairs = channels * (channels - 1) // 2
        record.room = record.units + components * (3 + 2 * channels + pairs) + (4 + copies) * channels + 2 * pairs + 2

    def finish(self, exponentials: Tensor | None, sigmoids: Tensor | None = None) -> Program:
        """The program is complete; the tables are those of an exact model's softmax and mixture."""
        self.arrays = (
            (OperationRecord * len(self.operations))(*self.operations),
            (EntryRecord * len(self.entries))(*self.entries),
        )
        record = self.record
        record.count, record.operations = len(self.operations), ctypes.addressof(self.arrays[0])
        record.entered, record.entries = len(self.entries), ctypes.addressof(self.arrays[1])
        record.memory, record.scratch, record.room = self.memory, self.most, rounded(record.room)
        if exponentials is not None:
            record.exact, record.exponentials_count = 1, len(exponentials)
            record.exponentials = self._keep(exponentials.numpy().astype(np.int64))
        if sigmoids is not None:
            record.sigmoids = self._keep(sigmoids.numpy().astype(np.int64))
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
            record.weight = self._keep(panels(matrix, 8))
            record.bias = self._keep(padded(bias, units))
        else:
            record.features = self.vector(units)
            self.product(weight, bias, source, record.features)
        return units

    def _add(self, kind: int, source: int | Window, target: int | Window, **fields: Any) -> None:
        operation = OperationRecord(kind=kind, stage=self.stage, **fields)
        for name, place in (("source", source), ("target", target)):
            if isinstance(place, Window):
                setattr(operation, {"source": "from_window", "target": "to_window"}[name], place.record)
            setattr(operation, name, place.place if isinstance(place, Window) else place)
        self.operations.append(operation)

    def _enter(self, seen: Window, **fields: Any) -> None:
        self.entries.append(EntryRecord(place=seen.place, seen=seen.record, **fields))

    def _keep(self, array: np.ndarray) -> int:
        """The address of an array that lives as long as the program."""
        array = np.ascontiguousarray(array)
        self.kept.append(array)
        return array.ctypes.data

    def _floats(self, tensor: Tensor) -> int:
        return self._keep(tensor.detach().float().numpy().copy())
