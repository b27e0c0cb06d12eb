"""The models, one a file. `REGISTRY` maps the class names that config.json holds to the classes."""

from chainrule.models.base import AutoregressiveModel
from chainrule.models.conditional_mlp import ConditionalMLP
from chainrule.models.gated_pixelcnn import GatedPixelCNN
from chainrule.models.gated_pixelcnn_made import GatedPixelCNNMADE
from chainrule.models.grayscale_pixelcnn import GrayscalePixelCNN
from chainrule.models.histogram import Histogram
from chainrule.models.image import ImageModel
from chainrule.models.image_gpt import ImageGPT
from chainrule.models.logistic_pixelcnn import LogisticPixelCNN
from chainrule.models.made import MADE
from chainrule.models.pixel_iqn import PixelIQN
from chainrule.models.pixel_snail import PixelSNAIL
from chainrule.models.pixelcnn import PixelCNN
from chainrule.models.pixelcnn_made import PixelCNNMADE

CLASSES = (
    Histogram,
    ConditionalMLP,
    MADE,
    ImageModel,
    PixelCNN,
    PixelCNNMADE,
    GatedPixelCNN,
    GatedPixelCNNMADE,
    GrayscalePixelCNN,
    LogisticPixelCNN,
    ImageGPT,
    PixelSNAIL,
    PixelIQN,
)
REGISTRY: dict[str, type[AutoregressiveModel]] = {cls.__name__: cls for cls in CLASSES}

__all__ = [
    "MADE",
    "REGISTRY",
    "AutoregressiveModel",
    "ConditionalMLP",
    "GatedPixelCNN",
    "GatedPixelCNNMADE",
    "GrayscalePixelCNN",
    "Histogram",
    "ImageGPT",
    "ImageModel",
    "LogisticPixelCNN",
    "PixelCNN",
    "PixelCNNMADE",
    "PixelIQN",
    "PixelSNAIL",
]
