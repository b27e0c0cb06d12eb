"""Events to words and back: an engine or a parallel pass gives the encoder its frequencies, the decoder walks."""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import Any

import torch
from torch import Tensor

from chainrule import sampling
from chainrule.codec.bands import WIDEST, bands, decode_bands, encode_bands
from chainrule.codec.coder import Decoder, edges_of, encode
from chainrule.errors import CodecError
from chainrule.evaluation import log_probs
from chainrule.fixedpoint import TOTAL_BITS, edges, order_of
from chainrule.models import AutoregressiveModel
from chainrule.models.front_walk import front_order

CHUNK = 2000
"""Events that are coded together, if their tables fit the memory below."""
TABLE_BYTES = 2**28
"""Memory for the frequencies of events while they are encoded."""
FRONT_PIXELS, FRONT_ROWS = 2**16, 2**12
"""Pixels and rows of pictures that are coded together by fronts: few keep all threads busy, many take memory."""


def most_events(model: AutoregressiveModel, asked: int | None = None) -> int:
    """How many events of a model of one size are coded together: what was asked for, or as many as fit the memory."""
    if asked is not None and asked < 1:
        raise CodecError(f"chunks of {asked} images hold nothing: use at least 1")
    if model.coded_by_fronts:
        _, height, width = model.shape
        return max(1, min(asked or CHUNK, CHUNK, FRONT_PIXELS // (height * width), FRONT_ROWS // height))
    return max(1, min(asked or CHUNK, CHUNK, TABLE_BYTES // table_bytes(model)))


def most_together(model: Any, height: int, width: int) -> int:
    """How many pictures of one size are coded together, whichever way they are laid."""
    ways = {(height, width), (width, height)} if model.any_size else {(height, width)}
    return min(most_events(sized) for sized in (model.sized(*way) for way in ways) if not too_large(sized))


def too_large(model: AutoregressiveModel) -> bool:
    """Whether a picture of a model of one size would take too much memory."""
    return model.shape[2] > WIDEST if model.coded_by_fronts else table_bytes(model) > TABLE_BYTES


def table_bytes(model: AutoregressiveModel) -> int:
    """Memory for the frequencies of one event in the order of its sites."""
    levels = model.levels if len(model.shape) == 3 and model.walk_shape == model.shape else 0
    return 4 * (model.dims * levels or len(sites := model.sites()) * max(site.levels for site in sites))


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


class Encoding:
    """Events (N, *shape) of an exact model and where they lie in their conditionals; any of them can be encoded.

    Of a picture of several bands, which is alone, only the words are kept.
    """

    def __init__(self, model: Any, x: Tensor) -> None:
        self.model = model
        self.whole = encode_bands(model, x) if model.coded_by_fronts and len(bands(model)) > 1 else None
        if self.whole is not None:
            return
        x = model.checked(x)
        self.labels = likeliest_labels(model, x) if model.needs_context else None
        self.edges = edges(model, x, self.labels, fronts=model.coded_by_fronts)
        order = front_order(*model.shape) if model.coded_by_fronts else order_of(model)
        self.symbols = model.with_auxiliaries(x).cpu().flatten(1)[:, order].T

    def bits(self) -> Tensor:
        """The information in each event, in bits, float64 (N,)."""
        if self.whole is not None:
            return torch.tensor([8.0 * len(self.whole)], dtype=torch.float64)
        found = TOTAL_BITS * len(self.edges) - self.edges[..., 1].double().log2().sum(0)
        return found if self.labels is None else found + math.log2(self.model.classes)

    def words(self, chosen: Tensor | None = None) -> bytes:
        """The words of all events, or of those chosen by a mask (N,)."""
        if self.whole is not None:
            return self.whole
        pick = slice(None) if chosen is None or bool(chosen.all()) else chosen
        found, symbols, start = self.edges[:, pick], self.symbols[:, pick], 0
        parts: list[tuple[Tensor, Tensor, int]] = []
        if self.labels is not None:
            labels, classes = self.labels[pick], self.model.classes
            parts.append((labels, edges_of(labels, label_frequencies(self.model).expand(len(labels), -1)), classes))
        if self.model.coded_by_fronts:
            return encode([(symbols.flatten(), found.flatten(0, 1), self.model.levels)])
        for levels, sites in itertools.groupby(self.model.sites(), key=lambda site: site.levels):
            end = start + len(list(sites))
            parts.append((symbols[start:end].flatten(), found[start:end].flatten(0, 1), levels))
            start = end
        return encode(parts)


def decode_events(model: AutoregressiveModel, payload: bytes, count: int) -> Tensor:
    """Events, int64 (count, *shape), on the CPU; bytes where a picture is coded in several bands.

    Raises:
        CodecError: there are more than a writer codes together, or the words are not those of so many events.
    """
    if count > most_events(model) or (model.coded_by_fronts and too_large(model)):
        raise CodecError("the archive is damaged: a chunk claims more images than any has")
    if len(payload) % 4 or len(payload) > count * (model.dims + 4) * 4 + 64:
        raise CodecError("the archive is damaged: a chunk claims an impossible size")
    decoder, labels = Decoder(payload), None
    if model.needs_context:
        pmf = label_frequencies(model).double().mul(2.0**-TOTAL_BITS)
        labels = decoder.decode(pmf.repeat(count, 1)).to(model.device)
    if model.coded_by_fronts:
        x = decode_bands(model, decoder, count)
    else:
        x = sampling.walk(model, count, decoder, context=labels).cpu()
    decoder.finish()
    return x
