"""The residual block of PixelCNN."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.nn import passes
from chainrule.nn.conv import MaskedConv2d, WindowCache
from chainrule.nn.fronts import FrontCache, Fronts
from chainrule.nn.norm import ChannelLayerNorm


class ResidualBlock(nn.Module):
    """`x + W₃ relu(W₂ ⊛ relu(W₁ relu(norm(x))))`: masked 1×1, 3×3 and 1×1 convolutions of type B.

    Figure 5 of the paper: the 3×3 convolution works on half of the channels. With `layer_norm`, the block's input is
    normalised over its channels first. `depth` is the number of blocks in the stack: the last convolution starts
    smaller by its square root, so that the residual stream has the same size whatever the depth.

    Reference: van den Oord et al., Pixel Recurrent Neural Networks, 2016, https://arxiv.org/abs/1601.06759
    """

    composes_exactly = True

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
        if (y := passes.of(self, "forward")(self, x)) is not None:
            return y
        h = F.relu(x) if self.norm is None else self.norm.activated(x)
        h = self.spatial.activated(self.reduce(h))
        return self.expand.activated(h).add_(x)

    def start(self, batch: int, width: int) -> WindowCache:
        """The block's cache: that of its only convolution that sees neighbours."""
        return self.spatial.start(batch, width)

    def start_fronts(self, fronts: Fronts) -> FrontCache:
        """The same for a walk over fronts."""
        return self.spatial.start_fronts(fronts)

    def step(self, x: Tensor, cache: WindowCache | FrontCache, column: int) -> Tensor:
        """(B, filters) at one pixel → the same shape."""
        h = x if self.norm is None else self.norm.step(x)
        h = self.reduce.pointwise(F.relu(h)).relu_()
        h = self.spatial.step(h, cache, column).relu_()
        return x + self.expand.pointwise(h)
