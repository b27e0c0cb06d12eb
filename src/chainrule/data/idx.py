"""IDX, the file format of MNIST: two zero bytes, a type, the number of axes, their big-endian lengths, then the data.

Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits". Only unsigned bytes are read.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from chainrule.errors import DataError

UNSIGNED_BYTE = 0x08
MOST_AXES = 8


def from_idx(data: bytes, name: str) -> np.ndarray:
    """Parse IDX bytes into a uint8 array (a view of them). `name` begins the sentence of an error.

    Raises:
        DataError: they are damaged, or of another kind.

    >>> from_idx(to_idx(np.array([[1, 2, 3]], np.uint8)), "three.idx").tolist()
    [[1, 2, 3]]
    """
    if len(data) < 4 or data[:2] != b"\0\0":
        raise DataError(f"{name} is not an IDX file: check what it is")
    if data[2] != UNSIGNED_BYTE:
        raise DataError(f"{name} holds IDX values of type 0x{data[2]:02X}: only unsigned bytes (0x08) are read")
    start = 4 + 4 * data[3]
    if len(data) < start or data[3] > MOST_AXES:
        raise DataError(f"{name} is a truncated or damaged IDX file: fetch or copy it again")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise DataError(
            f"{name} promises {math.prod(shape):,} bytes of data and holds {len(data) - start:,}: "
            f"fetch or copy it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def to_idx(array: np.ndarray) -> bytes:
    """The IDX bytes of a uint8 array."""
    return struct.pack(f">HBB{array.ndim}I", 0, UNSIGNED_BYTE, array.ndim, *array.shape) + array.tobytes()
