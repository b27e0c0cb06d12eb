"""Gated PixelCNN: two stacks of convolutions, so that no earlier pixel is out of sight.

    p(x) = ∏_i p(x_i | x_<i), as in PixelCNN; the features of pixel i come from
    a vertical stack over all rows above i, to both sides, and a horizontal stack over the pixels to the left of i,
    with tanh(a) · σ(b) in place of ReLU (equation 2 of the paper)

A masked 3×3 convolution never reaches a wedge of pixels to the right above each pixel (Figure 1 of the paper), however
many layers follow: the blind spot of `PixelCNN`. The vertical stack has none, since it sees no pixel of its own row and
may therefore look to the right.

A class label c makes it p(x | c): it adds a bias of its own to every gate (equation 4 of the paper).

Deviations from the paper: layer normalisation over the channels of a pixel before the convolutions; channels are
tied by a MADE in `GatedPixelCNNMADE` rather than split by colour; the logits come from two 1×1 convolutions.

Reference: van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016,
https://arxiv.org/abs/1606.05328
"""

from __future__ import annotations

from chainrule.models.image import ImageModel


class GatedPixelCNN(ImageModel):
    """Gated PixelCNN with the channels of a pixel independent of each other.

    Args:
        shape, levels, layer_norm: as for `PixelCNN`.
        filters: channels of each of the two stacks. The blocks are wider than `PixelCNN`'s, about 21 · filters² weights
            each in place of 2.5 · filters²: compare models of the same number of parameters, not of the same `filters`.
        blocks: gated blocks, each of which widens the receptive field by one pixel.
        classes: how many labels the model is conditional on; its `context` is then integers of shape (B,), in
            [0, classes). With 0 there is no context. The same seed gives the same weights, except for the labels' own.

    Raises:
        ModelError: as for `PixelCNN`.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = GatedPixelCNN((1, 4, 4), 2, filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> x.shape, model.log_prob(x).shape
        (torch.Size([2, 1, 4, 4]), torch.Size([2]))
        >>> model = GatedPixelCNN((1, 4, 4), 2, filters=8, blocks=1, classes=3)
        >>> model.sample(2, context=torch.tensor([0, 2])).shape
        torch.Size([2, 1, 4, 4])
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
        super().__init__(shape, levels, "gated", "factorised", filters, blocks, layer_norm, classes)
