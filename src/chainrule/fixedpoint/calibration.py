"""Choosing a model's input grids: how finely each layer's input is rounded, where it is clamped, what carries its sums.

Calibration is itself done in exact arithmetic: by a provisional exact model in float64 with grids so wide that nothing
need be known beforehand. Its samples, and so the scales, are the same on every machine; a float model that was never
given scales still has only one exact form.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from chainrule.errors import DataError
from chainrule.fixedpoint.arithmetic import LIMITS
from chainrule.fixedpoint.conversion import (
    convert,
    exact_layers,
    groups,
    norms,
    one_hot_length,
    real_bias,
    real_weight,
    refuse,
    weights_digest,
)
from chainrule.fixedpoint.grid import FINEST, Inputs, Part, worst_case
from chainrule.models import AutoregressiveModel

EVENTS, ENTRIES = 32, 75_000
"""A model is calibrated on 32 of its own samples; more small ones, for about so many entries, or two large ones."""

SAMPLE = (32, 32)
"""The size of those samples where the model takes any."""

MARGIN = 1.5
"""Clamps lie this far beyond the largest input of the calibration."""

NORM_MARGIN = 4.0

ENOUGH_BITS = 5.0
"""A layer runs in float32 if its grids are 2^-5 of a typical weight and input there, or finer; else in float64."""

WIDE_BITS = 14
"""In float64, grids are about 2^-14 of a typical weight and input."""

PROVISIONAL = 12
NORM_BITS = 12

Carrier = Literal["auto", "float32", "float64"]


def calibrate(
    model: AutoregressiveModel, x: Tensor | None = None, context: Any = None, *, carrier: Carrier = "auto"
) -> dict[str, Any]:
    """The scales with which `exact` quantises a model.

    Args:
        model: a float model.
        x: events like those to come, integers of shape (B, *shape); by default the model's own samples, seed 0.
        context: of the events, for models that have one; by default `model.example_context`.
        carrier: "auto" takes float32 where its 24 bits are enough and float64 elsewhere; or force one.

    Returns:
        JSON values; kept in config.json by `save_pretrained` once they are set as `model.scales`.

    Raises:
        ModelError: the model has no exact form, or cannot be certified.
        DataError: `x` holds no events of this model.

    Example:
        >>> import chainrule as cr
        >>> _ = torch.manual_seed(0)
        >>> scales = calibrate(cr.MADE((2,), levels=4, hidden=(8,)))
        >>> list(scales["layers"])
        ['network.layers.0', 'network.output']
    """
    refuse(model)
    wide = convert(model, provisional(model))
    with torch.no_grad():
        if x is None:
            wide = wide.sized(*SAMPLE) if wide.any_size else wide
            n = events_for(wide.dims)
            context = wide.example_context(n) if context is None else context
            x = wide.sample(n, context, generator=torch.Generator().manual_seed(0))
        x = wide.checked(x)
        if not len(x):
            raise DataError("there are no events to calibrate with: give at least one")
        context = wide.example_context(len(x)) if context is None else context
        statistics = observe(wide, x, wide.checked_context(context, len(x)))
    layers: dict[str, Any] = {}
    for name, norm in norms(model):
        high, mean, _ = statistics[name]
        bits = NORM_BITS - round_log2(mean)
        most = math.isqrt(LIMITS["float64"]) // norm.normalized_shape[0]
        bits = min(bits, math.floor(math.log2(most / (high * NORM_MARGIN))), 23 - round_log2(high))
        limit = min(math.ceil(high * NORM_MARGIN * 2.0**bits), most)
        layers[name] = {"bits": bits, "low": -limit, "high": limit}
    for names, members in groups(model):
        levels = [one_hot_length(layer) for layer in members]
        weights, bias = [real_weight(layer).cpu() for layer in members], real_bias(members[0]).cpu()
        found = [statistics[name] if not n else (1.0, 1.0, True) for name, n in zip(names, levels, strict=True)]
        layers |= choose(names, levels, weights, bias, found, carrier)
    return {"weights": weights_digest(model), "layers": layers}


def events_for(dims: int) -> int:
    """How many samples of `dims` entries each a model is calibrated on.

    >>> events_for(2), events_for(28 * 28 * 3), events_for(256 * 256 * 3)
    (4096, 32, 2)
    """
    return max(EVENTS if dims * EVENTS <= 2 * ENTRIES else 2, min(4096, ENTRIES // dims))


def choose(
    names: list[str],
    levels: list[int],
    weights: list[Tensor],
    bias: Tensor,
    found: list[tuple[float, float, bool]],
    carrier: Carrier,
) -> dict[str, Any]:
    """The scales of layers whose outputs are summed, from their weights and the statistics of their inputs."""
    # The worst case of the weights as they are, for inputs as large as they may become; for the median output.
    clamps = [MARGIN * high for high, _, _ in found]
    grids = [Inputs(0, -int(not positive), 1, n) for n, (_, _, positive) in zip(levels, found, strict=True)]
    unit = [Part(weight, grid) for weight, grid in zip(weights, grids, strict=True)]
    scaled = [w if n else w * clamp for w, n, clamp in zip(weights, levels, clamps, strict=True)]
    reach = float(worst_case(unit, scaled, bias).median())
    last = len(names) - 1  # the part that is no one-hot vector, if there is one
    mean = found[last][1]
    size = math.fsum(weights[last].abs().flatten().tolist()) / max(int((weights[last] != 0).sum()), 1)
    total = min(24 - (math.ceil(math.log2(reach)) if reach else 0), FINEST)
    one_hot = bool(levels[last])
    bits = 0 if one_hot else round((total + math.log2(size or 1.0) - math.log2(mean)) / 2)
    precision = total + math.log2(size or 1.0) if one_hot else (total + math.log2(size or 1.0) + math.log2(mean)) / 2
    if carrier == "auto":
        carrier = "float32" if precision >= ENOUGH_BITS else "float64"
    if carrier == "float64" and not one_hot:
        bits = WIDE_BITS - round_log2(mean)
    result = {}
    for name, n, clamp, (_, _, positive) in zip(names, levels, clamps, found, strict=True):
        if n:
            result[name] = {"levels": n, "carrier": carrier}
            continue
        bits = min(bits, 23 - math.ceil(math.log2(clamp)))
        high = max(math.ceil(clamp * 2.0**bits), 1)
        result[name] = {"bits": bits, "low": 0 if positive else -high, "high": high, "carrier": carrier}
    return result


def provisional(model: AutoregressiveModel) -> dict[str, Any]:
    """Scales that hold for any model: inputs to 2^-12, up to 2^14, sums in float64."""
    layers: dict[str, Any] = {}
    for name, norm in norms(model):
        most = math.isqrt(LIMITS["float64"]) // norm.normalized_shape[0]
        layers[name] = {"bits": 10, "low": -most, "high": most}
    for names, members in groups(model):
        for name, layer in zip(names, members, strict=True):
            n, most = one_hot_length(layer), 1 << (PROVISIONAL + 14)
            layers[name] = {"levels": n} if n else {"bits": PROVISIONAL, "low": -most, "high": most}
            layers[name]["carrier"] = "float64"
    return {"layers": layers}


@dataclass(frozen=True)
class Watched(Inputs):
    """A grid that shows whatever is quantised on it, however its layer is called."""

    look: Callable[[Tensor], object] = id

    def quantise(self, x: Tensor) -> Tensor:
        self.look(x)
        return super().quantise(x)


def observe(model: AutoregressiveModel, x: Tensor, context: Any = None) -> dict[str, tuple[float, float, bool]]:
    """For each layer's input: its largest absolute value, the mean of the absolute values above zero, whether ≥ 0.

    The model, an exact one of the caller's own, is watched from then on.
    """
    seen: dict[str, list[int]] = {}

    def look(name: str, v: Tensor) -> None:
        q = v.double().mul(2.0**PROVISIONAL).round().long()  # whole numbers, whose sum is the same in any order
        size = q.abs()
        high, low, total, count = seen.setdefault(name, [0, 0, 0, 0])
        seen[name] = [
            max(high, int(size.max())),
            min(low, int(q.min())),
            total + int(size.sum()),
            count + int((size > 0).sum()),
        ]

    for name, layer in exact_layers(model):
        if not layer.inputs.levels:
            layer.inputs = Watched(**vars(layer.inputs), look=functools.partial(look, name))
    size = max(1, min(4096, ENTRIES // x[0].numel()))
    for k in range(0, len(x), size):
        given = None if context is None else context[k : k + size]
        batch = model._float(model.with_auxiliaries(x[k : k + size]))
        with model.arithmetic():
            model._run_layers(batch, given)
    unit = 2.0**-PROVISIONAL
    return {
        name: (max(high, 1) * unit, max(total, 1) / max(count, 1) * unit, low >= 0)
        for name, (high, low, total, count) in seen.items()
    }


def round_log2(value: float) -> int:
    """The nearest integer to log₂ value, from the number's own digits.

    >>> round_log2(4.0), round_log2(5.0), round_log2(6.0)
    (2, 2, 3)
    """
    mantissa, exponent = math.frexp(value)
    return exponent if mantissa >= 0.75 else exponent - 1
