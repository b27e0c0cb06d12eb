"""Chunks of pictures: a table of what each picture is and which coder has it, then what the coders wrote."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from chainrule.codec import orienting, varints
from chainrule.codec.event_coding import Encoding, decode_events, most_together, too_large
from chainrule.codec.model_blocks import Packing, Unpacking, picture_mapping
from chainrule.codec.picture_coding import (
    BYTES,
    DAMAGED,
    DEFLATED,
    INTERLACED,
    MODEL,
    ROWS,
    Coded,
    content_of,
    decode,
    fallback,
    from_planes,
    of_raster,
    planes,
    takes,
    without_alpha,
)
from chainrule.codec.picture_files import ARRAY, GIF, PNG, PictureFile, file_of
from chainrule.codec.picture_table import MOST_SAMPLES, Batch, Record, pack_table, read_table
from chainrule.codec.raster import Raster
from chainrule.data.orientations import TRANSPOSED, laid, laid_back
from chainrule.errors import CodecError

Mapper = Callable[[Callable[..., Any], Iterable[Any]], Iterable[Any]]
"""Python's `map`, or that of a pool of threads."""


@dataclass
class Item:
    """A picture on its way into an archive: as read, its coder and payload once they are known, and their digest."""

    given: PictureFile
    coded: Coded | None
    digest: bytes
    words: int = -1  # the batch that it is in, if a model codes it

    @property
    def size(self) -> int:
        """What counts towards the size of a chunk."""
        raster = self.given.raster
        return raster.pixels * raster.channels if raster is not None else len(self.given.content)

    def record(self) -> Record:
        """Its row in the table."""
        assert self.coded is not None
        coder, payload = self.coded
        return Record(self.given.form, coder, len(self.given.content), self.given.raster, payload, self.words + 1)


def prepared(given: PictureFile, models: Sequence[Any]) -> Item:
    """A picture with its digest; already coded, with its samples freed, if none of the models could code it."""
    raster = given.raster
    digest = hashlib.sha256(given.content if raster is None else raster.samples).digest()
    if raster is not None and any(_planes(model, raster) is not None for model in models):
        return Item(given, None, digest)
    return _slim(given, fallback(given), digest)


def _slim(given: PictureFile, coded: Coded, digest: bytes) -> Item:
    """An item of which only what is written is kept."""
    if given.raster is None or coded[0] in (BYTES, DEFLATED):
        return Item(PictureFile(given.content), coded, hashlib.sha256(given.content).digest())
    return Item(PictureFile(b"", replace(given.raster, samples=None, stream=None), given.form), coded, digest)


def _planes(model: Any, raster: Raster) -> np.ndarray | None:
    """What a model codes of a picture, levels (C, H, W); None if it cannot."""
    shape = model.shape
    if len(shape) != 3 or any(
        a not in (None, b) for a, b in zip(shape[1:], (raster.height, raster.width), strict=True)
    ):
        return None
    if not takes(raster, shape[0]):
        return None
    if too_large(model.sized(raster.height, raster.width)):
        return None
    return planes(raster, shape[0], model.levels, picture_mapping(model))


