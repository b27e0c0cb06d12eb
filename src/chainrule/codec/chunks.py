"""Events to chunks and back: the parallel pass encodes, the cached walk decodes; and whole arrays in memory."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule import sampling
from chainrule.codec.coder import Decoder, encode
from chainrule.codec.container import Chunk, Header, Reader, Writer
from chainrule.codec.embedding import model_bytes, model_from
from chainrule.codec.members import Array, Member
from chainrule.codec.sources import array_blocks, array_member
from chainrule.errors import CodecError
from chainrule.evaluation import log_probs
from chainrule.fixedpoint import ARITHMETIC_VERSION, TOTAL_BITS, exact, fingerprint, frequencies, order_of, probe
from chainrule.models import AutoregressiveModel

CHUNK = 2000
"""Images that are coded together, if their tables fit the memory below."""

TABLE_BYTES = 2**28
"""Memory for the frequencies of a chunk while it is encoded."""


def chunk_events(model: AutoregressiveModel, asked: int | None = None) -> int:
    """How many events go into a chunk: what was asked for, or as many as fit the memory."""
    if asked is not None and asked < 1:
        raise CodecError(f"chunks of {asked} images hold nothing: use at least 1")
    entries = len(sites := model.sites()) * max(site.levels for site in sites)
    return max(1, min(asked or CHUNK, CHUNK, TABLE_BYTES // (4 * entries)))


def make_header(model: AutoregressiveModel, members: list[Member], embedded: bool) -> Header:
    """The header of an archive by an exact model."""
    count, known = sum(member.count for member in members), (fingerprint(model).hex(), probe(model).hex())
    name, shape = type(model).__name__, list(model.shape)
    return Header(ARITHMETIC_VERSION, *known, name, shape, model.levels, count, members, embedded)


def model_for(
    reader: Reader,
    model: AutoregressiveModel | None,
    place: Callable[[AutoregressiveModel], AutoregressiveModel] | None = None,
) -> AutoregressiveModel:
    """The exact model that decodes an archive: the one given, or the one inside; `place` moves it to a device.

    Raises:
        CodecError: it is another model, there is none, or its arithmetic is not what it was when the archive was made.
    """
    header = reader.header
    if header.arithmetic != ARITHMETIC_VERSION:
        raise CodecError(
            f"the archive was made with exact arithmetic {header.arithmetic}, this program has {ARITHMETIC_VERSION}: "
            f"use the version of chainrule that made it"
        )
    if model is None:
        if reader.model is None:
            raise CodecError(f"the archive holds no model: give the {header.model} that it was made with")
        model = model_from(*reader.model, header)
    twin = exact(model)
    same = (list(twin.shape), twin.levels) == (header.shape, header.levels)
    if not same or fingerprint(twin).hex() != header.fingerprint:
        raise CodecError(
            f"the archive was made with another model (a {header.model}, fingerprint {header.fingerprint[:12]}): "
            f"give that one"
        )
    twin = twin if place is None else place(twin)
    if probe(twin).hex() != header.probe:
        raise CodecError("this machine's arithmetic gives other probabilities than the one that made the archive: stop")
    return twin


def digest_of(x: Tensor, levels: int) -> bytes:
    """SHA-256 of events: their levels in memory order, one byte each, or two, little-endian, beyond 256 levels."""
    return hashlib.sha256(x.cpu().numpy().astype("u1" if levels <= 256 else "<u2").tobytes()).digest()


def likeliest_labels(model: Any, x: Tensor) -> Tensor:
    """For a model that is conditioned on labels: the label under which each event is shortest, int64 (N,) on the CPU.

    Nobody need know the labels of what is to be compressed; they are coded in front of the events.
    """
    labels = [torch.full((len(x),), label) for label in range(model.classes)]
    return torch.stack([log_probs(model, x, given) for given in labels]).argmax(0)


def label_frequencies(model: Any) -> Tensor:
    """All labels alike: integers (1, classes) with sum 2^22, the first takes what is left over."""
    frequency = torch.full((1, model.classes), (1 << TOTAL_BITS) // model.classes)
    frequency[0, 0] += (1 << TOTAL_BITS) - int(frequency.sum())
    return frequency


def encode_chunk(model: AutoregressiveModel, x: Tensor) -> tuple[int, bytes, bytes]:
    """Events (N, *shape) of an exact model → (N, SHA-256 of them, payload)."""
    x = model.checked(x)
    parts, start, labels = [], 0, None
    if model.needs_context:
        labels = likeliest_labels(model, x)
        parts.append((labels, label_frequencies(model).expand(len(x), -1)))
    table = frequencies(model, x, labels)
    symbols = model.with_auxiliaries(x).cpu().flatten(1)[:, order_of(model)].T
    for levels, sites in itertools.groupby(model.sites(), key=lambda site: site.levels):
        end = start + len(list(sites))
        parts.append((symbols[start:end].reshape(-1), table[start:end, :, :levels].reshape(-1, levels)))
        start = end
    return len(x), digest_of(x, model.levels), encode(parts)


def decode_chunk(model: AutoregressiveModel, chunk: Chunk) -> Tensor:
    """The events of a chunk, int64 (N, *shape), on the CPU.

    Raises:
        CodecError: they are not those that were encoded, or more than a writer puts into a chunk.
    """
    if chunk.count > chunk_events(model):
        raise CodecError("the archive is damaged: a chunk claims more images than any has")
    decoder, labels = Decoder(chunk.payload), None
    if model.needs_context:
        pmf = label_frequencies(model).double().mul(2.0**-TOTAL_BITS)
        labels = decoder.decode(pmf.repeat(chunk.count, 1)).to(model.device)
    x = sampling.walk(model, chunk.count, decoder, context=labels).cpu()
    decoder.finish()
    if digest_of(x, model.levels) != chunk.digest:
        raise CodecError("the archive is damaged: a chunk's images are not those that were encoded")
    return x


def in_chunks(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Arrays along their first axis, joined and cut anew into pieces of `size` (the last may be shorter)."""
    waiting: list[np.ndarray] = []
    held = 0
    for block in blocks:
        while held + len(block) >= size:
            part, block = block[: size - held], block[size - held :]
            yield np.concatenate([*waiting, part])
            waiting, held = [], 0
        if len(block):
            waiting.append(block)
            held += len(block)
    if held:
        yield np.concatenate(waiting)


