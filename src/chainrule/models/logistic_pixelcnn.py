"""PixelCNN with a discretised mixture of logistics, for many levels that lie in an order.

    p(x) = ∏_i p(x_i | x_<i),   p(x_i | x_<i) = Σ_k π_k ∏_c p(x_i^c | k, x_i^<c, x_<i)

The trunk of `PixelCNN`; from its features come, for each pixel, the weights of K components that the pixel's channels
share, and for each channel and component a mean and a scale, and how the mean moves with the earlier channels
(`chainrule.heads.mixture`). A softmax knows nothing of 127 when it has learned 128; a logistic is smooth over the
levels, and its size does not grow with their number.

Deviations from the paper: PixelCNN's trunk, with residual blocks and a blind spot, not the paper's downsampling one;
those of the head are listed in its own module.

Reference: Salimans et al., PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other
Modifications, 2017, https://arxiv.org/abs/1701.05517
"""

from __future__ import annotations

from chainrule.models.image import ImageModel


class LogisticPixelCNN(ImageModel):
    """PixelCNN whose pixels are discretised mixtures of logistics.

    Args:
        shape, levels, filters, blocks, layer_norm: as for `PixelCNN`.
        components: logistics in each pixel's mixture.
        prediction: with more than 16 levels, how many kinds of least squares predict each pixel first, 0 to 2, from
            which the means start; None for 1.
        copies: further components, each of which copies a neighbour, for drawings, where there is a prediction.

    Raises:
        ModelError: there are no components, or more copies than neighbours; or as for `PixelCNN`.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = LogisticPixelCNN((3, 2, 2), 256, filters=8, blocks=1, components=4)
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
        components: int = 10,
        prediction: int | None = None,
        copies: int = 0,
    ) -> None:
        super().__init__(
            shape,
            levels,
            "masked",
            "logistic",
            filters,
            blocks,
            layer_norm,
            components=components,
            prediction=prediction,
            copies=copies,
        )
