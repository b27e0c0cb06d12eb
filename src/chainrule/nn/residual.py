"""The residual block of PixelCNN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.compiled import Program, block, known
from chainrule.nn.conv import MaskedConv2d, WindowCache
from chainrule.nn.norm import ChannelLayerNorm


@known
class ResidualBlock(nn.Module):
    """`x + W₃ relu(W₂ ⊛ relu(W₁ relu(norm(x))))`: masked 1×1, 3×3 and 1×1 convolutions of type B.

    Figure 5 of the paper: the 3×3 convolution works on half of the channels. With `layer_norm`, the block's input is
    normalised over its channels first. `depth` is the number of blocks in the stack: the last convolution starts
    smaller by its square root, so that the residual stream has the same size whatever the depth.

    Reference: van den Oord et al., Pixel Recurrent Neural Networks, 2016, https://arxiv.org/abs/1601.06759
    """

    def __init__(self, filters: int, *, layer_norm: bool = True, depth: int = 1) -> None:
        super().__init__()
        half = max(filters // 2, 1)
        self.norm = ChannelLayerNorm(filters) if layer_norm else None
        self.reduce = MaskedConv2d(filters, half, 1, "B")
        self.spatial = MaskedConv2d(half, half, 3, "B")
        self.expand = MaskedConv2d(half, filters, 1, "B")
        nn.init.zeros_(self.expand.bias)
        self.expand.weight.data.mul_(depth**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, filters, H, W) → the same shape."""
        if self._compiled(x):
            assert self.norm is not None
            weights = self.reduce.weight, self.spatial.weight, self.expand.weight
            biases = self.reduce.bias, self.spatial.bias, self.expand.bias
            return block.residual_block(x, self.norm.weight, self.norm.bias, self.norm.eps, weights, biases)
        h = F.relu(x) if self.norm is None else self.norm.activated(x)
        h = self.spatial.activated(self.reduce(h))
        return self.expand.activated(h).add_(x)

    def _compiled(self, x: Tensor) -> bool:
        """Whether the whole block is one piece of compiled code."""
        if self.norm is None or not block.fits(x, self.reduce.out_channels):
            return False
        convolutions, parameters = (self.reduce, self.spatial, self.expand), list(self.parameters())
        usual = type(self.norm) is ChannelLayerNorm and all(type(layer) is MaskedConv2d for layer in convolutions)
        usual = usual and [(layer.kernel, layer.mask_type) for layer in convolutions] == [(1, "B"), (3, "B"), (1, "B")]
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        watched = any(getattr(layer, name) for layer in self.children() for name in hooks)  # pruning is a hook, too
        given = len(parameters) == 8 and all((p.device, p.dtype) == (x.device, torch.float32) for p in parameters)
        return usual and given and not watched

    def add_to(self, program: Program, stream: int) -> None:
        """Add the block to the program of a compiled walk, whose residual stream lies at `stream`."""
        filters, half = self.reduce.in_channels, self.reduce.out_channels
        with program.passing():
            h = stream
            if self.norm is not None:
                h = program.vector(filters)
                program.norm(self.norm, stream, h)
            positive, narrow = program.vector(filters), program.vector(half)
            program.activate(self.reduce, h, positive, filters)
            window = self.spatial.window_in(program)
            program.activate(self.spatial, self.reduce.add_to(program, positive), window, half)
            program.activate(self.expand, self.spatial.add_to(program, window), narrow, half)
            program.add(self.expand.add_to(program, narrow), stream, filters)

    def start(self, batch: int, height: int, width: int) -> WindowCache:
        """The block's cache: that of its only convolution that sees neighbours."""
        return self.spatial.start(batch, height, width)

    def step(self, x: Tensor, cache: WindowCache, column: int) -> Tensor:
        """(B, filters) at one pixel → the same shape."""
        h = x if self.norm is None else self.norm.step(x)
        h = self.reduce.pointwise(F.relu(h)).relu_()
        h = self.spatial.step(h, cache, column).relu_()
        return x + self.expand.pointwise(h)
