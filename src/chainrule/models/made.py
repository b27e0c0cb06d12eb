"""MADE: a masked autoencoder for distribution estimation.

    p(x) = ∏_d p(x_d | x_<d)

One multilayer perceptron gives the logits of all variables; masks on its weights cut every path from a variable to its
own and earlier conditionals. Works for any number of variables and levels.

Deviations from the paper: levels enter as one-hot vectors, since they need not be binary; hidden units are dealt out to
ranks evenly instead of at random, so that no variable can end up disconnected; the order is the given one.

Reference: Germain et al., MADE: Masked Autoencoder for Distribution Estimation, 2015, https://arxiv.org/abs/1502.03509
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from chainrule.contract import Walk
from chainrule.errors import ModelError
from chainrule.models.base import AutoregressiveModel
from chainrule.nn import MADENetwork


class MADE(AutoregressiveModel):
    """Masked autoencoder over the entries of an event.

    Args:
        shape: (D,); any other shape is treated in raster order.
        levels: of every entry.
        hidden: widths of the hidden layers.

    Raises:
        ModelError: a hidden layer is too narrow for every variable to reach those after it.

    Example:
        >>> import torch
        >>> model = MADE((3,), 5)
        >>> model.log_prob(torch.zeros(2, 3, dtype=torch.long)).shape
        torch.Size([2])
    """

    composes_exactly = True

    def __init__(self, shape: tuple[int, ...], levels: int, hidden: Sequence[int] = (256, 256)) -> None:
        super().__init__(shape, levels)
        widths = [int(width) for width in hidden]
        least = max(self.dims - 1, 1)  # so that every variable reaches those after it
        if not widths or min(widths) < least:
            raise ModelError(f"hidden layers of widths {widths} are too narrow: each needs at least {least} units here")
        self.network = MADENetwork(self.dims, self.levels, widths)

    def outer_layers(self) -> Sequence[nn.Module]:
        return (self.network.output,)

    def _logits(self, v: Tensor, context: Any = None) -> Tensor:
        self._refuse_context(context)
        if len(self.shape) == 3:  # in the order of `sites`: raster order, channels innermost
            channels, height, width = self.shape
            logits = self.network(v.permute(0, 2, 3, 1).flatten(1))
            return logits.unflatten(1, (height, width, channels)).permute(0, 3, 1, 2, 4)
        return self.network(v.flatten(1)).unflatten(1, self.shape)

    def start(self, batch: int, context: Any = None) -> NetworkWalk:
        self._refuse_context(context)
        return NetworkWalk(self, batch)


class NetworkWalk(Walk):
    """A walk over a MADE's variables: every hidden unit is computed once."""

    def __init__(self, model: MADE, batch: int) -> None:
        self.model, self.state = model, model.network.start(batch)

    def conditional(self) -> Tensor:
        return self.model.softmax.pmf(self.model.network.logits(self.state))

    def observe(self, value: Tensor) -> None:
        self.state = self.model.network.observe(self.state, value)
