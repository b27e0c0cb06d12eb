"""From a model to the program of its walk, layer by layer, each by its very type.

What is not in these tables has no program, and is walked over by its own steps: a subclass may compute something else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from chainrule.compiled.library import available
from chainrule.compiled.walk.program import Program, Window
from chainrule.contract import Model
from chainrule.fixedpoint.exact_layers import ExactConv2d, ExactLayerNorm, ExactLinear, ExactMaskedLinear
from chainrule.fixedpoint.exact_softmax import ExactSoftmax
from chainrule.heads import FactorisedHead, MADEHead, Softmax
from chainrule.models import ImageModel
from chainrule.nn import ChannelLayerNorm, MaskedConv2d, MaskedLinear, MaskedTrunk, ResidualBlock

CONVOLUTIONS = (MaskedConv2d, ExactConv2d)
NORMS = (ChannelLayerNorm, ExactLayerNorm)
MASKED = (MaskedLinear, ExactMaskedLinear)
LINEAR = (nn.Linear, ExactLinear)
SOFTMAXES = (Softmax, ExactSoftmax)


class Unknown(Exception):
    """Something has no place in a program."""


def lower(model: Model) -> Program | None:
    """The program of a model's walk; None where there is none.

    That is for models without one, on other devices than the CPU, in other types than float32, while gradients are
    recorded, and where chainrule was installed without a compiler.
    """
    if not isinstance(model, ImageModel) or not available() or torch.is_grad_enabled() or model.classes:
        return None
    cls, numbers = type(model), model.trunk.hidden.weight
    if (numbers.device.type, numbers.dtype) != ("cpu", torch.float32):
        return None
    own = (cls.start, cls._logits, cls.features) != (ImageModel.start, ImageModel._logits, ImageModel.features)
    if own or type(model.softmax) not in SOFTMAXES:
        return None
    try:
        program = Program(model.walk_shape, model.levels)
        add_head(program, model.head, add_trunk(program, model))
    except Unknown:
        return None
    softmax: Any = model.softmax
    return program.finish(softmax.table if softmax.exact else None)


def expect(layer: Any, kinds: tuple[type, ...]) -> Any:
    """The layer, if it is of one of these very types."""
    if type(layer) not in kinds:
        raise Unknown(type(layer).__name__)
    return layer


def add_trunk(program: Program, model: ImageModel) -> int:
    """Add what makes a pixel's features, before the ReLU at their end; where they will lie."""
    trunk = expect(model.trunk, (MaskedTrunk,))
    first = expect(trunk.input, CONVOLUTIONS)
    seen, encoded, grid = window_of(program, first), model.encoding.table(trunk.hidden.weight), grid_of(first)
    program.images(seen, encoded if grid is None else grid.quantise(encoded))
    stream = add_convolution(program, first, seen)
    for block in trunk.blocks:
        add_block(program, expect(block, (ResidualBlock,)), stream)
    h, positive = stream, program.vector(trunk.filters)
    if trunk.norm is not None:
        h = program.vector(trunk.filters)
        program.norm(expect(trunk.norm, NORMS), stream, h)
    program.activate(trunk.hidden, h, positive, trunk.filters)
    return add_convolution(program, trunk.hidden, positive)


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
    """Room for the part of a convolution's input that its kernel still reaches."""
    expect(layer, CONVOLUTIONS)
    return program.window(layer.kernel, int(layer.mask[-1].sum()), layer.in_channels)


def add_head(program: Program, head: Any, hidden: int) -> None:
    """Add what gives logits from the features, whose ReLU is still to be taken of what lies at `hidden`."""
    if type(head) is FactorisedHead:
        features = program.vector(head.output.in_channels)
        program.activate(expect(head.output, CONVOLUTIONS), hidden, features, head.output.in_channels)
        program.logits(add_convolution(program, head.output, features), head.output.out_channels)
        return
    network = expect(head, (MADEHead,)).made
    if len(network.layers) != 1:
        raise Unknown("a MADE of several hidden layers")
    auxiliary = expect(network.from_auxiliary, LINEAR)
    for layer in (network.layers[0], network.output):
        expect(layer, MASKED)
    features, weights = program.vector(auxiliary.in_features), network.step_weights()
    program.activate(auxiliary, hidden, features, auxiliary.in_features)
    program.made(
        getattr(auxiliary, "grid_weight", auxiliary.weight),
        weights.layers[0].bias,
        features,
        ends=network.ends[0],
        table=weights.table,
        output=weights.output,
        grid=grid_of(network.output),
    )


def grid_of(layer: Any) -> Any:
    """The grid of an exact layer's input; None for a float layer."""
    return getattr(layer, "inputs", None)
