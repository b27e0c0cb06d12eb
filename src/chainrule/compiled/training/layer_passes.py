"""What stands between convolutions as compiled code, for training on a CPU: one pass over memory each way.

In mixed precision PyTorch casts to float32 before a layer norm and back after it, and takes ReLU, tanh, σ and
their product one after the other. For networks of few filters these passes cost more than the convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule.compiled.library import available, library
from chainrule.nn.least_squares import MOST_LEVELS, MOST_PREDICTED
from chainrule.nn.surroundings import FAR, NEAR

MOST_CHANNELS = 1024
MOST_ROWS = 64
SHARE = 1 << 14
"""Numbers that are worth a thread of their own."""


def fits(x: Tensor) -> bool:
    """Whether the compiled layers take `x`, (B, C, H, W): on a CPU, in channels_last memory, float32 or bfloat16."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.dim() == 4
        and 0 < x.shape[1] <= MOST_CHANNELS
        and x.permute(0, 2, 3, 1).is_contiguous()
        and plain()
        and available()
    )


def plain() -> bool:
    """Whether operations are just carried out, neither compiled nor transformed by `torch.func`."""
    return not (torch.compiler.is_compiling() or transformed())


def transformed() -> bool:
    return bool(torch._C._are_functorch_transforms_active())


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float, *, relu: bool = False) -> Tensor:
    """Layer normalisation over the channels of a pixel, then ReLU if asked for, in the type of `x`.

    Args:
        x: (B, C, H, W), which `fits`.
        gain, bias: (C,), float32.
        eps: added to the variance.
        relu: whether negative outputs become 0.

    >>> x = torch.tensor([[[[1.0]], [[3.0]]]])
    >>> layer_norm(x, torch.ones(2), torch.zeros(2), 0.0, relu=True).flatten().tolist()
    [0.0, 1.0]
    """
    y: Tensor = LayerNorm.apply(x, gain, bias, eps, relu)  # type: ignore[no-untyped-call]
    return y


def gate(x: Tensor) -> Tensor:
    """tanh(a) · σ(b) of the two halves of the channels: (B, 2 · filters, H, W), which `fits` → (B, filters, H, W)."""
    y: Tensor = Gate.apply(x)  # type: ignore[no-untyped-call]
    return y


def relu_pad(x: Tensor, border: int) -> Tensor:
    """ReLU, then a border of zeros above, left and right: (B, C, H, W), which `fits` → (B, C, border + H, …)."""
    y: Tensor = ReLUPad.apply(x, border)  # type: ignore[no-untyped-call]
    return y


def lookup_fits(v: Tensor, variables: int, levels: int, table: Tensor, plus: Tensor) -> bool:
    """Whether `lookup_relu` takes these: few rows, of which every thread keeps sums; all on a CPU.

    Values (..., D) that are no levels, and what would need broadcasting to `plus`, (..., units), are left to PyTorch.
    """
    return (
        plus.device.type == v.device.type == table.device.type == "cpu"
        and plus.dtype in (torch.float32, torch.bfloat16)
        and table.dtype == torch.float32
        and variables * levels <= MOST_ROWS
        and plus.is_contiguous()
        and v.shape == (*plus.shape[:-1], variables)
        and plain()
        and available()
        and not bool(((v < 0) | (v >= levels)).any())
    )


def lookup_relu(v: Tensor, table: Tensor, bias: Tensor, plus: Tensor) -> Tensor:
    """relu(bias + Σ_d table[d, v_d] + plus), in the type of `plus`: a layer of one-hot vectors, without multiplying.

    Args:
        v: integers (N, D), each in 0 … L - 1.
        table: (D, L, units), float32.
        bias: (units,), float32.
        plus: (N, units), which `lookup_fits`.

    >>> table = torch.tensor([[[1.0], [2.0]], [[10.0], [-20.0]]])
    >>> lookup_relu(torch.tensor([[1, 0], [1, 1]]), table, torch.zeros(1), torch.ones(2, 1)).tolist()
    [[13.0], [0.0]]
    """
    variables, levels, _ = table.shape
    row = (v + torch.arange(0, variables * levels, levels, device=v.device)).contiguous()
    y: Tensor = Lookup.apply(row, table.flatten(0, 1).contiguous(), bias.contiguous(), plus)  # type: ignore[no-untyped-call]
    return y


