"""ImageGPT: a transformer over the pixels of an image, or over a sequence.

    p(x) = ∏_i ∏_c p(x_i^c | x_i^<c, φ(x_<i)),   φ by causal self-attention over all earlier pixels (`chainrule.nn`)

No pixel is out of sight, however far away, from the first block on. That neighbours matter, which a convolution gets
for free, it has to learn. A step of a walk costs as many products with keys as there are earlier pixels.

Deviations from the paper: one token is a pixel, whose channels a MADE (or another head) tells apart, not a colour of a
palette; ReLU in place of GELU, which has an exact form; learned vectors for rows and columns; the model is trained
for its likelihood alone. A label is added in every block's second part.

References: Chen et al., Generative Pretraining from Pixels, 2020, https://proceedings.mlr.press/v119/chen20s.html;
Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762; Chen et al., PixelSNAIL: An Improved
Autoregressive Generative Model, 2018, https://arxiv.org/abs/1712.09763
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from chainrule.models.image import ImageModel


class ImageGPT(ImageModel):
    """A transformer over pixels, or over the entries of a sequence.

    Args:
        shape: (C, H, W) of images, or (D,) of sequences.
        levels: values of every channel.
        head: "made", "factorised", "logistic" or "quantile", as for `ImageModel`.
        filters: channels of the stream.
        blocks: of attention.
        layer_norm: normalise before attention and before the layer after it.
        classes: labels that the model is conditional on, 0 for none.
        components: logistics in each pixel's mixture, for the logistic head.

    Raises:
        ModelError: the shape has no fixed size, or no such network can be made.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = ImageGPT((3, 4, 4), 4, filters=16, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> x.shape, model.log_prob(x).shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2]))
        >>> ImageGPT((5,), 10, filters=16, blocks=1).sample(2).shape
        torch.Size([2, 5])
    """

    composes_exactly = True
    takes_any_size = False

    def __init__(
        self,
        shape: tuple[int, ...],
        levels: int,
        head: str = "made",
        filters: int = 128,
        blocks: int = 8,
        layer_norm: bool = True,
        classes: int = 0,
        components: int | None = None,
    ) -> None:
        sides = tuple(shape)
        picture: Any = (1, 1, *sides) if len(sides) == 1 else sides
        super().__init__(picture, levels, "attention", head, filters, blocks, layer_norm, classes, components)
        self.picture, self.shape = self.shape, self.shape if len(sides) == 3 else self.shape[2:]

    # A sequence is a picture of one row to the network, and to a walk.

    @property
    def walk_shape(self) -> tuple[int, ...]:
        found: tuple[int, ...] = self.picture
        return found

    def with_auxiliaries(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.walk_shape)

    def without_auxiliaries(self, y: Tensor) -> Tensor:
        return y.reshape(len(y), *self.shape)

    def known_sites(self, known: Tensor) -> Tensor:
        return known.reshape(len(known), *self.walk_shape)
