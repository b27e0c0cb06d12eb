"""Layer normalisation that is safe in an autoregressive network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.nn import passes


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of one pixel, and nothing else.

    Statistics over height and width, as the usual layer or instance normalisation of images takes them, would carry
    later pixels into earlier ones.

    Reference: Ba et al., Layer Normalization, 2016, https://arxiv.org/abs/1607.06450
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape; in channels_last memory nothing is moved."""
        y = passes.of(self, "forward")(self, x)
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if y is None else y

    def activated(self, x: Tensor) -> Tensor:
        """ReLU of `forward`."""
        y = passes.of(self, "activated")(self, x)
        return F.relu(self(x)) if y is None else y

    def step(self, x: Tensor) -> Tensor:
        """One pixel: (B, C) → the same shape."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
