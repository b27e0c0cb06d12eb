"""The table of a chunk of pictures: what each picture is, and which coder has it; columns, deflated together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.codec import varints
from chainrule.codec.picture_coding import BYTES, DAMAGED, DEFLATED, MODEL, MOST_DEFLATED
from chainrule.codec.picture_files import FILE, FORMS
from chainrule.codec.raster import Raster, beside_is_sound
from chainrule.data.orientations import ORIENTATIONS
from chainrule.errors import CodecError
from chainrule.unpacking import inflate

MOST_SAMPLES = 2**24
"""Samples and bytes of the pictures of a chunk; one picture may have more, if it is alone."""
MOST_TABLE = 2**27
"""Bytes of a table."""
NUMBERS = 7  # of a picture, beside its three bytes


@dataclass
class Record:
    """A row of the table: what a picture is, without its samples, and which coder has it."""

    form: int
    coder: int
    size: int  # of a file; 0 for pictures
    raster: Raster | None
    payload: bytes
    batch: int  # 0 if no model codes it


@dataclass(frozen=True)
class Batch:
    """Pictures that a model codes together: how many, how they are laid, and their words."""

    count: int
    orientation: int
    words: bytes

    def packed(self) -> bytes:
        """As it lies in a chunk."""
        return varints.pack([self.count, self.orientation, len(self.words)]) + self.words


def pack_table(records: Sequence[Record]) -> bytes:
    """Column after column."""
    rasters = [record.raster or Raster(0, 0, 0, 0) for record in records]
    beside = [(r.palette, r.transparency, r.beside) for r in rasters]
    columns = [
        bytes(record.form for record in records),
        bytes(r.color << 4 | r.depth for r in rasters),
        bytes(record.coder for record in records),
        varints.pack(r.width or record.size for r, record in zip(rasters, records, strict=True)),
        varints.pack(r.height for r in rasters),
        varints.pack(len(record.payload) for record in records),
        varints.pack(record.batch for record in records),
        *(varints.pack(len(parts[k]) for parts in beside) for k in range(3)),
        *(parts[k] for k in range(3) for parts in beside),
    ]
    return b"".join(columns)


def read_table(payload: bytes, count: int) -> tuple[list[Record], bytes, list[Batch]]:
    """The pictures of a chunk, undecoded; the table itself; and the batches that models code.

    Raises:
        CodecError: no writer writes it.
    """
    try:
        (length,), place = varints.take(payload, 1, 0)
        table = inflate(payload[place : place + length], MOST_TABLE, b"")
        place += length
        forms, colors, coders = (table[k * count : (k + 1) * count] for k in range(3))
        numbers, at = varints.take(table, NUMBERS * count, 3 * count)
        widths, heights, lengths, batch, *besides = (numbers[k * count : (k + 1) * count] for k in range(NUMBERS))
        parts: list[list[bytes]] = []
        for sizes in besides:
            ends = np.cumsum([at, *sizes]).tolist()
            parts.append([table[a:b] for a, b in itertools.pairwise(ends)])
            at = ends[-1]
        if at != len(table):
            raise ValueError
        records = []
        for i in range(count):
            raster = None
            if forms[i] not in FORMS:
                raise ValueError
            if coders[i] not in (BYTES, DEFLATED):
                color, depth = divmod(colors[i], 16)
                palette, keys, beside = (column[i] for column in parts)
                raster = Raster(widths[i], heights[i], depth, color, palette, keys, beside)
                if not raster.sound or not beside_is_sound(raster.beside) or forms[i] == FILE:
                    raise ValueError
            elif forms[i] != FILE or (coders[i] == DEFLATED and widths[i] > MOST_DEFLATED):
                raise ValueError
            if (coders[i] >= MODEL) != (batch[i] > 0):
                raise ValueError
            held = payload[place : place + lengths[i]]
            place += lengths[i]
            records.append(Record(forms[i], coders[i], widths[i] * (raster is None), raster, held, batch[i]))
        samples = sum(r.raster.pixels * r.raster.channels if r.raster else r.size for r in records)
        if count > 1 and samples > MOST_SAMPLES:
            raise ValueError
        batches = []
        for number in range(1, max(batch, default=0) + 1):
            (events, orientation, size), place = varints.take(payload, 3, place)
            batches.append(Batch(events, orientation, payload[place : place + size]))
            place += size
            if not events or events != batch.count(number) or orientation >= ORIENTATIONS:
                raise ValueError
        if place != len(payload):
            raise ValueError
    except (ValueError, IndexError, OverflowError):
        raise CodecError(DAMAGED) from None
    return records, table, batches
