"""Lossless compression with an exact model: images in, a `.crz` archive out, and back, bit for bit on any machine."""

from chainrule.codec.files import compress_files, decompress_file, info
from chainrule.codec.images import compress, decompress

__all__ = ["compress", "compress_files", "decompress", "decompress_file", "info"]
