"""From a model to the program of its walk, layer by layer, each by its very type.

What is not in these tables has no program, and is walked over by its own steps: a subclass may compute something else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from chainrule.compiled.library import available
from chainrule.compiled.walk.program import Program
from chainrule.compiled.walk.records import Window
from chainrule.contract import Model
from chainrule.fixedpoint.exact_gates import ExactGate, ExactLeftConv2d, ExactRowConv2d
from chainrule.fixedpoint.exact_layers import ExactConv2d, ExactLayerNorm, ExactLinear, ExactMaskedLinear
from chainrule.fixedpoint.exact_logistic import ExactLogisticMixture
from chainrule.fixedpoint.exact_residuals import ExactResiduals
from chainrule.fixedpoint.exact_softmax import ExactSoftmax
from chainrule.heads import FactorisedHead, LogisticHead, LogisticMixture, MADEHead, Softmax
from chainrule.heads.mixture import FARTHEST, offset
from chainrule.models import ImageModel
from chainrule.nn import (
    ChannelLayerNorm,
    Gate,
    GatedBlock,
    GatedTrunk,
    LeftConv2d,
    MaskedConv2d,
    MaskedLinear,
    MaskedTrunk,
    PredictingTrunk,
    ResidualBlock,
    Residuals,
    RowConv2d,
)

MASKED_CONVOLUTIONS = (MaskedConv2d, ExactConv2d)
CONVOLUTIONS = (*MASKED_CONVOLUTIONS, RowConv2d, ExactRowConv2d, LeftConv2d, ExactLeftConv2d)
NORMS = (ChannelLayerNorm, ExactLayerNorm)
MASKED = (MaskedLinear, ExactMaskedLinear)
LINEAR = (nn.Linear, ExactLinear)
MIXTURES = (LogisticMixture, ExactLogisticMixture)
SOFTMAXES = (Softmax, ExactSoftmax)

Enter = Callable[[Window, Any], None]
"""How a layer is told that the pixels (and their residuals) enter its window."""


class Unknown(Exception):
    """Something has no place in a program."""


def lower(model: Model, *, fronts: bool = False) -> Program | None:
    """The program of a model's walk in raster order, or by fronts; None where there is none.

    That is for models without one, on other devices than the CPU, in other types than float32, while gradients are
    recorded, and where chainrule was installed without a compiler.
    """
    if not isinstance(model, ImageModel) or not lowers(model):
        return None
    try:
        program = Program(model.walk_shape, model.levels, fronts=fronts)
        add_head(program, model.head, add_trunk(program, model))
    except Unknown:
        return None
    softmax: Any = model.softmax
    mixture = getattr(model.head, "mixture", None)
    return program.finish(softmax.table if softmax.exact else None, getattr(mixture, "sigmoids", None))


def lowers(model: Model) -> bool:
    """Whether a model is of a kind, type and place that programs are for."""
    if not isinstance(model, ImageModel) or not available() or torch.is_grad_enabled() or model.classes:
        return False
    cls, numbers = type(model), model.trunk.hidden.weight
    own = (cls.start, cls._logits, cls.features) != (ImageModel.start, ImageModel._logits, ImageModel.features)
    placed = (numbers.device.type, numbers.dtype) == ("cpu", torch.float32)
    return placed and not own and type(model.softmax) in SOFTMAXES


FRONTS: WeakKeyDictionary[nn.Module, Program] = WeakKeyDictionary()
"""Programs by the heads of exact models, which never change: a picture may be small, and there may be many."""


def by_fronts(model: Model) -> Program | None:
    """The program of a model's walk by fronts, the same for pictures of every size; None where there is none."""
    head = getattr(model, "head", None)
    if not model.softmax.exact or not isinstance(head, nn.Module):
        return lower(model, fronts=True)
    if not lowers(model):
        return None
    if head not in FRONTS and (found := lower(model, fronts=True)) is not None:
        FRONTS[head] = found
    return FRONTS.get(head)


def expect(layer: Any, kinds: tuple[type, ...]) -> Any:
    """The layer, if it is of one of these very types."""
    if type(layer) not in kinds:
        raise Unknown(type(layer).__name__)
    return layer


def add_trunk(program: Program, model: ImageModel) -> int:
    """Add what makes a pixel's features, before the ReLU at their end; where they will lie."""
    trunk, residuals = expect(model.trunk, (*TRUNKS, PredictingTrunk)), False
    pixels = model.encoding.table(trunk.hidden.weight)
    if isinstance(trunk, PredictingTrunk):
        add_prediction(program, trunk, pixels)
        trunk, residuals = expect(trunk.inner, tuple(TRUNKS)), True

    def enter(window: Window, layer: Any) -> None:
        add_entry(program, window, layer, pixels)
        if residuals:
            program.enter_residuals(window, model.shape[0], grid_of(layer))

    stream = TRUNKS[type(trunk)](program, trunk, enter)
    h, positive = stream, program.vector(trunk.filters)
    if trunk.norm is not None:
        h = program.vector(trunk.filters)
        program.norm(expect(trunk.norm, NORMS), stream, h)
    program.activate(trunk.hidden, h, positive, trunk.filters)
    return add_convolution(program, trunk.hidden, positive)


def add_entry(program: Program, window: Window, layer: Any, pixels: Tensor) -> None:
    """A layer reads the pixels, (levels, width), as they are encoded."""
    grid = grid_of(layer)
    program.enter(window, pixels if grid is None else grid.quantise(pixels))


def add_prediction(program: Program, trunk: PredictingTrunk, pixels: Tensor) -> None:
    """Add the linear prediction in front of a trunk."""
    residuals, predict = expect(trunk.residuals, (Residuals, ExactResiduals)), trunk.predict
    window = window_of(program, predict)
    add_entry(program, window, predict, pixels)
    unit = float(residuals.levels - 1)
    farthest = FARTHEST * unit if type(residuals) is ExactResiduals else None
    program.predict(add_convolution(program, predict, window), predict.out_channels, unit, farthest)


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


TRUNKS: dict[type, Callable[[Program, Any, Enter], int]] = {MaskedTrunk: add_masked, GatedTrunk: add_gated}


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


def add_head(program: Program, head: Any, hidden: int) -> None:
    """Add what gives logits from the features, whose ReLU is still to be taken of what lies at `hidden`."""
    if type(head) is FactorisedHead:
        features = program.vector(head.output.in_channels)
        program.activate(expect(head.output, CONVOLUTIONS), hidden, features, head.output.in_channels)
        program.logits(add_convolution(program, head.output, features), head.output.out_channels)
        return
    if type(head) is LogisticHead:
        features, mixture = program.vector(head.output.in_channels), expect(head.mixture, MIXTURES)
        program.activate(expect(head.output, CONVOLUTIONS), hidden, features, head.output.in_channels)
        numbers = add_convolution(program, head.output, features)
        program.mixture(numbers, mixture.numbers, mixture.components, mixture.unit, offset(mixture.levels))
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
