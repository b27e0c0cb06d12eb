"""Whole numbers of few bytes: seven bits a byte, the lowest first, the top bit set on all bytes but the last."""

from __future__ import annotations

from collections.abc import Iterable

MOST_BYTES = 7


def pack(numbers: Iterable[int]) -> bytes:
    """Numbers below 2^49, one after the other.

    >>> pack([0, 127, 128, 300]).hex()
    '007f8001ac02'
    """
    found = bytearray()
    for number in numbers:
        while number > 127:
            found.append(number & 127 | 128)
            number >>= 7
        found.append(number)
    return bytes(found)


def take(data: bytes, count: int, place: int) -> tuple[list[int], int]:
    """The next `count` numbers from `place` on, and the place after them.

    Raises:
        ValueError: the bytes end before them, or one is too long.

    >>> take(pack([0, 127, 128, 300]), 4, 0)
    ([0, 127, 128, 300], 6)
    """
    found = []
    for _ in range(count):
        number = shift = 0
        while True:
            if place >= len(data) or shift == 7 * MOST_BYTES:
                raise ValueError("no number")
            byte = data[place]
            number |= (byte & 127) << shift
            place, shift = place + 1, shift + 7
            if byte < 128:
                break
        found.append(number)
    return found, place