def compress(model: AutoregressiveModel, images: Any, *, embed_model: bool = False, chunk: int | None = None) -> bytes:
    """Compress images, losslessly, into a `.crz` archive.

    Args:
        model: any model with an exact twin; a float model is made exact first.
        images: integers (N, H, W, C), or (N, H, W) for one channel; for other events (N, *shape). They hold levels, or
            8-bit pixels on the levels' grid, v · 255 // (levels - 1), or the model's `pixel_values`.
        embed_model: put the model in, so that the archive explains itself.
        chunk: images that are coded together, at most 2,000.

    Raises:
        DataError: the images do not fit the model, or hold values that it has no level for; nothing is ever rounded.
        ModelError: the model has no exact twin.

    Example:
        >>> import chainrule as cr, numpy as np
        >>> images = np.random.default_rng(0).integers(0, 4, (10, 5, 5, 1), dtype=np.uint8)
        >>> model = cr.PixelCNN((1, 5, 5), 4, filters=8, blocks=1)
        >>> bool((decompress(model, compress(model, images)) == images).all())
        True
    """
    twin = exact(model)
    array = np.asarray(images.cpu() if isinstance(images, Tensor) else images)
    member = array_member(array, twin)
    size = chunk_events(twin, chunk)
    stream = io.BytesIO()
    writer = Writer(stream, make_header(twin, [member], embed_model), model_bytes(twin) if embed_model else None)
    for block in in_chunks(array_blocks(array, member, twin, size), size):
        writer.chunk(*encode_chunk(twin, torch.from_numpy(block)))
    writer.end()
    return stream.getvalue()


def decompress(model: AutoregressiveModel | None, blob: bytes) -> np.ndarray:
    """The array that `compress` was given, of the same shape and type.

    Args:
        model: the one that compressed, float or exact; None for an archive that holds its model.
        blob: an archive of one array. What holds files is for `decompress_file`.

    Raises:
        CodecError: the archive is damaged, of another model or version; no array is returned then.
    """
    reader = Reader(io.BytesIO(bytes(blob)))
    (member,) = reader.header.members if len(reader.header.members) == 1 else [None]
    if not isinstance(member, Array):
        raise CodecError("the archive holds files, not one array: use decompress_file")
    twin = model_for(reader, model)
    parts = [member.restored(np.zeros((0, *twin.shape), np.int64), twin.levels)]
    while (chunk := reader.next()) is not None:
        parts.append(member.restored(decode_chunk(twin, chunk).numpy(), twin.levels))
    return np.concatenate(parts).astype(member.dtype, copy=False)  # which would lose the order of bytes
