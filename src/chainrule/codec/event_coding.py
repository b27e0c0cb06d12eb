"""Events to words and back: an engine or a parallel pass gives the encoder its frequencies, the decoder walks."""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import Any

import torch
from torch import Tensor

from chainrule import sampling
from chainrule.codec.coder import Decoder, encode
from chainrule.errors import CodecError
from chainrule.evaluation import log_probs
from chainrule.fixedpoint import TOTAL_BITS, frequencies, order_of
from chainrule.models import AutoregressiveModel

CHUNK = 2000
"""Events that are coded together, if their tables fit the memory below."""
TABLE_BYTES = 2**28
"""Memory for the frequencies of events while they are encoded."""


def most_events(model: AutoregressiveModel, asked: int | None = None) -> int:
    """How many events of a model of one size are coded together: what was asked for, or as many as fit the memory."""
    if asked is not None and asked < 1:
        raise CodecError(f"chunks of {asked} images hold nothing: use at least 1")
    return max(1, min(asked or CHUNK, CHUNK, TABLE_BYTES // table_bytes(model)))


def table_bytes(model: AutoregressiveModel) -> int:
    """Memory for the frequencies of one event."""
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
    """Events (N, *shape) of an exact model with their frequencies, of which any can be encoded."""

    def __init__(self, model: Any, x: Tensor) -> None:
        self.model = model
        x = model.checked(x)
        self.labels = likeliest_labels(model, x) if model.needs_context else None
        self.table = frequencies(model, x, self.labels)
        self.symbols = model.with_auxiliaries(x).cpu().flatten(1)[:, order_of(model)].T

    def bits(self) -> Tensor:
        """The information in each event, in bits, float64 (N,)."""
        found = torch.zeros(self.symbols.shape[1], dtype=torch.float64)
        for symbols, table in zip(self.symbols.split(256), self.table.split(256), strict=True):
            chosen = table.gather(2, symbols[..., None].long())[..., 0]
            found += TOTAL_BITS * len(chosen) - chosen.double().log2().sum(0)
        return found if self.labels is None else found + math.log2(self.model.classes)

    def words(self, chosen: Tensor | None = None) -> bytes:
        """The words of all events, or of those chosen by a mask (N,)."""
        pick = slice(None) if chosen is None or bool(chosen.all()) else chosen
        table, symbols, parts, start = self.table[:, pick], self.symbols[:, pick], [], 0
        if self.labels is not None:
            labels = self.labels[pick]
            parts.append((labels, label_frequencies(self.model).expand(len(labels), -1)))
        for levels, sites in itertools.groupby(self.model.sites(), key=lambda site: site.levels):
            end = start + len(list(sites))
            parts.append((symbols[start:end].reshape(-1), table[start:end, :, :levels].reshape(-1, levels)))
            start = end
        return encode(parts)


def decode_events(model: AutoregressiveModel, payload: bytes, count: int) -> Tensor:
    """Events, int64 (count, *shape), on the CPU.

    Raises:
        CodecError: there are more than a writer codes together, or the words are not those of so many events.
    """
    if count > most_events(model):
        raise CodecError("the archive is damaged: a chunk claims more images than any has")
    if len(payload) % 4 or len(payload) > count * (model.dims + 4) * 4 + 64:
        raise CodecError("the archive is damaged: a chunk claims an impossible size")
    decoder, labels = Decoder(payload), None
    if model.needs_context:
        pmf = label_frequencies(model).double().mul(2.0**-TOTAL_BITS)
        labels = decoder.decode(pmf.repeat(count, 1)).to(model.device)
    x = sampling.walk(model, count, decoder, context=labels).cpu()
    decoder.finish()
    return x
