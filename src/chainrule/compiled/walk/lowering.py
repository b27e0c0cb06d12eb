"""From a model to the program of its walk, layer by layer, each by its very type.

What is not in these tables has no program, and is walked over by its own steps: a subclass may compute something else.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from chainrule.compiled.library import available
from chainrule.compiled.walk.layer_lowering import (
    CONVOLUTIONS,
    NORMS,
    Unknown,
    add_convolution,
    expect,
    grid_of,
)
from chainrule.compiled.walk.program import Program
from chainrule.compiled.walk.records import Window
from chainrule.compiled.walk.trunk_lowering import TRUNKS
from chainrule.contract import Model
from chainrule.fixedpoint.exact_layers import ExactLinear, ExactMaskedLinear
from chainrule.fixedpoint.exact_logistic import ExactLogisticMixture
from chainrule.fixedpoint.exact_softmax import ExactSoftmax
from chainrule.heads import FactorisedHead, LogisticHead, LogisticMixture, MADEHead, Softmax
from chainrule.heads.mixture import offset
from chainrule.models import ImageModel
from chainrule.nn import LocalLeastSquares, MaskedLinear, PredictingTrunk
from chainrule.nn.least_squares import MOST_LEVELS, MOST_PREDICTED
from chainrule.nn.surroundings import FAR, NEAR

MASKED = (MaskedLinear, ExactMaskedLinear)
LINEAR = (nn.Linear, ExactLinear)
MIXTURES = (LogisticMixture, ExactLogisticMixture)
SOFTMAXES = (Softmax, ExactSoftmax)


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


def add_trunk(program: Program, model: ImageModel) -> int:
    """Add what makes a pixel's features, before the ReLU at their end; where they will lie."""
    trunk, kinds = expect(model.trunk, (*TRUNKS, PredictingTrunk)), 0
    pixels = model.encoding.table(trunk.hidden.weight)
    if isinstance(trunk, PredictingTrunk):
        kinds = add_prediction(program, trunk)
        trunk = expect(trunk.inner, tuple(TRUNKS))

    def enter(window: Window, layer: Any) -> None:
        add_entry(program, window, layer, pixels)
        for kind in range(kinds):
            program.enter_residuals(window, (1 + kind) * model.shape[0], grid_of(layer), far=kind > 0)

    stream = TRUNKS[type(trunk)](program, trunk, enter)
    h, positive = stream, program.vector(trunk.filters)
    if trunk.norm is not None:
        h = program.vector(trunk.filters)
        program.norm(expect(trunk.norm, NORMS), stream, h)
    program.activate(trunk.hidden, h, positive, trunk.filters)
    hidden = add_convolution(program, trunk.hidden, positive)
    if kinds:
        from_spread = expect(model.trunk.from_spread, CONVOLUTIONS)
        program.add(add_convolution(program, from_spread, program.spread(from_spread)), hidden, trunk.filters)
    return hidden


def add_entry(program: Program, window: Window, layer: Any, pixels: Tensor) -> None:
    """Let a layer read the pixels as they are encoded, (levels, width)."""
    grid = grid_of(layer)
    program.enter(window, pixels if grid is None else grid.quantise(pixels))


def add_prediction(program: Program, trunk: PredictingTrunk) -> int:
    """Add local least squares before a trunk; returns how many kinds."""
    layers = [expect(layer, (LocalLeastSquares,)) for layer in trunk.layers()]
    if any(layer.levels > MOST_LEVELS or layer.channels > MOST_PREDICTED for layer in layers):
        raise Unknown("sums of products that outgrow 32 bits")
    if [layer.by for layer in layers] != [NEAR, FAR][: len(layers)]:
        raise Unknown("other samples than compiled code has")
    program.squares(layers)
    return len(layers)


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
        shape = (mixture.numbers, mixture.components, mixture.copies)
        program.mixture(numbers, *shape, mixture.unit, offset(mixture.levels))
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
