"""PixelSNAIL: a PixelCNN-MADE that looks at all earlier pixels now and then.

    p(x) = ∏_i ∏_c p(x_i^c | x_i^<c, φ(x_<i)),   φ by masked convolutions and causal self-attention (`chainrule.nn`)

Deviations from the paper: those of the trunk (`chainrule.nn.snail_trunk`); a MADE over the channels of a pixel in place
of a mixture of logistics, unless another head is chosen. Its weights have PixelCNN-MADE's names, so that it can start
from a trained one, and then starts out as good.

Reference: Chen et al., PixelSNAIL: An Improved Autoregressive Generative Model, 2018, https://arxiv.org/abs/1712.09763
"""

from __future__ import annotations

from chainrule.models.image import ImageModel


class PixelSNAIL(ImageModel):
    """PixelCNN with attention after every fourth block but the last.

    Args:
        shape: (C, H, W), of one size.
        levels: values of every channel.
        head: "made", "factorised", "logistic" or "quantile", as for `ImageModel`.
        filters: channels of the residual stream.
        blocks: residual blocks.
        layer_norm: normalise over the channels of a pixel before every block and attention.
        components: logistics in each pixel's mixture, for the logistic head.

    Raises:
        ModelError: the shape has no fixed size, or no such network can be made.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = PixelSNAIL((3, 4, 4), 4, filters=16, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> x.shape, model.log_prob(x).shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2]))
    """

    composes_exactly = True
    takes_any_size = False

    def __init__(
        self,
        shape: tuple[int, int, int],
        levels: int,
        head: str = "made",
        filters: int = 128,
        blocks: int = 12,
        layer_norm: bool = True,
        components: int | None = None,
    ) -> None:
        super().__init__(shape, levels, "snail", head, filters, blocks, layer_norm, components=components)