def shares(numbers: int) -> int:
    """Threads for a pass over so many numbers."""
    return max(1, min(torch.get_num_threads(), numbers // SHARE))


def call(name: str, *arguments: Any) -> None:
    """Call a function of the compiled code; a tensor is passed by its address."""
    getattr(library(), name)(*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))


class LayerNorm(torch.autograd.Function):
    """Layer norm and, after it, ReLU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, eps: float, relu: bool) -> Tensor:
        pixels, channels = x.numel() // x.shape[1], x.shape[1]
        gain, bias = gain.contiguous(), bias.contiguous()
        y, moments = torch.empty_like(x), x.new_empty(pixels, 2, dtype=torch.float32)
        numbers = shares(x.numel()), pixels, channels, is_bfloat16(x)
        call("chainrule_norm", *numbers, relu, eps, x, gain, bias, y, moments)
        ctx.save_for_backward(x, gain, bias, moments)
        ctx.eps, ctx.relu = eps, relu
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, bias, moments = ctx.saved_tensors
        if by_pytorch(grad):

            def norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
                y = F.layer_norm(x.permute(0, 2, 3, 1).float(), gain.shape, gain, bias, ctx.eps)
                return (F.relu(y) if ctx.relu else y).permute(0, 3, 1, 2).to(x.dtype)

            return *gradients(norm, [x, gain, bias], grad), None, None
        count, channels, grad = shares(x.numel()), x.shape[1], channels_last(grad)
        x_grad, sums = torch.empty_like(x), gain.new_zeros(count, 2, channels)
        numbers = count, x.numel() // channels, channels, is_bfloat16(x), ctx.relu
        call("chainrule_norm_back", *numbers, x, gain, bias, moments, grad, x_grad, sums)
        gain_grad, bias_grad = sums.sum(0)
        return x_grad, gain_grad, bias_grad, None, None


class Gate(torch.autograd.Function):
    """The product of the halves' tanh and σ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        y = x.new_empty(batch, height, width, channels // 2).permute(0, 3, 1, 2)
        call("chainrule_gate", *Gate.numbers(x), x, None, y)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor | None:
        (x,) = ctx.saved_tensors
        if by_pytorch(grad):
            return gradients(lambda x: x.chunk(2, 1)[0].tanh() * x.chunk(2, 1)[1].sigmoid(), [x], grad)[0]
        x_grad, grad = torch.empty_like(x), channels_last(grad)
        call("chainrule_gate", *Gate.numbers(x), x, grad, x_grad)
        return x_grad

    @staticmethod
    def numbers(x: Tensor) -> tuple[int, ...]:
        return shares(x.numel()), x.numel() // x.shape[1], x.shape[1] // 2, is_bfloat16(x)


class ReLUPad(torch.autograd.Function):
    """ReLU inside a border; only the output is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, border: int) -> Tensor:
        batch, channels, height, width = x.shape
        y = x.new_empty(batch, border + height, width + 2 * border, channels).permute(0, 3, 1, 2)
        ctx.numbers = shares(x.numel()), batch, height, width, channels, is_bfloat16(x), border
        call("chainrule_relu_pad", *ctx.numbers, x, None, y)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        _, batch, height, width, channels, _, border = ctx.numbers
        if by_pytorch(grad):
            inner = (..., slice(border, None), slice(border, border + width))
            return grad[inner] * (y[inner] > 0), None
        x_grad = y.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)
        grad = channels_last(grad)
        call("chainrule_relu_pad", *ctx.numbers, grad, y, x_grad)
        return x_grad, None


class Lookup(torch.autograd.Function):
    """Rows of a table, looked up and added to what there is, then ReLU."""

    @staticmethod
    def forward(ctx: Any, row: Tensor, table: Tensor, bias: Tensor, plus: Tensor) -> Tensor:
        y = torch.empty_like(plus)
        ctx.numbers = shares(plus.numel()), *plus.shape, is_bfloat16(plus), row.shape[1], len(table)
        call("chainrule_lookup", *ctx.numbers, row, table, bias, plus, y)
        ctx.save_for_backward(row, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        row, y = ctx.saved_tensors
        count, _, units, _, variables, rows = ctx.numbers
        if by_pytorch(grad):
            grad = grad * (y > 0)
            chosen = F.one_hot(row, rows).sum(1).float()  # (N, rows)
            return None, chosen.T @ grad.float(), grad.float().sum(0), grad
        grad = grad.contiguous()
        plus_grad, sums = torch.empty_like(y), y.new_zeros(count, rows, units, dtype=torch.float32)
        call("chainrule_lookup_back", *ctx.numbers, row, y, grad, plus_grad, sums)
        table_grad = sums.sum(0)
        # Every event has one row of the first variable, and each adds the bias.
        return None, table_grad, table_grad[: rows // variables].sum(0), plus_grad


def by_pytorch(grad: Tensor) -> bool:
    """In the backward pass: whether gradients are differentiated in turn, or taken of many outputs at once."""
    return torch.is_grad_enabled() or transformed() or bool(torch._C._functorch.is_legacy_batchedtensor(grad))


def gradients(plain: Callable[..., Tensor], inputs: list[Tensor], grad: Tensor) -> list[Tensor | None]:
    """Gradients of PyTorch's own operations `plain`, for each input that needs one."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        wanted = [x for x in inputs if x.requires_grad]
        found = iter(torch.autograd.grad(plain(*inputs), wanted, grad, create_graph=again))
    return [next(found) if x.requires_grad else None for x in inputs]


def is_bfloat16(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16


def channels_last(x: Tensor) -> Tensor:
    """The same numbers with a pixel's channels side by side."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def squares_fit(layer: Any, u: Tensor) -> bool:
    """Whether `squares` takes pixels in half-bins, (B, C, H, W): sums of products must not outgrow 32 bits."""
    small = layer.levels <= MOST_LEVELS and layer.channels <= MOST_PREDICTED
    return small and (layer.by, layer.alone) in ((NEAR, True), (FAR, False)) and plain() and available()


def squares(layer: Any, u: Tensor) -> Tensor:
    """The numbers of local least squares, float32: pixels in half-bins (B, C, H, W) → (B, numbers, H, W).

    For pixels on a GPU, too, the CPU computes them: its threads finish sooner than the many small kernels would.
    """
    batch, channels, height, width = u.shape
    x = ((u.double() + (layer.levels - 1)) / 2).round().long().cpu().contiguous()
    numbers = layer.predictions * channels + channels * (channels - 1) // 2
    to, weights = torch.empty(batch, height, width, numbers), layer.weights.long().cpu()
    given = shares(x.numel() * 64), layer.by == FAR, batch, channels, layer.levels, height, width, numbers
    code: Any = library()
    if x.numel() and code.chainrule_squares(*given, x.data_ptr(), weights.data_ptr(), to.data_ptr()):
        raise MemoryError
    return to.to(u.device).permute(0, 3, 1, 2)
