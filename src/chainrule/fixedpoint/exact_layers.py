"""The exact forms of the layers: same weights, same signature, sums that no order of summation can change.

An exact layer takes the place of a float one in the model. It keeps the float weights, which are what is saved; the
integers made from them lie beside them as buffers that are not saved.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.errors import ModelError
from chainrule.fixedpoint.arithmetic import CARRIERS, LIMITS
from chainrule.fixedpoint.grid import Grids, Inputs
from chainrule.nn import ChannelLayerNorm, FullConv2d, MaskedConv2d, MaskedLinear, WindowCache
from chainrule.nn.conv import tap_matrix
from chainrule.nn.fronts import FrontCache
from chainrule.nn.linear import PreparedLinear


class ExactProduct(nn.Module):
    """What the exact layers that multiply by weights have in common.

    Convolutions give float32, whatever carries their sums, because elementwise operations follow (the residual sum)
    that round, and must round alike. The linear layers' outputs are only summed exactly or quantised again.
    """

    inputs: Inputs
    worst: int
    row_bits: Tensor
    grid_weight: Tensor
    grid_bias: Tensor

    def take_over(self, layer: nn.Module, grids: Grids) -> None:
        """Begin as `layer`, with its settings, weights and mask, and lay the integers beside them.

        It replaces the layer's own constructor, which would make new weights.
        """
        nn.Module.__init__(self)
        for name, value in vars(layer).items():
            if not name.startswith("_") and name != "training":
                setattr(self, name, value)
        for name, parameter in layer.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in layer.named_buffers(recurse=False):
            self.register_buffer(name, buffer, persistent=False)
        if getattr(layer, "bias", None) is None:
            self.register_parameter("bias", None)
        rows, dtype = grids.rows, CARRIERS[grids.carrier]
        self.inputs, self.worst = grids.inputs, rows.worst
        if grids.part:  # the first part holds it: a buffer of both would become two on the way to a GPU
            self.row_bits = rows.bits
        else:
            self.register_buffer("row_bits", rows.bits, persistent=False)
        self.register_buffer("grid_weight", rows.scaled(rows.weights[grids.part], dtype), persistent=False)
        bias = torch.zeros_like(rows.bias) if grids.part else rows.bias
        self.register_buffer("grid_bias", rows.scaled(bias, dtype), persistent=False)

    @property
    def carrier(self) -> str:
        """The floating-point type that carries the sums."""
        return str(self.grid_weight.dtype).removeprefix("torch.")

    @property
    def limit(self) -> int:
        """What the worst case must not exceed."""
        return LIMITS[self.carrier]

    def quantised(self, x: Tensor) -> Tensor:
        """The input on its grid, as integers in the carrier's type."""
        return self.inputs.quantise(x).to(self.grid_weight.dtype)


