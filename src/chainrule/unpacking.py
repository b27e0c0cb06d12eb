"""Unpacking a stranger's bytes: never more than a reader asked for, and nothing left over."""

from __future__ import annotations

import lzma
import zlib

MOST_MEMORY = 2**27
"""Bytes that unpacking xz may take: its presets up to 9 take less."""


def unxz(stored: bytes, most: int) -> bytes:
    """What an .xz file holds.

    Args:
        stored: the file.
        most: bytes that it may hold.

    Raises:
        ValueError: it is damaged, holds more, asks for too much memory, or has bytes behind its end.

    Example:
        >>> unxz(lzma.compress(b"three"), 5)
        b'three'
    """
    return _whole(lzma.LZMADecompressor(lzma.FORMAT_XZ, MOST_MEMORY), stored, most)


def inflate(stored: bytes, most: int, usual: bytes | None = None) -> bytes:
    """What was deflated (RFC 1951) into `stored`, with zlib's header and checksum or without.

    Args:
        stored: a stream of zlib's (RFC 1950); with `usual`, the bare deflated bytes.
        most: bytes that it may hold.
        usual: the preset dictionary; empty if there is none.

    Raises:
        ValueError: it is damaged, holds more, or has bytes behind its end.

    Example:
        >>> inflate(zlib.compress(b"three"), 5)
        b'three'
    """
    return _whole(zlib.decompressobj() if usual is None else zlib.decompressobj(-15, zdict=usual), stored, most)


def _whole(unpacker: lzma.LZMADecompressor | zlib._Decompress, stored: bytes, most: int) -> bytes:
    try:
        content = unpacker.decompress(stored, most + 1)  # zlib takes a bound of 0 for none
    except (lzma.LZMAError, zlib.error, EOFError) as error:
        raise ValueError(f"the packed bytes are damaged: {error}") from None
    if not unpacker.eof or unpacker.unused_data or len(content) > most:
        raise ValueError("the packed bytes do not end where they should")
    return content
