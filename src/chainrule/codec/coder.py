"""The entropy coder: integer frequencies in, 32-bit words out, and back.

constriction's coder of asymmetric numeral systems (ANS) does the work. It takes probabilities as floating-point numbers
and makes integers of 24 bits from them; ours are whole multiples of 2^-22, and what it makes of those is exact and
written down in docs/format.md. It was taken rather than a range coder because that loses about 2·10^-4 bits a symbol to
truncation, which the many nearly certain symbols of an image make 0.2 % of a file; ANS loses a twentieth of it.

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

ROWS = 2**20
"""Tables are handed to the coder in pieces of about so many entries, so that their float64 copies stay small."""


def _family() -> Any:
    return constriction.stream.model.Categorical(perfect=False)


def encode(parts: Sequence[tuple[Tensor, Tensor]]) -> bytes:
    """Symbols to words, little-endian.

    Args:
        parts: one after the other, (symbols, frequencies): integers (N,), and integers (N, levels), rows that sum to
            2^22, at least 1 for each symbol that is there.

    >>> frequencies = torch.tensor([[1, 2, 2**22 - 3], [2**22 - 2, 1, 1]])
    >>> Decoder(encode([(torch.tensor([2, 0]), frequencies)])).decode(frequencies.double() / 2**22).tolist()
    [2, 0]
    """
    coder, model = constriction.stream.stack.AnsCoder(), _family()
    for symbols, frequencies in reversed(parts):  # what goes in last comes out first
        if frequencies.shape[1] == 1:  # one symbol is no choice, and constriction codes none
            continue
        step = max(1, ROWS // frequencies.shape[1])
        for start in reversed(range(0, len(symbols), step)):
            table = frequencies[start : start + step].numpy() * 2.0**-22
            coder.encode_reverse(symbols[start : start + step].numpy().astype(np.int32), model, table)
    return coder.get_compressed().astype("<u4").tobytes()


def _opened(words: np.ndarray) -> Any:
    try:
        return constriction.stream.stack.AnsCoder(words)
    except ValueError:  # a last word of zero
        raise CodecError("the archive is damaged: its words cannot be decoded") from None


class Decoder(Chooser):
    """Words back to symbols, piece by piece.

    A walk may be given it to choose the values; one that can decode all of them at once is asked to, which is the same
    coder in compiled code.

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
        if pmf.shape[1] == 1:
            return torch.zeros(len(pmf), dtype=torch.int64)
        table = np.ascontiguousarray(pmf.cpu().numpy())
        return torch.from_numpy(self._coder.decode(self._model, table).astype(np.int64))

    def finish(self) -> None:
        """Raise a CodecError unless all words have been used up."""
        if not self._coder.is_empty():
            raise CodecError("the archive is damaged: a chunk holds other images than those that were encoded")
