"""chainrule: autoregressive models of discrete data.

`p(x) = ∏ p(x_i | x_<i)`: exact likelihoods, fast exact sampling, lossless compression.

>>> import torch, chainrule as cr
>>> model = cr.MADE((2,), levels=4)
>>> x = model.sample(3, generator=torch.Generator().manual_seed(0))
>>> model.log_prob(x).shape
torch.Size([3])
"""

from importlib import metadata

from chainrule.errors import ChainruleError, CodecError, DataError, ModelError
from chainrule.evaluation import bits_per_dim
from chainrule.models import MADE, ConditionalMLP, Histogram, PixelCNN, PixelCNNMADE
from chainrule.training import TrainConfig, fit
from chainrule.zoo import load

try:
    __version__ = metadata.version("chainrule")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "MADE",
    "ChainruleError",
    "CodecError",
    "ConditionalMLP",
    "DataError",
    "Histogram",
    "ModelError",
    "PixelCNN",
    "PixelCNNMADE",
    "TrainConfig",
    "__version__",
    "bits_per_dim",
    "fit",
    "load",
]
