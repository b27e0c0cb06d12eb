"""How the golden archives were made; they are kept as they are, so that later versions must still read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from chainrule.codec import compress
from chainrule.models import Histogram, PixelCNNMADE

HERE = Path(__file__).parent


def histogram_events():
    """300 events of 7 levels, made of whole numbers."""
    return (np.arange(300) ** 2 * 13 // 7 % 11 % 7).astype(np.uint8)[:, None]


def pictures():
    """20 pictures of 4×5 pixels, one channel and 3 levels."""
    return (np.arange(20 * 4 * 5) ** 2 // 5 % 3).astype(np.uint8).reshape(20, 4, 5)


def models():
    """A histogram and a PixelCNN-MADE whose weights are small fractions, the same on every machine."""
    histogram, pixels = Histogram(7), PixelCNNMADE((1, 4, 5), 3, filters=4, blocks=1)
    for model in (histogram, pixels):
        with torch.no_grad():
            for number, parameter in enumerate(model.parameters()):
                place = torch.arange(parameter.numel()) + 31 * number
                parameter.copy_((((place * 2654435761 % 2**32) // 2**20).float() / 4096 - 0.5).view(parameter.shape))
    return histogram, pixels


if __name__ == "__main__":
    histogram, pixels = models()
    (HERE / "histogram.crz").write_bytes(compress(histogram, histogram_events(), embed_model=True, chunk=128))
    (HERE / "pixelcnn-made.crz").write_bytes(compress(pixels, pictures(), embed_model=True))
