"""The entropy coder: integer frequencies in, 32-bit words out, and back.

It is constriction's coder of asymmetric numeral systems (ANS), which decodes here. It takes probabilities as
floating-point numbers and makes integers of 24 bits from them; ours are whole multiples of 2^-22, and what it makes of
those is exact and written down in docs/format.md. The encoder is our own: for each symbol it needs two edges, not the
frequencies of all levels. A range coder would lose about 2·10^-4 bits a symbol to truncation: 0.2 % of a file, given
the many nearly certain symbols of an image. ANS loses a twentieth of that.

Reference: Bamler, Understanding Entropy Coding With Asymmetric Numeral Systems, 2022, https://arxiv.org/abs/2201.01741
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import constriction
import numpy as np
import torch
from torch import Tensor

from chainrule.contract import Chooser, Walk
from chainrule.errors import CodecError
from chainrule.fixedpoint.exact_softmax import CODER_BITS, TOTAL_BITS
from chainrule.fixedpoint.scoring import edges_of as edges_of
from chainrule.sampling import engines


def _family() -> Any:
    return constriction.stream.model.Categorical(perfect=False)


def encode(parts: Sequence[tuple[Tensor, Tensor, int]]) -> bytes:
    """Symbols to words, little-endian.

    Args:
        parts: one after the other, (symbols, edges, levels): integers (N,); integers (N, 2), how much of 2^22 lies
            below each symbol, and how much is its own, at least 1; and how many levels there are.

    >>> symbols, frequencies = torch.tensor([2, 0]), torch.tensor([[1, 2, 2**22 - 3], [2**22 - 2, 1, 1]])
    >>> words = encode([(symbols, edges_of(symbols, frequencies), 3)])
    >>> Decoder(words).decode(frequencies.double() / 2**22).tolist()
    [2, 0]
    """
    encoder = Encoder()
    for part in reversed(parts):
        encoder.push(*part)
    return encoder.words()


class Encoder:
    """Symbols to words, piece by piece, from the last to the first: what goes in last comes out first."""

    def __init__(self) -> None:
        self._state, self._written = 0, list[np.ndarray]()

    def push(self, symbols: Tensor, edges: Tensor, levels: int) -> None:
        """Put these symbols before all those so far, as `encode` takes them."""
        if levels == 1:  # one symbol is no choice
            return
        found = engines.push(self._state, symbols, edges, levels)
        self._state, words = push(self._state, symbols, edges, levels) if found is None else found
        self._written.append(words.astype("<u4"))

    def words(self) -> bytes:
        """All words, little-endian."""
        low, high = self._state % 2**32, self._state >> 32
        last = np.array([word for word in (low, high) if word or high], "<u4")
        return np.concatenate([*self._written, last]).tobytes()


def push(state: int, symbols: Tensor, edges: Tensor, levels: int) -> tuple[int, np.ndarray]:
    """Put symbols on the coder's stack, the last one first: the plain form of `Engine.push`."""
    start, symbol = edges[:, 0].long(), symbols.long()
    shrunk = (1 << CODER_BITS) - levels
    left = (start * shrunk >> TOTAL_BITS) + symbol
    right = ((start + edges[:, 1]) * shrunk >> TOTAL_BITS) + symbol + 1
    right[symbol == levels - 1] = 1 << CODER_BITS
    words = []
    for low, size in zip(reversed(left.tolist()), reversed((right - left).tolist()), strict=True):
        if state >> (64 - CODER_BITS) >= size:
            words.append(state % 2**32)
            state >>= 32
        state = (state // size << CODER_BITS) + low + state % size
    return state, np.array(words, np.uint32)


def _opened(words: np.ndarray) -> Any:
    try:
        return constriction.stream.stack.AnsCoder(words)
    except ValueError:  # a last word of zero
        raise CodecError("the archive is damaged: its words cannot be decoded") from None


class Decoder(Chooser):
    """Words back to symbols, piece by piece.

    It can choose a walk's values; a walk that can decode all of them at once is asked to, with the same coder in
    compiled code.

    Raises:
        CodecError: no encoder wrote these words.
    """

    def __init__(self, payload: bytes) -> None:
        self._coder, self._model = _opened(np.frombuffer(payload, "<u4").astype(np.uint32)), _family()

    def __call__(self, position: int, site: Any, conditional: Any) -> Tensor:
        return self.decode(conditional).to(conditional.device)

    def whole(self, walk: Walk) -> Tensor | None:
        found = walk.decode(self._coder.get_compressed())
        if found is None:
            return None
        x, words = found
        self._coder = _opened(words)
        return x

    def decode(self, pmf: Tensor) -> Tensor:
        """The next symbols, int64 (N,), of probabilities that are multiples of 2^-22, float64 (N, levels)."""
        if pmf.shape[1] == 1 or not len(pmf):
            return torch.zeros(len(pmf), dtype=torch.int64)
        table = np.ascontiguousarray(pmf.cpu().numpy())
        return torch.from_numpy(self._coder.decode(self._model, table).astype(np.int64))

    def finish(self) -> None:
        """Raise a CodecError unless all words have been used up."""
        if not self._coder.is_empty():
            raise CodecError("the archive is damaged: a chunk holds other images than those that were encoded")
