"""Layer normalisation that is safe in an autoregressive network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.compiled import known, layers


@known
class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of one pixel, and nothing else.

    Statistics over height and width, as the usual layer or instance normalisation of images takes them, would carry
    later pixels into earlier ones.

    Reference: Ba et al., Layer Normalization, 2016, https://arxiv.org/abs/1607.06450
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape; in channels_last memory nothing is moved."""
        if self._compiled(x):
            return layers.layer_norm(x, self.weight, self.bias, self.eps)
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def activated(self, x: Tensor) -> Tensor:
        """ReLU of `forward`, in one pass where there is compiled code for it."""
        if type(self).forward is ChannelLayerNorm.forward and self._compiled(x):  # a subclass may have its own
            return layers.layer_norm(x, self.weight, self.bias, self.eps, relu=True)
        return F.relu(self(x))

    def _compiled(self, x: Tensor) -> bool:
        affine = (self.weight, self.bias)  # either may be missing
        return layers.fits(x) and all(
            p is not None and p.shape == x.shape[1:2] and (p.device, p.dtype) == (x.device, torch.float32)
            for p in affine
        )

    def step(self, x: Tensor) -> Tensor:
        """(B, C), one pixel → the same shape."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
