"""From a float model to its exact form: which layer becomes what, and which layers belong together."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.errors import ModelError
from chainrule.fixedpoint.arithmetic import CARRIERS
from chainrule.fixedpoint.exact_attention import ExactCausalAttention
from chainrule.fixedpoint.exact_gates import ExactGate, ExactLeftConv2d, ExactRowConv2d
from chainrule.fixedpoint.exact_layers import (
    ExactConv2d,
    ExactFullConv2d,
    ExactLayerNorm,
    ExactLinear,
    ExactMaskedLinear,
    ExactProduct,
)
from chainrule.fixedpoint.exact_logistic import ExactLogisticMixture
from chainrule.fixedpoint.exact_softmax import MOST_LEVELS, ExactSoftmax
from chainrule.fixedpoint.grid import Grids, Part, choose_rows, inputs_from
from chainrule.heads import LogisticMixture, Softmax
from chainrule.models import AutoregressiveModel
from chainrule.nn import (
    CausalAttention,
    ChannelLayerNorm,
    FullConv2d,
    Gate,
    LeftConv2d,
    MADENetwork,
    MaskedConv2d,
    MaskedLinear,
    RowConv2d,
)

PRODUCTS: dict[type[nn.Module], Callable[[Any, Grids], nn.Module]] = {
    MaskedConv2d: ExactConv2d,
    MaskedLinear: ExactMaskedLinear,
    RowConv2d: ExactRowConv2d,
    LeftConv2d: ExactLeftConv2d,
    FullConv2d: ExactFullConv2d,
    nn.Linear: ExactLinear,
}
"""The layers that multiply by weights, and what makes an exact one of each."""

OTHERS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    CausalAttention: lambda attention: ExactCausalAttention(),
    Gate: lambda gate: ExactGate(),
    LogisticMixture: ExactLogisticMixture,
    Softmax: lambda softmax: ExactSoftmax(),
}
"""Layers without weights that compute more than sums: their exact forms work on integers."""

AS_THEY_ARE = {nn.ModuleList, nn.Sequential, nn.ReLU, nn.Embedding}
"""PyTorch's modules that only put others together, choose or look up. Ours say so by `composes_exactly`."""


def refuse(model: Any) -> None:
    """Refuse models that have no exact form.

    Raises:
        ModelError: the model has no likelihood, a part of it has no exact form, or its numbers are not finite.
    """
    kind = type(model).__name__
    if not isinstance(model, AutoregressiveModel) or not model.has_likelihood:
        raise ModelError(f"{kind} has no likelihood that goes entry by entry: it cannot be made exact")
    if model.levels > MOST_LEVELS:
        raise ModelError(
            f"{model.levels:,} levels are more than exact mode has frequencies for: at most {MOST_LEVELS:,}"
        )
    known = {*PRODUCTS, *OTHERS, ChannelLayerNorm, *AS_THEY_ARE}
    for name, part in model.named_modules():
        if type(part) not in known and not vars(type(part)).get("composes_exactly", False):
            where = f"its part {name} is a {type(part).__name__}, which has none" if name else "its class has none"
            raise ModelError(f"{kind} has no exact form: {where}; use one of chainrule's own models")
    bad = [name for name, tensor in model.named_parameters() if not bool(tensor.isfinite().all())]
    if bad:
        layer_name = bad[0].rpartition(".")[0] or bad[0]
        raise ModelError(f"the layer {layer_name} holds numbers that are not finite: it cannot be made exact")


