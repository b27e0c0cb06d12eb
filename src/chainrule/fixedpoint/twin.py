"""The exact twin of a model for given scales, and which layers belong together in it."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from chainrule import compiled as native
from chainrule import heads
from chainrule.errors import ModelError
from chainrule.fixedpoint.arithmetic import CARRIERS, exactly
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
from chainrule.fixedpoint.exact_softmax import TOTAL_BITS, ExactCategorical
from chainrule.fixedpoint.grid import Part, choose_rows, inputs_from
from chainrule.models import REGISTRY, AutoregressiveModel
from chainrule.models.conditional_mlp import ConditionalMLP
from chainrule.models.gated_pixelcnn import GatedPixelCNN
from chainrule.models.grayscale_pixelcnn import ColorPixelCNN, GrayscalePixelCNN
from chainrule.models.pixelcnn import PixelCNN
from chainrule.nn import (
    ChannelLayerNorm,
    FullConv2d,
    Gate,
    LeftConv2d,
    MADENetwork,
    MaskedConv2d,
    MaskedLinear,
    RowConv2d,
)

TWINS: dict[type[nn.Module], type[nn.Module]] = {
    MaskedConv2d: ExactConv2d,
    MaskedLinear: ExactMaskedLinear,
    RowConv2d: ExactRowConv2d,
    LeftConv2d: ExactLeftConv2d,
    FullConv2d: ExactFullConv2d,
    nn.Linear: ExactLinear,
    ChannelLayerNorm: ExactLayerNorm,
}

HEADS: dict[type, Callable[[AutoregressiveModel], nn.Module]] = {
    heads.Categorical: lambda model: ExactCategorical(model.levels),
    heads.LogisticMixture: lambda model: ExactLogisticMixture(model.head),  # type: ignore[arg-type]
}


INPUTS = ("input", "vertical_input", "horizontal_input")
"""The layers of PixelCNNs that read pixels."""


class ExactTwin(AutoregressiveModel):
    """What an exact model adds to its class: the guarded arithmetic, and that it stays what it is."""

    scales: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        return {**super().config, "scales": self.scales, "exact": True}

    def _float(self, x: Tensor) -> Tensor:
        return x.float()

    def _site_log_probs(self, x: Tensor, context: Any) -> Tensor:
        program = self.program()
        if program is None:
            return AutoregressiveModel._site_log_probs(self, x, context)  # not the class's own way in floats
        self._refuse_context(context)
        channels, height, width = self.shape
        table = native.score(program, x)  # the same integers as by the parallel pass, much sooner
        symbols = x.long().permute(2, 3, 1, 0).reshape(table.shape[0], -1, 1)
        log_p = table.gather(-1, symbols).double().mul_(2.0**-TOTAL_BITS).log_()
        return log_p.view(height, width, channels, -1).permute(3, 2, 0, 1)

    def train(self, mode: bool = True) -> Any:
        if mode:
            raise ModelError("an exact model cannot be trained: train the float model, then make it exact again")
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        if fn(torch.zeros(())).dtype != torch.float32:
            raise ModelError("an exact model's numbers are fixed: move it to another device, but not to another type")
        return super()._apply(fn, recurse)


@functools.cache
def twin_class(cls: type[AutoregressiveModel]) -> type[AutoregressiveModel]:
    """The class of the exact twins of a model class, of the same name."""
    guarded = {name: exactly(getattr(cls, name)) for name in ("_logits", "start", "conditional", "observe")}
    twin = type(cls.__name__, (ExactTwin, cls), {**guarded, "__doc__": cls.__doc__, "__module__": cls.__module__})
    return native.known(twin)  # `refuse` lets none but the registered classes become twins


def is_exact(model: Any) -> bool:
    """Whether a model is an exact twin."""
    return isinstance(model, ExactTwin)


def refuse(model: Any) -> None:
    """Raise a ModelError for what has no exact form."""
    if not isinstance(model, AutoregressiveModel):
        raise ModelError(f"{type(model).__name__} has no likelihood that goes entry by entry: it cannot be made exact")
    if REGISTRY.get(type(model).__name__) is not type(model) or type(model.head) not in HEADS:
        raise ModelError(
            f"{type(model).__name__} has no exact form: only a categorical head or a mixture of logistics has one"
        )
    for name, layer in model.named_modules():
        if list(layer.parameters(recurse=False)) and layer is not model and type(layer) not in TWINS:
            raise ModelError(f"the layer {name} is a {type(layer).__name__}, which has no exact form")
    bad = [name for name, tensor in model.named_parameters() if not bool(tensor.isfinite().all())]
    if bad:
        layer_name = bad[0].rpartition(".")[0] or bad[0]
        raise ModelError(f"the layer {layer_name} holds numbers that are not finite: it cannot be made exact")


def convert(model: AutoregressiveModel, scales: dict[str, Any]) -> AutoregressiveModel:
    """The twin for given scales: a pure function of the model's float32 weights and them."""
    twin: Any = copy.deepcopy(model).float().eval().requires_grad_(False)
    device = twin.device
    twin.to("cpu")  # so that the grids are laid in one place, however far the model travels
    layers = scales.get("layers")
    if not isinstance(layers, dict):
        raise ModelError("the model's scales are damaged: make the model exact again")
    for name, norm in norms(twin):
        norm.__class__ = ExactLayerNorm
        norm.adopt(inputs_from(name, layers.get(name)), name)
    gates: list[Any] = [layer for layer in twin.modules() if isinstance(layer, Gate)]
    for gate in gates:
        gate.__class__ = ExactGate
        gate.adopt()
    for names, members in groups(twin):
        found = [layers.get(name) or {} for name in names]
        inputs = [inputs_from(name, scale) for name, scale in zip(names, found, strict=True)]
        carrier = found[0].get("carrier")
        if carrier not in CARRIERS or any(scale.get("carrier") != carrier for scale in found):
            raise ModelError(f"the scales of the layer {names[0]} are damaged: make the model exact again")
        parts = [Part(real_weight(layer), grid) for layer, grid in zip(members, inputs, strict=True)]
        expected = [one_hot_levels(twin, name) for name in names]
        if [grid.levels for grid in inputs] != expected:
            raise ModelError(f"the scales of the layer {names[0]} are damaged: make the model exact again")
        rows = choose_rows(names[0], parts, real_bias(members[0]), carrier)
        for part, (layer, grid) in enumerate(zip(members, inputs, strict=True)):
            layer.__class__ = TWINS[type(layer)]
            layer.adopt(grid, rows, part, carrier)
    twin.scales = copy.deepcopy(scales)
    whole: list[Any] = [part for part in twin.modules() if isinstance(part, AutoregressiveModel)]
    for part in whole:  # a model may be made of models
        part.head = HEADS[type(part.head)](part)
        cls: Any = type(part)
        part.__class__ = twin_class(cls)
    return twin.to(device).eval()


