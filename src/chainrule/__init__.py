"""chainrule: autoregressive models of discrete data.

`p(x) = ∏ p(x_i | x_<i)`: exact likelihoods, fast exact sampling, one loop for everything.

>>> import torch, chainrule as cr
>>> model = cr.MADE((2,), levels=4)
>>> x = model.sample(3, generator=torch.Generator().manual_seed(0))
>>> model.log_prob(x).shape
torch.Size([3])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainrule import lazily

if TYPE_CHECKING:
    from chainrule.codec import compress, decompress
    from chainrule.errors import ChainruleError, CodecError, DataError, ModelError
    from chainrule.evaluation import bits_per_dim
    from chainrule.fixedpoint import exact
    from chainrule.models import (
        MADE,
        ConditionalMLP,
        GatedPixelCNN,
        GatedPixelCNNMADE,
        GrayscalePixelCNN,
        Histogram,
        ImageGPT,
        ImageModel,
        LogisticPixelCNN,
        PixelCNN,
        PixelCNNMADE,
        PixelIQN,
        PixelSNAIL,
    )
    from chainrule.training.config import TrainConfig
    from chainrule.training.fitting import fit
    from chainrule.version import __version__
    from chainrule.zoo import load

# Names are imported when they are first used, so that `chainrule --help` need not wait for PyTorch.
_HOMES = {
    "__version__": "version",
    "ChainruleError": "errors",
    "CodecError": "errors",
    "ConditionalMLP": "models",
    "DataError": "errors",
    "GatedPixelCNN": "models",
    "GatedPixelCNNMADE": "models",
    "GrayscalePixelCNN": "models",
    "Histogram": "models",
    "ImageGPT": "models",
    "ImageModel": "models",
    "LogisticPixelCNN": "models",
    "MADE": "models",
    "ModelError": "errors",
    "PixelCNN": "models",
    "PixelCNNMADE": "models",
    "PixelIQN": "models",
    "PixelSNAIL": "models",
    "TrainConfig": "training",
    "bits_per_dim": "evaluation",
    "compress": "codec",
    "decompress": "codec",
    "exact": "fixedpoint",
    "fit": "training",
    "load": "zoo",
}
__getattr__ = lazily.names_of(__name__, _HOMES)

__all__ = [
    "MADE",
    "ChainruleError",
    "CodecError",
    "ConditionalMLP",
    "DataError",
    "GatedPixelCNN",
    "GatedPixelCNNMADE",
    "GrayscalePixelCNN",
    "Histogram",
    "ImageGPT",
    "ImageModel",
    "LogisticPixelCNN",
    "ModelError",
    "PixelCNN",
    "PixelCNNMADE",
    "PixelIQN",
    "PixelSNAIL",
    "TrainConfig",
    "__version__",
    "bits_per_dim",
    "compress",
    "decompress",
    "exact",
    "fit",
    "load",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