def in_chunks(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Items in lists of what a chunk may hold."""
    held: list[Item] = []
    size = 0
    for item in items:
        if held and (len(held) == most or size + item.size > MOST_SAMPLES):
            yield held
            held, size = [], 0
        held.append(item)
        size += item.size
    if held:
        yield held


def encode_pictures(items: list[Item], packing: Packing, mapper: Mapper = map) -> tuple[int, bytes, bytes]:
    """Pictures → (their count, SHA-256 of the table and of the digests, payload)."""
    batches: list[Batch] = []
    for place in range(len(packing.models)):
        _by_model(items, packing, place, batches, mapper)
    missing = [i for i, item in enumerate(items) if item.coded is None]
    for i, coded in zip(missing, mapper(fallback, [items[i].given for i in missing]), strict=True):
        items[i] = _slim(items[i].given, coded, items[i].digest)
    table = pack_table([item.record() for item in items])
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    stored = packer.compress(table) + packer.flush()
    parts = [varints.pack([len(stored)]), stored]
    parts += [item.coded[1] for item in items if item.coded]
    parts += [batch.packed() for batch in batches]
    digest = hashlib.sha256(table + b"".join(item.digest for item in items)).digest()
    return len(items), digest, b"".join(parts)


def _by_model(items: list[Item], packing: Packing, place: int, batches: list[Batch], mapper: Mapper) -> None:
    """Let a model code those of the pictures without a coder that it makes smaller; pictures of one size together.

    One of the usual models must save more than its entry in the archive costs.
    """
    model, saved, trial = packing.models[place], 0.0, []
    unsure: list[int] = []  # no other coder was tried, which might take less than deflate
    sizes: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = {}
    for i, item in enumerate(items):
        if item.coded is None and item.given.raster is not None:
            x = _planes(model, item.given.raster)
            if x is not None:
                sizes.setdefault(x.shape[1:], []).append((i, x))
    for size, found in sizes.items():
        step = most_together(model, *size)
        for start in range(0, len(found), step):
            part = found[start : start + step]
            events = torch.from_numpy(np.stack([x for _, x in part]))
            orientation = orienting.best(model, events)
            events = laid(events, orientation)
            encoding = Encoding(model.sized(*events.shape[2:]), events)
            alphas = [_alpha(items[i], model) for i, _ in part]
            costs = [bits / 8 + len(alpha) for bits, alpha in zip(encoding.bits().tolist(), alphas, strict=True)]
            rivals = [i for (i, _), cost in zip(part, costs, strict=True) if cost > _floor(items[i])]
            others = dict(zip(rivals, mapper(fallback, [items[i].given for i in rivals]), strict=True))
            chosen = [i not in others or cost + 1 < len(others[i][1]) for (i, _), cost in zip(part, costs, strict=True)]
            words = encoding.words(torch.tensor(chosen)) if any(chosen) else b""
            taken = [(i, alpha) for (i, _), alpha, fine in zip(part, alphas, chosen, strict=True) if fine]
            known = sum(len(others[i][1]) for i, _ in taken if i in others)
            batch = Batch(len(taken), orientation, words)
            cost = len(batch.packed()) + sum(len(alpha) for _, alpha in taken)
            if all(i in others for i, _ in taken) and cost >= known:
                taken = []
            if taken:
                trial.append((taken, batch))
                unsure += (without := [i for i, _ in taken if i not in others])
                saved += known + sum(_floor(items[i]) for i in without) - cost
            hopeful = {i for i, _ in taken}
            for i, coded in others.items():
                if i not in hopeful:
                    items[i] = _slim(items[i].given, coded, items[i].digest)
    if saved <= packing.price(place):
        rest = dict(zip(unsure, mapper(fallback, [items[i].given for i in unsure]), strict=True))
        if saved + sum(len(coded[1]) - _floor(items[i]) for i, coded in rest.items()) <= packing.price(place):
            for i, coded in rest.items():
                items[i] = _slim(items[i].given, coded, items[i].digest)
            return
    number = packing.number(place)
    for taken, batch in trial:
        for i, alpha in taken:
            items[i].coded, items[i].words = (MODEL + number, alpha), len(batches)
        batches.append(batch)


def _alpha(item: Item, model: Any) -> bytes:
    """The coder and payload of the alpha plane that a model leaves; nothing if it leaves none."""
    assert item.given.raster is not None
    alpha = without_alpha(item.given.raster, model.shape[0])
    if alpha is None:
        return b""
    coder, payload = of_raster(alpha)
    return bytes([coder]) + payload


def _floor(item: Item) -> float:
    """A size so small that no other coder needs to be tried."""
    raster = item.given.raster
    assert raster is not None
    stream = raster.stream if raster.stream is not None else zlib.compress(raster.samples, 1)
    return len(stream) / 2


@dataclass
class Unpacked:
    """A picture that has come out of an archive."""

    record: Record
    raster: Raster | None
    content: bytes

    def array(self) -> np.ndarray:
        """Its samples, (H, W, C), or (H, W) where it came so."""
        assert self.raster is not None
        return self.raster.samples[..., 0] if self.flat else self.raster.samples

    @property
    def flat(self) -> bool:
        """Whether it came without an axis of channels."""
        return self.record.form == ARRAY and self.raster is not None and self.raster.channels == 1

    def file(self) -> bytes:
        """Its file."""
        if self.raster is None:
            return self.content
        stream = self.record.payload if self.record.coder in (ROWS, INTERLACED) else None
        if self.record.form not in range(PNG, GIF + 1):
            return file_of(self.raster, PNG, stream, self.record.coder == INTERLACED)
        return file_of(self.raster, self.record.form, stream, self.record.coder == INTERLACED)


def decode_pictures(
    payload: bytes, count: int, digest: bytes, models: Unpacking, mapper: Mapper = map
) -> list[Unpacked]:
    """The pictures of a chunk, found to be those that were packed.

    Raises:
        CodecError: they are not.
    """
    records, table, batches = read_table(payload, count)
    planes_of = _decode_batches(records, batches, models)
    found = list(mapper(lambda i: _decode(records[i], planes_of.get(i), models), range(count)))
    if hashlib.sha256(table + b"".join(digest for _, digest in found)).digest() != digest:
        raise CodecError("the archive is damaged: a chunk's pictures are not those that were encoded")
    return [picture for picture, _ in found]


def _decode_batches(records: list[Record], batches: list[Batch], models: Unpacking) -> dict[int, np.ndarray]:
    """Levels (C, H, W) of the pictures that models code, by their number."""
    found: dict[int, np.ndarray] = {}
    for number, batch in enumerate(batches, 1):
        members = [i for i, record in enumerate(records) if record.batch == number]
        kinds = {(r.coder, r.raster.height, r.raster.width) for r in (records[i] for i in members) if r.raster}
        if len(kinds) != 1:
            raise CodecError(DAMAGED)
        ((coder, height, width),) = kinds
        model = models[coder - MODEL]
        size = (width, height) if batch.orientation & TRANSPOSED else (height, width)
        fits = len(model.shape) == 3 and model.shape[1:] in ((None, None), size) and model.levels <= 256
        if not fits or not all(r.raster and takes(r.raster, model.shape[0]) for r in (records[i] for i in members)):
            raise CodecError(DAMAGED)
        x = decode_events(model.sized(*size), batch.words, batch.count)
        found |= dict(zip(members, laid_back(x, batch.orientation).numpy(), strict=True))
    return found


def _decode(record: Record, x: np.ndarray | None, models: Unpacking) -> tuple[Unpacked, bytes]:
    """One picture, and the SHA-256 of its samples or bytes."""
    if record.raster is None:
        content = content_of(record.coder, record.payload, record.size)
        return Unpacked(record, None, content), hashlib.sha256(content).digest()
    if x is None:
        raster = decode(record.raster, record.coder, record.payload)
    else:
        model = models[record.coder - MODEL]
        alpha = without_alpha(record.raster, model.shape[0])
        if alpha is not None:
            alpha = decode(alpha, record.payload[0] if record.payload else BYTES, record.payload[1:])
        elif record.payload:
            raise CodecError(DAMAGED)
        raster = from_planes(record.raster, x, picture_mapping(model), model.levels, alpha)
    return Unpacked(record, raster, b""), hashlib.sha256(raster.samples).digest()
