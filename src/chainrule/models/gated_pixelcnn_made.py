"""Gated PixelCNN-MADE: the trunk of `GatedPixelCNN`, and a MADE over the channels of each pixel as in `PixelCNNMADE`.

    p(x) = ∏_i ∏_c g(x_i^c | x_i^<c, φ(x_<i))    with φ from two stacks of gated convolutions

References: those of the two models.
"""

from __future__ import annotations

from chainrule.models.image import ImageModel


class GatedPixelCNNMADE(ImageModel):
    """Gated PixelCNN whose channels depend on each other through a MADE; arguments as for `GatedPixelCNN`.

    Raises:
        ModelError: as for `PixelCNN`.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = GatedPixelCNNMADE((3, 2, 2), 4, filters=8, blocks=1)
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
        classes: int = 0,
    ) -> None:
        super().__init__(shape, levels, "gated", "made", filters, blocks, layer_norm, classes)
