"""PixelCNN-MADE: a PixelCNN over the pixels, a MADE over the channels of each.

    p(x) = ∏_i ∏_c p(x_i^c | x_i^<c, x_<i) = ∏_i ∏_c g(x_i^c | x_i^<c, φ(x_<i))    (assignment, equations 3 to 5)

φ are the features of the PixelCNN's trunk, and g is a MADE over the C channels of one pixel that takes φ as auxiliary
input: its hidden units have the ranks 0 … C-1, those of rank r see φ and the first r channels.

References:
    - van den Oord et al., Pixel Recurrent Neural Networks, 2016, https://arxiv.org/abs/1601.06759
    - Germain et al., MADE: Masked Autoencoder for Distribution Estimation, 2015, https://arxiv.org/abs/1502.03509
"""

from __future__ import annotations

from chainrule.models.image import ImageModel


class PixelCNNMADE(ImageModel):
    """PixelCNN whose channels depend on each other through a MADE.

    Args:
        shape, levels, layer_norm: as for `PixelCNN`.
        filters: channels of the residual stream; the MADE has one hidden layer with so many units for each channel.
        blocks: residual blocks, each of which widens the receptive field by one pixel.

    Raises:
        ModelError: as for `PixelCNN`.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = PixelCNNMADE((3, 2, 2), 4, filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> model.log_prob(x).shape
        torch.Size([2])
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
        super().__init__(shape, levels, "masked", "made", filters, blocks, layer_norm)
