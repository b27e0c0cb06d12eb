"""PixelIQN: the conditionals of PixelCNN by quantile regression, without a likelihood.

    x_i^c = round(Q_τ(x_i^<c, φ(x_<i))), τ ~ U(0, 1) for each entry:    sampling inverts the conditional CDF

φ are the features of PixelCNN's trunk; the channels of a pixel are drawn in sequence, each given those before it
(`chainrule.heads.quantile_head`). What is learnt is a function from noise to values, so there are no probabilities: no
bits/dim, no exact form and no compression.

Deviations from the paper: the trunk is PixelCNN's rather than the gated one, so that a likelihood model of the same
trunk stands beside it, and the width of the head is chosen so that a `PixelCNNMADE` of the same size has as many
parameters; τ enters behind the trunk, by the cosine embedding and product of implicit quantile networks, and the Huber
loss turns linear at half a spacing of the levels.

References:
    - Ostrovski et al., Autoregressive Quantile Networks for Generative Modeling, 2018, https://arxiv.org/abs/1806.05575
    - Dabney et al., Implicit Quantile Networks for Distributional Reinforcement Learning, 2018, equations 3 and 4,
      https://arxiv.org/abs/1806.06923
"""

from __future__ import annotations

from chainrule.models.image import ImageModel


class PixelIQN(ImageModel):
    """Autoregressive implicit quantile network on PixelCNN's trunk.

    Args:
        shape, levels, filters, blocks, layer_norm: as for `PixelCNN`.
        embedding: cosines that τ is embedded in.

    Raises:
        ModelError: there are no cosines; or as for `PixelCNN`.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = PixelIQN((3, 4, 4), 4, filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> x.shape, model.quantiles(x, 0.5).shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2, 3, 4, 4]))
    """

    def __init__(
        self,
        shape: tuple[int, int | None, int | None],
        levels: int,
        filters: int = 128,
        blocks: int = 12,
        layer_norm: bool = True,
        embedding: int = 64,
    ) -> None:
        super().__init__(shape, levels, "masked", "quantile", filters, blocks, layer_norm, embedding=embedding)
