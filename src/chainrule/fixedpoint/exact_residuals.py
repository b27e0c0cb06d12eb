"""Residuals of a linear prediction in exact arithmetic: predictions on a grid, single operations that round alike."""

from __future__ import annotations

from torch import Tensor

from chainrule.fixedpoint.exact_logistic import LENGTH_BITS
from chainrule.heads.mixture import FARTHEST
from chainrule.nn import Residuals


class ExactResiduals(Residuals):
    """`Residuals` with predictions that are multiples of 2^-10 half-bins, at most 16 (L − 1) in size.

    The product, the roundings and the division in float64 are single operations, which IEEE 754 rounds alike
    everywhere; the difference between a whole number of half-bins and a prediction is exact.
    """

    def predicted(self, p: Tensor) -> Tensor:
        farthest = FARTHEST * (self.levels - 1)
        wide = p.double().mul_(self.levels - 1).mul_(2.0**LENGTH_BITS).round_().mul_(2.0**-LENGTH_BITS)
        return wide.clamp_(-farthest, farthest).float()

    def residual(self, x: Tensor, predicted: Tensor) -> Tensor:
        return x.double().mul_(self.levels - 1).round_().sub_(predicted.double())

    def softened(self, x: Tensor, predicted: Tensor) -> Tensor:
        return super().softened(x, predicted).float()
