"""A program as one block of bytes, for a process that has other addresses: that of WebAssembly.

The records are those of walk/program.h, in which a pointer takes eight bytes everywhere. In a block it holds the place of
what it points to, counted from the block's beginning, or 0 for nothing; whoever loads the block adds its address.
"""

from __future__ import annotations

import ctypes

import numpy as np

from chainrule.compiled.walk.program import Program
from chainrule.compiled.walk.records import Address

ALIGNED = 16


def portable(program: Program) -> tuple[bytes, list[int]]:
    """A finished program as a block, and where in it pointers lie. Equal arrays are held once."""
    operations, entries = program.arrays
    block = bytearray()
    places: dict[bytes, int] = {}
    pointers: list[int] = []
    known = {array.ctypes.data: array.tobytes() for array in program.kept}

    def put(content: bytes) -> int:
        """The place of some bytes in the block."""
        if content not in places:
            block.extend(bytes(-len(block) % ALIGNED))
            places[content] = len(block)
            block.extend(content)
        return places[content]

    tables = {ctypes.addressof(table): ctypes.sizeof(table) for table in (operations, entries)}
    put(bytes(program.record))
    starts = {address: put(bytes(table)) for address, table in zip(tables, (operations, entries), strict=True)}
    records = [(program.record, 0)]
    for address, table in zip(tables, (operations, entries), strict=True):
        size = ctypes.sizeof(table._type_)
        records += [(record, starts[address] + k * size) for k, record in enumerate(table)]
    for record, start in records:
        for name, kind, *_ in record._fields_:
            target = getattr(record, name)
            if kind is Address and target:
                at = start + getattr(type(record), name).offset
                to = starts[target] if target in starts else put(known[target])
                block[at : at + 8] = np.uint64(to).tobytes()
                pointers.append(at)
    return bytes(block), pointers