def norms(model: nn.Module) -> list[tuple[str, Any]]:
    """The layer norms of a model, by name."""
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, ChannelLayerNorm)]


def groups(model: nn.Module) -> Iterator[tuple[list[str], list[Any]]]:
    """The layers that multiply by weights, by name, and together those whose outputs are summed.

    A MADE with an auxiliary vector sums two products, in another order in its parallel pass than in its walk: they
    share their outputs' grids and their worst case. Every other layer is a group of its own.
    """
    second = {}
    for name, layer in model.named_modules():
        if isinstance(layer, MADENetwork) and layer.from_auxiliary is not None:
            second[f"{name}.layers.0"] = (f"{name}.from_auxiliary", layer.from_auxiliary)
    joined = {name for name, _ in second.values()}
    for name, layer in model.named_modules():
        if isinstance(layer, tuple(set(TWINS) - {ChannelLayerNorm})) and name not in joined:
            other = [second[name]] if name in second else []
            yield [name, *(n for n, _ in other)], [layer, *(module for _, module in other)]


def one_hot_levels(model: nn.Module, name: str) -> int:
    """The length of the one-hot vectors that a layer reads; 0 if it reads something else."""
    if isinstance(model, GrayscalePixelCNN):
        part, _, rest = name.partition(".")
        return one_hot_levels(model.get_submodule(part), rest)
    if isinstance(model, ColorPixelCNN) and name == "encoder.input":
        return model.grays
    if isinstance(model, PixelCNN) and name in INPUTS and model.one_hot_input:
        return model.levels
    if isinstance(model, GatedPixelCNN) and name.endswith("_context"):
        return model.classes
    if isinstance(model, ConditionalMLP) and name == "mlp.0" and model.encoding == "onehot":
        return model.levels
    parent, _, child = name.rpartition(".layers.")
    if child == "0" and isinstance(network := model.get_submodule(parent), MADENetwork):
        return network.levels
    return 0


def real_weight(layer: Any) -> Tensor:
    """The weight that a layer multiplies by, float64."""
    weight = layer.weight.detach().double()
    return weight * layer.mask if hasattr(layer, "mask") else weight


def real_bias(layer: Any) -> Tensor:
    """A layer's bias, float64; zeros if it has none."""
    return layer.weight.new_zeros(len(layer.weight)).double() if layer.bias is None else layer.bias.detach().double()


def exact_layers(model: nn.Module) -> list[tuple[str, ExactProduct | ExactLayerNorm]]:
    """The exact layers of a twin, by name."""
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
