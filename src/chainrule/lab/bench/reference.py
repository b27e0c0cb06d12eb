"""A PixelCNN-MADE as it is usually written: full masked kernels, float32, NCHW. The yardstick of the benchmarks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.nn import MaskedConv2d, MaskedLinear


def covers(model: Any) -> bool:
    """Whether the plain network below can be the same function as this model: few levels and layer norm."""
    config = model.config
    return config["class"] == "PixelCNNMADE" and config["layer_norm"] and bool(model.encoding.one_hot)


class FullConv2d(nn.Conv2d):
    """A convolution whose kernel is whole and multiplied by a mask of the same size."""

    mask: Tensor

    def __init__(self, ours: MaskedConv2d) -> None:
        super().__init__(ours.in_channels, ours.out_channels, ours.kernel, padding=ours.kernel // 2)
        rows = ours.mask.shape[0]
        self.register_buffer("mask", F.pad(ours.mask, (0, 0, 0, ours.kernel - rows)).float())
        with torch.no_grad():
            self.weight.copy_(F.pad(ours.weight, (0, 0, 0, ours.kernel - rows)))
            assert self.bias is not None
            self.bias.copy_(ours.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class FullLinear(nn.Linear):
    """A linear layer with a mask."""

    mask: Tensor

    def __init__(self, ours: MaskedLinear) -> None:
        super().__init__(ours.weight.shape[1], ours.weight.shape[0])
        self.register_buffer("mask", ours.mask.float())
        with torch.no_grad():
            self.weight.copy_(ours.weight)
            self.bias.copy_(ours.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class PlainPixelCNNMADE(nn.Module):
    """The same function as a PixelCNNMADE, with copies of its weights.

    Args:
        ours: one with few levels and layer norm, as the assignment's.
    """

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.levels, self.channels, self.dims = ours.levels, ours.shape[0], ours.dims
        trunk, made = ours.trunk, ours.head.made
        self.input = FullConv2d(trunk.input)
        self.norms, self.convolutions = nn.ModuleList(), nn.ModuleList()
        for block in trunk.blocks:
            self.norms.append(copied(block.norm))
            layers = (block.reduce, block.spatial, block.expand)
            self.convolutions.append(nn.ModuleList(FullConv2d(layer) for layer in layers))
        self.norm, self.hidden = copied(trunk.norm), FullConv2d(trunk.hidden)
        self.first, self.last = FullLinear(made.layers[0]), FullLinear(made.output)
        outputs, inputs = made.from_auxiliary.weight.shape
        self.auxiliary = nn.Linear(inputs, outputs, bias=False)
        self.auxiliary.load_state_dict(made.from_auxiliary.state_dict())

    def logits(self, x: Tensor) -> Tensor:
        """Integers (B, C, H, W) → (B, H, W, C, levels)."""
        hot = F.one_hot(x.long(), self.levels).to(self.input.weight.dtype).permute(0, 2, 3, 1, 4).flatten(3)
        h = self.input(hot.permute(0, 3, 1, 2).contiguous())
        for norm, layers in zip(self.norms, self.convolutions, strict=True):
            reduce, spatial, expand = layers  # type: ignore[misc]
            y = reduce(F.relu(over_channels(norm, h)))  # type: ignore[has-type]
            h = h + expand(F.relu(spatial(F.relu(y))))  # type: ignore[has-type]
        h = F.relu(self.hidden(F.relu(over_channels(self.norm, h))))
        units = F.relu(self.first(hot) + self.auxiliary(h.permute(0, 2, 3, 1)))
        return self.last(units).unflatten(-1, (self.channels, self.levels))

    def forward(self, x: Tensor) -> Tensor:
        """The mean negative log-likelihood, nats per dimension."""
        logits = self.logits(x)
        return F.cross_entropy(logits.flatten(0, -2), x.permute(0, 2, 3, 1).flatten().long())


def copied(norm: nn.Module | None) -> nn.LayerNorm:
    """The same layer norm, as PyTorch has it."""
    assert isinstance(norm, nn.LayerNorm)
    result = nn.LayerNorm(norm.normalized_shape, norm.eps)
    result.load_state_dict(norm.state_dict())
    return result


def over_channels(norm: nn.Module, x: Tensor) -> Tensor:
    """A norm of the last dimension for NCHW."""
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
