"""Lossless compression: any pictures in, a `.crz` archive out, and back, bit for bit on any machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainrule import lazily

if TYPE_CHECKING:
    from chainrule.codec.archive import compress_files, decompress_file
    from chainrule.codec.inspection import info
    from chainrule.codec.memory import compress, decompress

# Names are imported when they are first used, so that `chainrule info` need not wait for PyTorch.
_HOMES = {
    "compress": "memory",
    "compress_files": "archive",
    "decompress": "memory",
    "decompress_file": "archive",
    "info": "inspection",
}

__all__ = ["compress", "compress_files", "decompress", "decompress_file", "info"]

__getattr__ = lazily.names_of(__name__, _HOMES)
