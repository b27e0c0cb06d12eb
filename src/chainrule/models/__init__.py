"""The models, one a file. `REGISTRY` maps the class names that config.json holds to the classes."""

from chainrule.models.base import AutoregressiveModel, Site
from chainrule.models.conditional_mlp import ConditionalMLP
from chainrule.models.histogram import Histogram
from chainrule.models.made import MADE
from chainrule.models.pixelcnn import PixelCNN
from chainrule.models.pixelcnn_made import PixelCNNMADE

REGISTRY: dict[str, type[AutoregressiveModel]] = {
    cls.__name__: cls for cls in (Histogram, ConditionalMLP, MADE, PixelCNN, PixelCNNMADE)
}

__all__ = ["MADE", "REGISTRY", "AutoregressiveModel", "ConditionalMLP", "Histogram", "PixelCNN", "PixelCNNMADE", "Site"]