class ExactLinear(ExactProduct, nn.Linear):
    """`nn.Linear` with exact sums."""

    def __init__(self, layer: nn.Linear, grids: Grids) -> None:
        self.take_over(layer, grids)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) → (..., O)."""
        return F.linear(self.quantised(x), self.grid_weight, self.grid_bias)


class ExactMaskedLinear(ExactProduct, MaskedLinear):
    """`MaskedLinear` with exact sums, also where a walk computes it in parts."""

    def __init__(self, layer: MaskedLinear, grids: Grids) -> None:
        self.take_over(layer, grids)

    def prepare(self) -> PreparedLinear:
        return PreparedExactLinear(self.grid_weight, self.grid_bias, self)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.quantised(x), self.grid_weight, self.grid_bias)


@dataclass
class PreparedExactLinear(PreparedLinear):
    """The parts of an exact layer: what goes in is quantised first."""

    layer: ExactMaskedLinear

    def part(self, x: Tensor, outputs: slice) -> Tensor:
        return super().part(self.layer.quantised(x), outputs)


def gathered(padded: Tensor, taps: list[tuple[int, int]], height: int, width: int) -> Tensor:
    """The values that a kernel meets at each pixel, side by side: (B, …, …, C) → (B, height, width, taps · C)."""
    parts = [padded[:, i : i + height, j : j + width] for i, j in taps]
    return torch.cat(parts or [padded[:, :height, :width, :0]], -1)


class ExactConv2d(ExactProduct, MaskedConv2d):
    """`MaskedConv2d` as one matrix product over gathered taps: no Winograd, no FFT, no choice of algorithm."""

    matrix: Tensor

    def __init__(self, layer: MaskedConv2d, grids: Grids) -> None:
        self.take_over(layer, grids)
        self.taps: list[tuple[int, int]] = [(int(i), int(j)) for i, j in self.mask.nonzero()]
        self.register_buffer("matrix", tap_matrix(self.grid_weight, self.mask), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        q = self.quantised(x.permute(0, 2, 3, 1))  # channels innermost, as the products want them
        if len(self.taps) != 1 or self.kernel != 1:
            padded = F.pad(q, (0, 0, self.radius, self.radius, self.radius, 0))
            q = gathered(padded, self.taps, height, width)
        return F.linear(q, self.matrix, self.grid_bias).float().permute(0, 3, 1, 2)

    def matrix_and_bias(self) -> tuple[Tensor, Tensor]:
        return self.matrix, self.grid_bias

    def pointwise(self, x: Tensor) -> Tensor:
        return F.linear(self.quantised(x), self.matrix, self.grid_bias).float()

    def start(self, batch: int, width: int) -> WindowCache:
        return WindowCache(self.grid_weight * self.mask, self.grid_bias, self.mask, batch, width)

    def step(self, x: Tensor | None, cache: WindowCache | FrontCache, column: int) -> Tensor:
        return super().step(x, cache, column).float()

    def remember(self, x: Tensor, cache: WindowCache | FrontCache, column: int) -> None:
        cache.write(self.quantised(x), column)


class ExactFullConv2d(ExactProduct, FullConv2d):
    """`FullConv2d` with exact sums."""

    matrix: Tensor

    def __init__(self, layer: FullConv2d, grids: Grids) -> None:
        self.take_over(layer, grids)
        self.register_buffer("matrix", self.grid_weight.permute(0, 2, 3, 1).flatten(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        (height, width), side = x.shape[2:], self.kernel_size[0]
        padded = F.pad(self.quantised(x.permute(0, 2, 3, 1)), (0, 0, *[side // 2] * 4))
        taps = list(itertools.product(range(side), range(side)))
        return F.linear(gathered(padded, taps, height, width), self.matrix, self.grid_bias).float().permute(0, 3, 1, 2)


class ExactLayerNorm(ChannelLayerNorm):
    """`ChannelLayerNorm` from exact sums.

    With r the input as integers in units of 2^-bits, S₁ = Σr and S₂ = Σr² are exact, and so is n·S₂ − S₁², n² times the
    variance. What follows are single operations, which IEEE 754 rounds correctly everywhere: mean and reciprocal root
    for each pixel in float64, then difference, product, gain and bias for each channel in float32. Nothing is divided
    by a plain number, which CUDA would replace by a product with its rounded reciprocal.
    """

    inputs: Inputs
    carrier, limit = "float64", LIMITS["float64"]

    def __init__(self, layer: ChannelLayerNorm, inputs: Inputs, name: str) -> None:
        super().__init__(layer.normalized_shape, eps=layer.eps)
        self.weight, self.bias, self.inputs = layer.weight, layer.bias, inputs
        self.channels = self.normalized_shape[0]
        self.worst = (self.channels * max(inputs.high, -inputs.low)) ** 2  # of n·S₂, and of S₁²
        if self.worst > self.limit:
            raise ModelError(f"the layer {name} cannot be certified: its sums outgrow {self.carrier}'s {self.limit:,}")
        if not all(bool(number.isfinite().all()) for number in (self.weight, self.bias)):
            raise ModelError(f"the layer {name} holds numbers that are not finite: it cannot be made exact")

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def step(self, x: Tensor) -> Tensor:
        """(..., C) → the same shape."""
        n = self.channels
        r = self.inputs.quantise(x)
        wide = r.double()
        s1, s2 = wide.sum(-1, keepdim=True), wide.mul_(wide).sum(-1, keepdim=True)
        variance = s2 * n - s1 * s1
        inverse = (variance + self.eps * n * n * 4.0**self.inputs.bits).sqrt_().reciprocal_().mul_(n)
        return r.sub_((s1 * (1.0 / n)).float()).mul_(inverse.float()).mul_(self.weight).add_(self.bias)
