"""Layers and blocks as operations of a program: what trunks and heads are lowered with."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from chainrule.compiled.walk.program import Program
from chainrule.compiled.walk.records import MOST_DEPTH, MOST_KEYS, Window
from chainrule.fixedpoint.exact_attention import ExactCausalAttention
from chainrule.fixedpoint.exact_gates import ExactGate, ExactLeftConv2d, ExactRowConv2d
from chainrule.fixedpoint.exact_layers import ExactConv2d, ExactLayerNorm
from chainrule.nn import (
    AttentionBlock,
    AttentionLayer,
    CausalAttention,
    ChannelLayerNorm,
    Gate,
    GatedBlock,
    LeftConv2d,
    MaskedConv2d,
    ResidualBlock,
    RowConv2d,
)
from chainrule.nn.attention import every_place

MASKED_CONVOLUTIONS = (MaskedConv2d, ExactConv2d)
CONVOLUTIONS = (*MASKED_CONVOLUTIONS, RowConv2d, ExactRowConv2d, LeftConv2d, ExactLeftConv2d)
NORMS = (ChannelLayerNorm, ExactLayerNorm)


class Unknown(Exception):
    """Something has no place in a program."""


def expect(layer: Any, kinds: tuple[type, ...]) -> Any:
    """The layer, if it is of one of these very types."""
    if type(layer) not in kinds:
        raise Unknown(type(layer).__name__)
    return layer


def add_block(program: Program, block: ResidualBlock, stream: int) -> None:
    """Add a residual block on the stream that lies at `stream`."""
    filters, half = block.reduce.in_channels, block.reduce.out_channels
    with program.passing():
        h = stream
        if block.norm is not None:
            h = program.vector(filters)
            program.norm(expect(block.norm, NORMS), stream, h)
        positive, narrow = program.vector(filters), program.vector(half)
        program.activate(block.reduce, h, positive, filters)
        window = window_of(program, block.spatial)
        program.activate(block.spatial, add_convolution(program, block.reduce, positive), window, half)
        program.activate(block.expand, add_convolution(program, block.spatial, window), narrow, half)
        program.add(add_convolution(program, block.expand, narrow), stream, filters)


def add_convolution(program: Program, layer: Any, source: int | Window) -> int:
    """Add a masked convolution whose input lies at `source`; where its output will lie."""
    expect(layer, CONVOLUTIONS)
    target, (matrix, bias) = program.vector(layer.out_channels), layer.matrix_and_bias()
    program.product(matrix, bias, source, target)
    return target


def window_of(program: Program, layer: Any) -> Window:
    """Room for the part of a masked convolution's input that its kernel still reaches."""
    expect(layer, MASKED_CONVOLUTIONS)
    return program.window(layer.radius + 1, layer.radius, int(layer.mask[-1].sum()), layer.in_channels)


def row_window(program: Program, layer: Any) -> Window:
    """The same of a vertical stack's convolution."""
    expect(layer, (RowConv2d, ExactRowConv2d))
    return program.window(layer.reach + 1, layer.reach, layer.kernel * layer.include, layer.in_channels)


def left_window(program: Program, layer: Any) -> Window:
    """The same of a horizontal stack's convolution."""
    expect(layer, (LeftConv2d, ExactLeftConv2d))
    return program.window(1, layer.reach, layer.taps, layer.in_channels)


def gates_of(block: GatedBlock) -> Tensor | None:
    """The table of an exact gate; None for a float one."""
    return getattr(expect(block.gate, (Gate, ExactGate)), "table", None)


def normed(program: Program, norm: Any, stream: int, filters: int) -> int:
    """Where the stream lies after a layer norm, if there is one."""
    if norm is None:
        return stream
    h = program.vector(filters)
    program.norm(expect(norm, NORMS), stream, h)
    return h


def add_look(program: Program, look: AttentionLayer, stream: int) -> None:
    """Add to the stream what attention to all pixels so far finds."""
    expect(look, (AttentionLayer,))
    attention = expect(look.attention, (CausalAttention, ExactCausalAttention))
    filters, width = look.project.in_channels, look.width
    if program.shape[1] * program.shape[2] > MOST_KEYS or width // look.heads > MOST_DEPTH:
        raise Unknown("attention over so many pixels, or of so wide heads")
    with program.passing():
        rounded, narrow = program.vector(filters), program.vector(width)
        h = normed(program, look.norm, stream, filters)
        program.activate(look.project, h, rounded, filters, positive=False)
        parts = add_convolution(program, look.project, rounded)
        if look.size is not None:
            program.place(every_place(*look.places()), parts)
        program.attend(parts, width, look.heads, getattr(attention, "table", None))
        program.activate(look.gather, parts, narrow, width, positive=False)
        program.add(add_convolution(program, look.gather, narrow), stream, filters)


def add_attention_block(program: Program, block: AttentionBlock, stream: int) -> None:
    """Add a look, and the layer for each pixel by itself."""
    add_look(program, block.look, stream)
    filters, wide = block.widen.in_channels, block.widen.out_channels
    with program.passing():
        rounded, opened = program.vector(filters), program.vector(wide)
        h = normed(program, block.norm, stream, filters)
        program.activate(block.widen, h, rounded, filters, positive=False)
        program.activate(block.narrow, add_convolution(program, block.widen, rounded), opened, wide)
        program.add(add_convolution(program, block.narrow, opened), stream, filters)


def grid_of(layer: Any) -> Any:
    """The grid of an exact layer's input; None for a float layer."""
    return getattr(layer, "inputs", None)
