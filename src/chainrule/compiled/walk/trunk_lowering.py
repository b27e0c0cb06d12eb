"""Trunks as operations of a program, each up to its last norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.compiled.walk.layer_lowering import (
    NORMS,
    Unknown,
    add_attention_block,
    add_block,
    add_convolution,
    add_look,
    expect,
    gates_of,
    left_window,
    row_window,
    window_of,
)
from chainrule.compiled.walk.program import Program
from chainrule.compiled.walk.records import Window
from chainrule.nn import (
    AttentionBlock,
    AttentionTrunk,
    GatedBlock,
    GatedTrunk,
    MaskedTrunk,
    ResidualBlock,
    SnailTrunk,
)
from chainrule.nn.attention import every_place

Enter = Callable[[Window, Any], None]
"""How a layer is told that the pixels (and their residuals) enter its window."""


def add_masked(program: Program, trunk: MaskedTrunk, enter: Enter) -> int:
    """Add a masked trunk up to its last norm; where its stream will lie."""
    seen = window_of(program, trunk.input)
    enter(seen, trunk.input)
    stream = add_convolution(program, trunk.input, seen)
    for block in trunk.blocks:
        add_block(program, expect(block, (ResidualBlock,)), stream)
    return stream


def add_gated(program: Program, trunk: GatedTrunk, enter: Enter) -> int:
    """The same of a gated trunk: its vertical stack goes ahead, a row at a time."""
    if program.fronts:
        raise Unknown("a gated trunk, whose vertical stack looks to the right in its own row")
    filters, blocks = trunk.filters, [expect(block, (GatedBlock,)) for block in trunk.blocks]
    above, left = row_window(program, trunk.vertical_input), left_window(program, trunk.horizontal_input)
    enter(above, trunk.vertical_input)
    enter(left, trunk.horizontal_input)
    first = program.window(1, 0, 1, filters)
    windows = [row_window(program, block.vertical) for block in blocks]
    links = [program.window(1, 0, 1, 2 * filters) for _ in blocks]

    def hand_over(v: int, to: int) -> None:
        """What block number `to` reads of the vertical stack."""
        if to == len(blocks):
            return
        h, norm = v, blocks[to].vertical_norm
        if norm is not None:
            h = program.vector(filters)
            program.norm(expect(norm, NORMS), v, h)
        program.activate(blocks[to].vertical, h, windows[to], filters, positive=False)

    with program.rows_stage():
        v = add_convolution(program, trunk.vertical_input, above)
        program.activate(None, v, first, filters, positive=False)
        hand_over(v, 0)
    for k, block in enumerate(blocks):
        with program.rows_stage():
            sums, known = add_convolution(program, block.vertical, windows[k]), program.vector(2 * filters)
            program.activate(block.link, sums, known, 2 * filters, positive=False)
            program.activate(None, add_convolution(program, block.link, known), links[k], 2 * filters, positive=False)
            v = program.vector(filters)
            program.gate(gates_of(block), sums, v, filters)
            hand_over(v, k + 1)
    stream = add_convolution(program, trunk.horizontal_input, left)
    program.add(first, stream, filters)
    for block, link in zip(blocks, links, strict=True):
        with program.passing():
            h = stream
            if block.horizontal_norm is not None:
                h = program.vector(filters)
                program.norm(expect(block.horizontal_norm, NORMS), stream, h)
            window = left_window(program, block.horizontal)
            program.activate(block.horizontal, h, window, filters, positive=False)
            sums, opened, narrow = (
                add_convolution(program, block.horizontal, window),
                program.vector(filters),
                program.vector(filters),
            )
            program.add(link, sums, 2 * filters)
            program.gate(gates_of(block), sums, opened, filters)
            program.activate(block.expand, opened, narrow, filters, positive=False)
            program.add(add_convolution(program, block.expand, narrow), stream, filters)
    return stream


def add_snail(program: Program, trunk: SnailTrunk, enter: Enter) -> int:
    """The same of a masked trunk that looks at all earlier pixels now and then."""
    if program.fronts:
        raise Unknown("attention, which sees all earlier pixels")
    seen = window_of(program, trunk.input)
    enter(seen, trunk.input)
    stream = add_convolution(program, trunk.input, seen)
    looks: dict[int, Any] = dict(zip(trunk.places, trunk.looks, strict=True))
    for number in range(len(trunk.blocks) + 1):
        if number:
            add_block(program, expect(trunk.blocks[number - 1], (ResidualBlock,)), stream)
        if number in looks:
            add_look(program, looks[number], stream)
    return stream


def add_attention(program: Program, trunk: AttentionTrunk, enter: Enter) -> int:
    """The same of attention alone, whose stream begins with the pixel before."""
    if program.fronts:
        raise Unknown("attention, which sees all earlier pixels")
    seen, before = program.window(2, 0, 1, trunk.inputs), program.vector(trunk.inputs)
    enter(seen, trunk.input)
    program.recall(seen, before)
    stream = add_convolution(program, trunk.input, before)
    places = every_place(trunk.row_input, trunk.column_input)
    places[0] += trunk.first_input.weight[0]
    program.place(places, stream, first=True)
    for block in trunk.blocks:
        add_attention_block(program, expect(block, (AttentionBlock,)), stream)
    return stream


TRUNKS: dict[type, Callable[[Program, Any, Enter], int]] = {
    MaskedTrunk: add_masked,
    GatedTrunk: add_gated,
    AttentionTrunk: add_attention,
    SnailTrunk: add_snail,
}
