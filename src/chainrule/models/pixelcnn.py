"""PixelCNN: a stack of masked convolutions over an image.

    p(x) = ∏_i p(x_i | x_<i) = ∏_i ∏_c p(x_i^c | x_<i)                          (assignment, equation 2)

Autoregressive over the pixels in raster order, factorised over the channels of a pixel. A 7×7 masked convolution of
type A, `blocks` residual blocks of type-B convolutions (1×1, 3×3, 1×1), and two 1×1 convolutions to the logits, with
ReLU throughout: Table 1 of the paper.

Deviations from the paper: channels are never split by colour, since each pixel's channels are independent here and are
tied together by a MADE in `PixelCNNMADE`; layer normalisation over the channels of a pixel before every block; few
levels enter as one-hot vectors, many as one scaled number a channel. Masked 3×3 convolutions leave a blind spot to the
right above each pixel (Figure 1 of the Gated PixelCNN paper), and so does this model.

Reference: van den Oord et al., Pixel Recurrent Neural Networks, 2016, https://arxiv.org/abs/1601.06759
"""

from __future__ import annotations

from chainrule.models.image import ImageModel


class PixelCNN(ImageModel):
    """PixelCNN with the channels of a pixel independent of each other.

    Args:
        shape: (C, H, W).
        levels: values of every channel, 0 … levels - 1.
        filters: channels of the residual stream; the 3×3 convolutions work on half of them.
        blocks: residual blocks, each of which widens the receptive field by one pixel.
        layer_norm: normalise over the channels of a pixel before every block.

    Raises:
        ModelError: the shape is no image's, or no such network can be made.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = PixelCNN((1, 4, 4), 2, filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> x.shape, model.log_prob(x).shape
        (torch.Size([2, 1, 4, 4]), torch.Size([2]))
    """

    composes_exactly = True

    def __init__(
        self,
        shape: tuple[int, int | None, int | None],
        levels: int,
        filters: int = 128,
        blocks: int = 12,
        layer_norm: bool = True,
    ) -> None:
        super().__init__(shape, levels, "masked", "factorised", filters, blocks, layer_norm)
