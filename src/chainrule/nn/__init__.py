"""Masked layers. A layer that sees neighbours has `forward` (whole image) and `step` (one pixel, cached)."""

from chainrule.nn.conv import MaskedConv2d, WindowCache
from chainrule.nn.encoding import one_hot
from chainrule.nn.full import FullConv2d, ImageEncoder
from chainrule.nn.gated import Gate, GatedBlock, GatedCache
from chainrule.nn.linear import MaskedLinear
from chainrule.nn.made_network import MADENetwork
from chainrule.nn.norm import ChannelLayerNorm
from chainrule.nn.residual import ResidualBlock
from chainrule.nn.stacks import LeftCache, LeftConv2d, RowCache, RowConv2d

__all__ = [
    "ChannelLayerNorm",
    "FullConv2d",
    "Gate",
    "GatedBlock",
    "GatedCache",
    "ImageEncoder",
    "LeftCache",
    "LeftConv2d",
    "MADENetwork",
    "MaskedConv2d",
    "MaskedLinear",
    "ResidualBlock",
    "RowCache",
    "RowConv2d",
    "WindowCache",
    "one_hot",
]
