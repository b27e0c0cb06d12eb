"""Read Qt's compiled resources (.rcc), version 2 or 3: python tools/resources.py FILE lists what one holds.

A resource file is a tree of 22-byte nodes, a table of names in UTF-16 and the contents, each behind its length; every
offset stands in the header (Qt's documentation of `rcc`, and the format as its reader takes it). Contents that are
compressed are passed over: pictures are stored as they are.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

COMPRESSED, FOLDER = 1 | 4, 2


def files(resource: Path) -> Iterator[tuple[str, bytes]]:
    """Path and content of every file that is stored uncompressed."""
    data = resource.read_bytes()
    magic, version, tree, contents, names = struct.unpack_from(">4sIIII", data)
    if magic != b"qres" or version not in (2, 3):
        raise SystemExit(f"{resource} is not a Qt resource file of version 2 or 3")

    def walk(node: int, path: str) -> Iterator[tuple[str, bytes]]:
        name, flags, first, second = struct.unpack_from(">IHII", data, tree + 22 * node)
        (length,) = struct.unpack_from(">H", data, names + name)
        if node:
            path += "/" + data[names + name + 6 : names + name + 6 + 2 * length].decode("utf-16-be")
        if flags & FOLDER:
            for child in range(second, second + first):
                yield from walk(child, path)
        elif not flags & COMPRESSED:
            start = contents + second
            (size,) = struct.unpack_from(">I", data, start)
            yield path, data[start + 4 : start + 4 + size]

    yield from walk(0, "")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    for name, content in files(Path(sys.argv[1])):
        print(f"{len(content):>10}  {name}")
