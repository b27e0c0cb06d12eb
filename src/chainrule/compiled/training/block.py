"""A whole residual block as compiled code, for training on a CPU: in float32, or bfloat16 where that is multiplied."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule.compiled.library import library
from chainrule.compiled.training import layer_passes as layers
from chainrule.compiled.training.layer_passes import call

COLUMNS = 32
"""The compiled products compute this many channels at a time."""
TAPS = [[1, 1, 1], [1, 1, 0]]
"""The connected taps of a 3×3 kernel of type B, down to the centre's row."""


def fits(x: Tensor, half: int) -> bool:
    """Whether the compiled block takes `x`, (B, filters, H, W), with `half` channels inside.

    It does on a CPU for channels_last memory, whole vectors of channels and at least one image for each thread, in
    bfloat16 if the processor multiplies it, and in float32 unless PyTorch is to compute in bfloat16.
    """
    return (
        layers.fits(x)
        and x.shape[1] % COLUMNS == half % COLUMNS == 0
        and len(x) >= torch.get_num_threads()
        and (bool(library().chainrule_multiplies()) if layers.is_bfloat16(x) else not torch.is_autocast_enabled("cpu"))  # type: ignore[union-attr]
    )


Three = tuple[Tensor, Tensor, Tensor]


def residual_block(x: Tensor, gain: Tensor, shift: Tensor, eps: float, weights: Three, biases: Three) -> Tensor:
    """x + W₃ relu(W₂ ⊛ relu(W₁ relu(norm(x)))) in the type of `x`, with sums in float32.

    Args:
        x: (B, C, H, W), which `fits`.
        gain, shift: of the layer norm, (C,); with `eps` added to the variance.
        weights: (half, C, 1, 1); (half, half, 2, 3), of which the last tap counts as 0; (C, half, 1, 1).
        biases: (half,), (half,), (C,).
    """
    y: Tensor = Block.apply(x, eps, gain, shift, *weights, *biases)  # type: ignore[no-untyped-call]
    return y


def by_pytorch(x: Tensor, eps: float, parameters: Sequence[Tensor]) -> Tensor:
    """The same by PyTorch's operations, in float32."""
    gain, shift, w1, w2, w3, b1, b2, b3 = parameters
    h = F.relu(F.layer_norm(x.permute(0, 2, 3, 1).float(), gain.shape, gain, shift, eps)).permute(0, 3, 1, 2)
    h = F.relu(F.conv2d(h, w1, b1))
    h = F.relu(F.conv2d(F.pad(h, (1, 1, 1, 0)), w2 * w2.new_tensor(TAPS), b2))
    return (x + F.conv2d(h, w3, b3)).to(x.dtype)


class Block(torch.autograd.Function):
    """The residual block; kept for the backward pass are its input and the outputs of the two narrow convolutions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, *parameters: Tensor) -> Tensor:
        batch, filters, height, width = x.shape
        threads, sizes = torch.get_num_threads(), (height, width, filters, len(parameters[2]))
        rooms = (ctypes.c_int64 * 3)()
        ctx.code = "chainrule_block" if layers.is_bfloat16(x) else "chainrule_block_float"
        call(ctx.code + "_room", *sizes, rooms)
        ctx.numbers, ctx.room = (threads, batch, *sizes, eps), rooms[1]
        y, moments = torch.empty_like(x), x.new_empty(batch, height * width, 2, dtype=torch.float32)
        narrow, scratch = x.new_empty(batch, rooms[2]), x.new_empty(threads, rooms[0])
        call(ctx.code, *ctx.numbers, x, *as_read(parameters), packed(x, parameters), moments, narrow, y, scratch)
        ctx.save_for_backward(x, *parameters, moments, narrow)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters, moments, narrow = ctx.saved_tensors
        if layers.by_pytorch(grad):
            found = layers.gradients(lambda x, *rest: by_pytorch(x, ctx.numbers[-1], rest), [x, *parameters], grad)
            return found[0], None, *found[1:]
        threads, x_grad, grad = ctx.numbers[0], torch.empty_like(x), layers.channels_last(grad)
        sums = x.new_zeros(threads, sum(p.numel() for p in parameters), dtype=torch.float32)
        scratch, kept = x.new_empty(threads, ctx.room), (packed(x, parameters), moments, narrow)
        call(ctx.code + "_back", *ctx.numbers, x, *as_read(parameters), *kept, grad, x_grad, sums, scratch)
        parts = zip(sums[0].split([p.numel() for p in parameters]), parameters, strict=True)
        return x_grad, None, *(part if p.dim() == 1 else kernel(part, p) for part, p in parts)


def as_read(parameters: Sequence[Tensor]) -> list[Tensor]:
    """In the memory order in which the compiled code reads them; usually their own."""
    return [layers.channels_last(p) if p.dim() == 4 else p.contiguous() for p in parameters]


def kernel(numbers: Tensor, like: Tensor) -> Tensor:
    """Numbers in channels_last order, in the shape of a convolution's kernel."""
    outputs, inputs, height, width = like.shape
    return numbers.view(outputs, height, width, inputs).permute(0, 3, 1, 2)


def packed(x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Room for the matrices as the products read them."""
    return x.new_empty(sum(p.numel() for p in parameters if p.dim() == 4))