def convert(model: AutoregressiveModel, scales: dict[str, Any]) -> AutoregressiveModel:
    """The exact form for given scales: a pure function of the model's float32 weights and them.

    Raises:
        ModelError: the scales do not describe this model, or a layer cannot be certified.
    """
    device = model.device
    # Laid in one place, however far the model travels.
    result = copy.deepcopy(model).to("cpu", torch.float32).eval().requires_grad_(False)
    layers = scales.get("layers")
    if not isinstance(layers, dict):
        raise ModelError("the model's scales are damaged: make the model exact again")
    made: dict[nn.Module, nn.Module] = {}
    for name, norm in norms(result):
        made[norm] = ExactLayerNorm(norm, inputs_from(name, layers.get(name)), name)
    for part in result.modules():
        if type(part) in OTHERS:
            made[part] = OTHERS[type(part)](part)
    for names, members in groups(result):
        found = [layers.get(name) or {} for name in names]
        inputs = [inputs_from(name, scale) for name, scale in zip(names, found, strict=True)]
        carrier: Any = found[0].get("carrier")
        same = carrier in CARRIERS and all(scale.get("carrier") == carrier for scale in found)
        if not same or [grid.levels for grid in inputs] != [one_hot_length(layer) for layer in members]:
            raise ModelError(f"the scales of the layer {names[0]} are damaged: make the model exact again")
        parts = [Part(real_weight(layer), grid) for layer, grid in zip(members, inputs, strict=True)]
        rows = choose_rows(names[0], parts, real_bias(members[0]), carrier)
        for part_number, (layer, grid) in enumerate(zip(members, inputs, strict=True)):
            made[layer] = PRODUCTS[type(layer)](layer, Grids(grid, rows, part_number, carrier))
    for parent in list(result.modules()):
        for name, child in list(parent.named_children()):
            if child in made:
                parent.register_module(name, made[child])
    result.scales = copy.deepcopy(scales)
    return result.requires_grad_(False).to(device).eval()


def one_hot_length(layer: nn.Module) -> int:
    """The length of the one-hot vectors that a layer reads; 0 if it reads something else."""
    return int(getattr(layer, "one_hot", 0))


def norms(model: nn.Module) -> list[tuple[str, Any]]:
    """The layer norms of a model, by name."""
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, ChannelLayerNorm)]


def groups(model: nn.Module) -> Iterator[tuple[list[str], list[Any]]]:
    """The layers that multiply by weights, by name, grouped where their outputs are summed.

    A MADE with an auxiliary vector sums two products, in different orders in its parallel pass and in its walk: they
    share their outputs' grids and their worst case. Every other layer is a group of its own.
    """
    second = {}
    for name, layer in model.named_modules():
        if isinstance(layer, MADENetwork) and layer.from_auxiliary is not None:
            second[f"{name}.layers.0"] = (f"{name}.from_auxiliary", layer.from_auxiliary)
    joined = {name for name, _ in second.values()}
    for name, layer in model.named_modules():
        if isinstance(layer, tuple(PRODUCTS)) and name not in joined:
            other = [second[name]] if name in second else []
            yield [name, *(n for n, _ in other)], [layer, *(module for _, module in other)]


def real_weight(layer: Any) -> Tensor:
    """The weight that a layer multiplies by, float64."""
    weight = layer.weight.detach().double()
    return weight * layer.mask if hasattr(layer, "mask") else weight


def real_bias(layer: Any) -> Tensor:
    """A layer's bias, float64; zeros if it has none."""
    return layer.weight.new_zeros(len(layer.weight)).double() if layer.bias is None else layer.bias.detach().double()


def exact_layers(model: nn.Module) -> list[tuple[str, ExactProduct | ExactLayerNorm]]:
    """The exact layers of an exact model, by name."""
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, ExactProduct | ExactLayerNorm)]


def canonical(tensor: Tensor) -> bytes:
    """A tensor's numbers as little-endian int64 or float64, whatever carries them."""
    real = tensor.dtype.is_floating_point
    numbers = tensor.detach().cpu().contiguous().to(torch.float64 if real else torch.int64).numpy()
    return numbers.astype("<f8" if real else "<i8").tobytes()


def weights_digest(model: nn.Module) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over a model's float32 weights: which model scales were made for."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode() + canonical(tensor.float()))
    return digest.hexdigest()[:16]
