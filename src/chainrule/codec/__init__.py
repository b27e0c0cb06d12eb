"""Lossless compression: any pictures in, a `.crz` archive out, and back, bit for bit on any machine."""

from chainrule.codec.archive import compress_files, decompress_file, info
from chainrule.codec.memory import compress, decompress

__all__ = ["compress", "compress_files", "decompress", "decompress_file", "info"]
