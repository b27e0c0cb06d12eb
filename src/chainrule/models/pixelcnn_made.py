"""PixelCNN-MADE: a PixelCNN over the pixels, a MADE over the channels of each.

    p(x) = ∏_i ∏_c p(x_i^c | x_i^<c, x_<i) = ∏_i ∏_c g(x_i^c | x_i^<c, φ(x_<i))    (assignment, equations 3 to 5)

φ are the features of the PixelCNN's stack, and g is a MADE over the C channels of one pixel that takes φ as auxiliary
input: its hidden units have the ranks 0 … C-1, those of rank r see φ and the first r channels.

References:
    van den Oord et al., Pixel Recurrent Neural Networks, 2016, https://arxiv.org/abs/1601.06759
    Germain et al., MADE: Masked Autoencoder for Distribution Estimation, 2015, https://arxiv.org/abs/1502.03509
"""

from __future__ import annotations

from torch import Tensor, nn

from chainrule.models.pixelcnn import PixelCNN, PixelState
from chainrule.native import Program, known
from chainrule.nn import MADENetwork
from chainrule.nn.made import MADEWalk, StepWeights


@known
class PixelCNNMADE(PixelCNN):
    """PixelCNN whose channels depend on each other through a MADE; arguments as for `PixelCNN`.

    The MADE has one hidden layer, with `filters` units for each channel.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = PixelCNNMADE((3, 2, 2), 4, filters=8, blocks=1)
        >>> x = model.sample(2, generator=torch.Generator().manual_seed(0))
        >>> model.log_prob(x).shape
        torch.Size([2])
    """

    def _make_head(self, filters: int) -> None:
        channels = self.shape[0]
        self.made = MADENetwork(channels, self.levels, [channels * filters], auxiliary=filters)

    def _head(self, features: Tensor, v: Tensor) -> Tensor:
        logits = self.made(v.permute(0, 2, 3, 1), features.permute(0, 2, 3, 1))  # (B, H, W, C, levels)
        return logits.permute(0, 3, 1, 2, 4)

    def _head_layer(self) -> nn.Module:
        assert self.made.from_auxiliary is not None
        return self.made.from_auxiliary

    def _add_head(self, program: Program, features: int) -> bool:
        return self.made.add_to(program, features)

    def _start_head(self) -> StepWeights:
        return self.made.step_weights()

    def _step_head(self, features: Tensor, state: PixelState) -> MADEWalk:
        return self.made.start(len(features), features, state.head)

    def _step_logits(self, state: PixelState) -> Tensor:
        return self.made.logits(state.pixel)

    def _step_observe(self, state: PixelState, value: Tensor) -> None:
        state.pixel = self.made.observe(state.pixel, value)
