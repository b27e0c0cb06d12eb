"""Masked layers, and trunks made of them. Layers that see neighbours have both a pass over images and single steps."""

from chainrule.nn.attention import AttentionBlock, AttentionLayer, CausalAttention
from chainrule.nn.attention_trunk import AttentionTrunk
from chainrule.nn.conv import MaskedConv2d, WindowCache
from chainrule.nn.encoding import LevelEncoding, one_hot
from chainrule.nn.full import FullConv2d, ImageEncoder
from chainrule.nn.gated import Gate, GatedBlock
from chainrule.nn.gated_trunk import GatedTrunk
from chainrule.nn.least_squares import PREDICTIONS, LocalLeastSquares
from chainrule.nn.linear import MaskedLinear
from chainrule.nn.made_network import MADENetwork
from chainrule.nn.masked_trunk import MaskedTrunk
from chainrule.nn.norm import ChannelLayerNorm
from chainrule.nn.prediction import PredictingTrunk
from chainrule.nn.residual import ResidualBlock
from chainrule.nn.snail_trunk import SnailTrunk
from chainrule.nn.stacks import LeftCache, LeftConv2d, RowCache, RowConv2d
from chainrule.nn.trunk import Trunk

__all__ = [
    "PREDICTIONS",
    "AttentionBlock",
    "AttentionLayer",
    "AttentionTrunk",
    "CausalAttention",
    "ChannelLayerNorm",
    "FullConv2d",
    "Gate",
    "GatedBlock",
    "GatedTrunk",
    "ImageEncoder",
    "LeftCache",
    "LeftConv2d",
    "LevelEncoding",
    "LocalLeastSquares",
    "MADENetwork",
    "MaskedConv2d",
    "MaskedLinear",
    "MaskedTrunk",
    "PredictingTrunk",
    "ResidualBlock",
    "RowCache",
    "RowConv2d",
    "SnailTrunk",
    "Trunk",
    "WindowCache",
    "one_hot",
]
