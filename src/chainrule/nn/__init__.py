"""Masked layers. A layer that sees neighbours has `forward` (whole image) and `step` (one pixel, cached)."""

from chainrule.nn.conv import MaskedConv2d, WindowCache
from chainrule.nn.encoding import one_hot
from chainrule.nn.linear import MaskedLinear
from chainrule.nn.made import MADENetwork
from chainrule.nn.norm import ChannelLayerNorm
from chainrule.nn.residual import ResidualBlock

__all__ = ["ChannelLayerNorm", "MADENetwork", "MaskedConv2d", "MaskedLinear", "ResidualBlock", "WindowCache", "one_hot"]
