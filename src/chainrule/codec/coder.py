"""The entropy coder: integer frequencies in, 32-bit words out, and back.

constriction's range coder does the work. It takes probabilities as floating-point numbers and makes integers of 24 bits
from them; ours are whole multiples of 2^-22, and what it makes of those is exact and written down in docs/format.md.

Reference: Bamler, Understanding Entropy Coding With Asymmetric Numeral Systems, 2022, https://arxiv.org/abs/2201.01741
"""

from __future__ import annotations

from typing import Any

import constriction
import numpy as np
import torch
from torch import Tensor

from chainrule.errors import CodecError

ROWS = 2**18
"""Tables are handed to the coder in pieces of about this many rows, so that their float64 copies stay small."""


def _family() -> Any:
    return constriction.stream.model.Categorical(perfect=False)


class Encoder:
    """Symbols to words, first in, first out.

    >>> encoder = Encoder()
    >>> frequencies = torch.tensor([[1, 2, 2**22 - 3], [2**22 - 2, 1, 1]])
    >>> encoder.encode(torch.tensor([2, 0]), frequencies)
    >>> Decoder(encoder.payload()).decode(frequencies.double() / 2**22).tolist()
    [2, 0]
    """

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()
        self._model = _family()

    def encode(self, symbols: Tensor, frequencies: Tensor) -> None:
        """Append symbols, shape (N,), with their frequencies, integers (N, levels) that sum to 2^22."""
        step = max(1, ROWS // frequencies.shape[1])
        for start in range(0, len(symbols), step):
            table = frequencies[start : start + step].numpy() * 2.0**-22
            values = symbols[start : start + step].numpy().astype(np.int32)
            self._coder.encode(values, self._model, table)

    def payload(self) -> bytes:
        """All words so far, little-endian."""
        return self._coder.get_compressed().astype("<u4").tobytes()


class Decoder:
    """Words back to symbols. Raises `CodecError` for words that no encoder wrote."""

    def __init__(self, payload: bytes) -> None:
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))
        self._model = _family()

    def decode(self, pmf: Tensor) -> Tensor:
        """The next symbols, int64 (N,), of probabilities that are multiples of 2^-22, float64 (N, levels)."""
        table = np.ascontiguousarray(pmf.cpu().numpy())
        try:
            return torch.from_numpy(self._coder.decode(self._model, table).astype(np.int64))
        except BaseException as error:
            # What the coder says of words that no encoder wrote; a panic of its is no Exception.
            if isinstance(error, AssertionError | ValueError) or type(error).__name__ == "PanicException":
                raise CodecError("the archive is damaged: its words cannot be decoded") from None
            raise

    def finish(self) -> None:
        """Raise a CodecError unless all words have been used up."""
        if not self._coder.maybe_exhausted():
            raise CodecError("the archive is damaged: a chunk holds more than its images")
