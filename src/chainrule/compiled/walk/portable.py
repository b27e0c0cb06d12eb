"""A program as one block of bytes, for a process that has other addresses: that of WebAssembly.

The records are those of walk/program.h, in which a pointer takes eight bytes everywhere. In a block it holds the place
of what it points to, counted from the block's beginning, or 0 for nothing; whoever loads the block adds its address.
"""

from __future__ import annotations

import ctypes
from typing import Any

from chainrule.compiled.walk.program import Program
from chainrule.compiled.walk.records import Address

ALIGNED = 16


def portable(program: Program) -> tuple[bytes, list[int]]:
    """A finished program as a block, the program's own record first, and where in it pointers lie.

    Equal arrays are held once.
    """
    block, pointers = bytearray(), list[int]()
    starts: dict[int, int] = {}  # places in the block by addresses

    def put(content: bytes) -> int:
        """The place of bytes that are appended."""
        block.extend(bytes(-len(block) % ALIGNED))
        block.extend(content)
        return len(block) - len(content)

    records: list[tuple[Any, int]] = [(program.record, put(bytes(program.record)))]
    for table in program.arrays:
        start = starts[ctypes.addressof(table)] = put(bytes(table))
        records += [(record, start + k * ctypes.sizeof(record)) for k, record in enumerate(table)]
    held: dict[bytes, int] = {}
    for array in program.kept:
        content = array.tobytes()
        if content not in held:
            held[content] = put(content)
        starts[array.ctypes.data] = held[content]
    for record, start in records:
        for name, kind, *_ in record._fields_:
            if kind is Address and getattr(record, name):
                at = start + getattr(type(record), name).offset
                block[at : at + 8] = starts[getattr(record, name)].to_bytes(8, "little")
                pointers.append(at)
    return bytes(block), pointers
