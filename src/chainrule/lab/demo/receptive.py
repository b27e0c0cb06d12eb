"""Which pixels each pixel's conditional can depend on, read off a program: every operation, on sets of pixels."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from chainrule.compiled.walk import records
from chainrule.compiled.walk.program import Program
from chainrule.compiled.walk.records import EntryRecord, OperationRecord, WindowRecord
from chainrule.nn.least_squares import ALONE, PREDICTIONS
from chainrule.nn.surroundings import FAR, NEAR, Surroundings

Place = tuple[int, int, int]
"""Of a window, and of a pixel in it."""


class Sets:
    """A walk over one image in which a set of pixels, the bits of a number, stands for each vector."""

    def __init__(self, program: Program) -> None:
        self.program = program
        _, self.height, self.width = program.shape
        self.vectors: defaultdict[int, int] = defaultdict(int)
        self.windows: defaultdict[Place, int] = defaultdict(int)  # pixels beyond the border stay empty
        self.kept: defaultdict[int, int] = defaultdict(int)  # what attention looks back to
        self.samples: dict[tuple[Surroundings, int, int], int] = {}  # of local least squares, by row and cell

    def walk(self) -> list[int]:
        """For every pixel in raster order, those that its conditional can depend on."""
        operations, record, found = list(self.program.operations), self.program.record, []
        for row in range(self.height):
            for stage in range(1, record.stages + 1):
                for column in range(self.width):
                    for operation in operations:
                        if operation.stage == stage:
                            self.step(operation, row, column)
            for column in range(self.width):
                for operation in operations:
                    if not operation.stage:
                        self.step(operation, row, column)
                predicted = self.vectors[record.predicted] if record.predicted >= 0 else 0
                found.append(self.vectors[record.features] | predicted)
                for entry in self.program.entries:
                    self.enter(entry, row, column, predicted)
        return found

    def step(self, operation: OperationRecord, row: int, column: int) -> None:
        kind, source, target = operation.kind, operation.source, operation.target
        if kind == records.ATTEND:
            self.kept[target] |= self.vectors[source]
            self.vectors[source] = self.kept[target]
        elif kind == records.SQUARES:
            self.vectors[target] = self.around(row, column)
        elif kind == records.PLACE:
            if operation.positive and not row and not column:
                self.vectors[target] = 0
        elif kind == records.RECALL:
            before = divmod(row * self.width + column - 1, self.width)
            self.vectors[target] = self.windows[source, *before]
        else:
            if operation.from_window.rows == 0:
                found = self.vectors[source]
            elif kind in (records.PRODUCT, records.WIDE_PRODUCT):
                found = self.seen(source, operation.from_window, row, column)
            else:
                found = self.windows[source, row, column]
            if kind == records.ADD:
                found |= self.vectors[target]
            if operation.to_window.rows:
                self.windows[target, row, column] = found
            else:
                self.vectors[target] = found

    def seen(self, place: int, window: WindowRecord, row: int, column: int) -> int:
        """All that a kernel reads."""
        found = 0
        for up in range(window.rows):
            taps = 2 * window.reach + 1 if up else window.taps
            for tap in range(taps):
                found |= self.windows.get((place, row - up, column + tap - window.reach), 0)
        return found

    def around(self, row: int, column: int) -> int:
        """What local least squares read: the pixel's neighbours, and the samples with theirs."""
        found = 0
        for by in (NEAR, FAR)[: 1 + (self.program.record.predictions > PREDICTIONS)]:
            key = by, row, column // by.cell
            if key not in self.samples:
                self.samples[key] = self.sampled(*key)
            found |= self.samples[key]
            for up, right in ((0, -1), (-1, 0), *by.others, *(ALONE if by is NEAR else ())):
                found |= self.run(row + up, column + right, column + right + 1)
        return found

    def sampled(self, by: Surroundings, row: int, cell: int) -> int:
        """The samples for the pixels of a cell, and their neighbours, all of which lie inside the picture."""
        found = 0
        for up, weights in enumerate(reversed(by.weights().tolist())):
            cells = [cell - by.before + k for k, weight in enumerate(weights) if weight]
            if not cells or row - up < by.up:
                continue
            first, last = max(by.cell * cells[0], by.left), min(by.cell * (cells[-1] + 1), self.width - by.right)
            for down, right in ((0, 0), (0, -1), (-1, 0), *by.others):
                found |= self.run(row - up + down, first + right, last + right)
        return found

    def run(self, row: int, first: int, last: int) -> int:
        """Pixels of a row from one column to before another, as far as they lie in the picture."""
        first, last = max(first, 0), min(last, self.width)
        return ((1 << (last - first)) - 1) << (row * self.width + first) if row >= 0 and first < last else 0

    def enter(self, entry: EntryRecord, row: int, column: int, predicted: int) -> None:
        """A pixel is known; as a residual it depends on what predicted it."""
        found = 1 << (row * self.width + column)
        self.windows[entry.place, row, column] |= found if entry.encoding else found | predicted


def fields(program: Program) -> np.ndarray:
    """Booleans (pixels, pixels): in row i the pixels that pixel i's conditional can depend on, in raster order."""
    sets, pixels = Sets(program).walk(), program.shape[1] * program.shape[2]
    size = -(-pixels // 8)
    packed = np.frombuffer(b"".join(found.to_bytes(size, "little") for found in sets), np.uint8)
    return np.unpackbits(packed.reshape(pixels, size), axis=1, count=pixels, bitorder="little").astype(bool)
