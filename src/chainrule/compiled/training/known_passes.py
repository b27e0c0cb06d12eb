"""Which layers' passes are taken over, after a check that the compiled code computes them.

Each function has the form that `chainrule.nn.passes` asks for: a layer and its inputs in, the output or None out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.compiled.training import block
from chainrule.compiled.training import layer_passes as layers
from chainrule.nn import (
    ChannelLayerNorm,
    Gate,
    LocalLeastSquares,
    MADENetwork,
    MaskedConv2d,
    MaskedLinear,
    ResidualBlock,
    passes,
)
from chainrule.nn.encoding import levels_of

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def register() -> None:
    """Take over every pass below."""
    passes.register(ChannelLayerNorm, "forward", norm)
    passes.register(ChannelLayerNorm, "activated", activated_norm)
    passes.register(Gate, "forward", gate)
    passes.register(MaskedConv2d, "activated", activated_convolution)
    passes.register(MADENetwork, "first", first_layer)
    passes.register(LocalLeastSquares, "forward", squares)
    passes.register(ResidualBlock, "forward", residual_block)


def norm(layer: ChannelLayerNorm, x: Tensor) -> Tensor | None:
    return layers.LayerNorm.apply(x, layer.weight, layer.bias, layer.eps, False) if _affine(layer, x) else None  # type: ignore[no-any-return,no-untyped-call]


def activated_norm(layer: ChannelLayerNorm, x: Tensor) -> Tensor | None:
    return layers.LayerNorm.apply(x, layer.weight, layer.bias, layer.eps, True) if _affine(layer, x) else None  # type: ignore[no-any-return,no-untyped-call]


def _affine(layer: ChannelLayerNorm, x: Tensor) -> bool:
    return layers.fits(x) and all(
        p is not None and p.shape == x.shape[1:2] and (p.device, p.dtype) == (x.device, torch.float32)
        for p in (layer.weight, layer.bias)  # either may be missing
    )


def gate(layer: Gate, x: Tensor) -> Tensor | None:
    return layers.gate(x) if layers.fits(x) and x.shape[1] % 2 == 0 else None


def activated_convolution(layer: MaskedConv2d, x: Tensor) -> Tensor | None:
    if layer.kernel == 1 or not layers.fits(x):
        return None
    return F.conv2d(layers.relu_pad(x, layer.radius), layer.weight * layer.mask, layer.bias)


def first_layer(network: MADENetwork, v: Tensor, plus: Tensor) -> Tensor | None:
    layer: Any = network.layers[0]
    if type(layer) is not MaskedLinear or (whole := levels_of(v)) is None:
        return None
    if not layers.lookup_fits(whole, network.variables, network.levels, layer.weight, plus):
        return None
    table = layer.masked_weight().T.unflatten(0, (network.variables, network.levels))
    rows = plus.reshape(-1, plus.shape[-1])
    return layers.lookup_relu(whole.reshape(-1, network.variables), table, layer.bias, rows).view(plus.shape)


def squares(layer: LocalLeastSquares, u: Tensor) -> Tensor | None:
    return layers.squares(layer, u) if layers.squares_fit(layer, u) else None


def residual_block(layer: ResidualBlock, x: Tensor) -> Tensor | None:
    """The whole block, unless one of its layers is not the usual one, or has hooks."""
    if layer.norm is None or not block.fits(x, layer.reduce.out_channels):
        return None
    convolutions, parameters = (layer.reduce, layer.spatial, layer.expand), list(layer.parameters())
    usual = type(layer.norm) is ChannelLayerNorm and all(type(conv) is MaskedConv2d for conv in convolutions)
    usual = usual and [(conv.kernel, conv.mask_type) for conv in convolutions] == [(1, "B"), (3, "B"), (1, "B")]
    given = len(parameters) == 8 and all((p.device, p.dtype) == (x.device, torch.float32) for p in parameters)
    if not (usual and given) or any(watched(child) for child in layer.children()):
        return None
    weights = layer.reduce.weight, layer.spatial.weight, layer.expand.weight
    biases = layer.reduce.bias, layer.spatial.bias, layer.expand.bias
    return block.Block.apply(x, layer.norm.eps, layer.norm.weight, layer.norm.bias, *weights, *biases)  # type: ignore[no-any-return,no-untyped-call]


def watched(layer: nn.Module) -> bool:
    """Whether a layer has hooks, which want to see its own pass: pruning is one of them."""
    return any(getattr(layer, name) for name in HOOKS)
