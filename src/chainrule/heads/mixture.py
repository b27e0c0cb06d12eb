"""The discretised mixture of logistics: each level is a bin of the real line, cut out of a sum of bell curves.

    p(v) = Σ_k π_k [σ((y_v + h − μ_k) / s_k) − σ((y_v − h − μ_k) / s_k)],    y_v = 2v / (L − 1) − 1,  h = 1 / (L − 1)

with −∞ as the lower edge of level 0 and +∞ as the upper edge of level L − 1, for any number of levels L. One indicator
k is shared by the channels of a pixel, and the means depend on the channels before:

    μ_ck = m_ck + Σ_{j<c} tanh(a_cjk) y_j          p(v_c | v_<c) = Σ_k p(k | v_<c) p(v_c | k, v_<c)

With predictions p_0, p_1, … (`chainrule.nn.prediction`) the means start from a mixture of them, whose weights the
network gives, too, and each channel adds the residuals of the earlier ones, with tanh(a) on top of the slopes g of p_0:

    p_c = p_0c + Σ_{i>0} 2 tanh(b_ci / 2) (p_ic − p_0c)   μ_ck = p_c + m_ck + Σ_{j<c} (g_cj + tanh(a_cjk)) (y_j − p_j)

The last components may be *copies*, each of one prediction i > 1, which is a neighbour: there p_i replaces p, and
m is 0. Since the channels share one indicator, such a component says that the whole pixel repeats that neighbour, as in
drawings, where a mean between two neighbours is neither.

In this file the unit of length is the half-bin h, not 1: edges are whole numbers, w = 2v − (L − 1) ± 1, the width of a
bin is 2, and the number of levels enters only as the means' scale L − 1.

Deviations from the paper: any number of channels; and in place of a log-scale that is cut off below, the network
gives the sharpness ρ, and a component's inverse scale, in half-bins, is 16 σ(ρ − b) (b depends on the levels and makes
ρ = 0 a scale about as wide as half the range). It is bounded smoothly: a bin holds at most 1 − 2·10⁻⁷ of a component.

Reference: Salimans et al., PixelCNN++, 2017, section 2, https://arxiv.org/abs/1701.05517
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHARPEST = 16
"""The largest inverse scale, in half-bins."""

FLATTEST = 16.0
"""ρ − b is clamped to ±16: the smallest inverse scale is 16 σ(−16), about 2·10⁻⁶."""

FARTHEST = 16
"""Means are clamped to ±16, in units in which the levels span -1 … 1."""

CORRECTION = 32.0
"""With a prediction, the network's means are in units of this many half-bins."""

COPIED = 2
"""The first prediction that is a neighbour: before it come least squares and the plane."""

LARGEST = 2.0**14
"""Mixture logits are clamped to ±2¹⁴."""


def half_bins(v: Tensor, levels: int) -> Tensor:
    """Levels as distances from the middle of the range, in half-bins: 2v − (L − 1).

    >>> half_bins(torch.arange(4), 4).tolist()
    [-3, -1, 1, 3]
    """
    return 2 * v - (levels - 1)


def offset(levels: int) -> float:
    """b: about log(16 (L − 1)), a multiple of 1/16 that needs no logarithm.

    >>> offset(2), offset(4), offset(256)
    (3.4375, 4.125, 8.25)
    """
    return (SHARPEST * (levels - 1)).bit_length() * 11 / 16


def log_mass(w: Tensor, mean: Tensor, sharpness: Tensor, levels: int) -> Tensor:
    """log p of the bin around `w` under single logistics.

    With the edges' arguments a and b = a − d, σ(a) − σ(b) = σ(a) σ(−b) (1 − e^−d): a sum of logarithms in which nothing
    cancels. Between whole levels it is smooth in `w`.

    Args:
        w, mean: in half-bins.
        sharpness: ρ − b. All three broadcast.

    Returns:
        Nats, at most 0.

    >>> w, zero = half_bins(torch.arange(3.0), 3), torch.zeros(1)
    >>> bool(log_mass(w, zero, zero, 3).exp().sum().isclose(torch.tensor(1.0)))
    True
    """
    inverse = SHARPEST * sharpness.sigmoid()
    upper, lower = F.logsigmoid((w + 1 - mean) * inverse), F.logsigmoid((mean - w + 1) * inverse)
    width = torch.log(-torch.expm1(-2 * inverse))
    first, last = w <= 1 - levels, w >= levels - 1
    zero = upper.new_zeros(())
    return torch.where(last, zero, upper) + torch.where(first, zero, lower) + torch.where(first | last, zero, width)


@dataclass(frozen=True)
class Mixture:
    """The numbers of a mixture at each pixel: K components, C channels. An exact head holds integers."""

    weights: Tensor  # (..., K): log π
    means: Tensor  # (..., C, K): m, in half-bins
    sharpness: Tensor  # (..., C, K): ρ − b
    coefficients: Tensor  # (..., C(C−1)/2, K): of y_j; for channel 1: from 0; for 2: from 0, from 1; and so on
    predicted: Tensor | None = None  # (..., C, K), or 1 for all K: what the means start from, in half-bins

    def of_channel(self, channel: int) -> tuple[Tensor, Tensor, Tensor]:
        """Means and sharpness, (..., K), and what each earlier channel adds to the means, (..., channel, K)."""
        start = channel * (channel - 1) // 2
        coefficients = self.coefficients[..., start : start + channel, :]
        return self.means[..., channel, :], self.sharpness[..., channel, :], coefficients

    def residuals(self, channel: int, w: Tensor) -> Tensor:
        """The residuals of the channels before this one, whose levels are `w` (..., C or fewer), in half-bins.

        (..., channel, K), or 1 for all K.
        """
        w = w[..., :channel, None]
        return w if self.predicted is None else w - self.predicted[..., :channel, :]


@dataclass
class MixtureWalk:
    """Where a walk over the channels of a pixel stands."""

    mixture: Mixture
    weights: Tensor  # (B, K): of the components, given the channels seen
    seen: Tensor  # (B, C): levels, those seen
    channel: int = 0


class LogisticMixture(nn.Module):
    """From a pixel's numbers to the log-probabilities of its channels' levels. It has no parameters of its own.

    Args:
        channels, levels: of the pixels.
        components: logistics in the mixture, K.
        predictions: how many of every channel, in half-bins, follow a pixel's own numbers, and after them the slopes of
            the first; the means start from them.
        copies: how many of the components, the last ones, copy single neighbours, predictions 2, 3, …

    Example:
        >>> mixture = LogisticMixture(channels=3, levels=256, components=10)
        >>> raw, v = torch.zeros(5, mixture.numbers), torch.zeros(5, 3)
        >>> raw.shape, mixture.site_log_probs(raw, v).shape, mixture.logits(raw, v).shape
        (torch.Size([5, 100]), torch.Size([5, 3]), torch.Size([5, 3, 256]))
    """

    composes_exactly = True

    def __init__(self, channels: int, levels: int, components: int, predictions: int = 0, copies: int = 0) -> None:
        super().__init__()
        self.channels, self.levels, self.components, self.predictions = channels, levels, components, predictions
        self.copies = copies
        self.unit = CORRECTION if predictions else float(levels - 1)

    def sizes(self) -> list[int]:
        """How many of a pixel's numbers are logits, means, sharpness, coefficients and choices, in this order."""
        channels, components = self.channels, self.components
        all, pairs = channels * components, channels * (channels - 1) // 2 * components
        return [components, all - channels * self.copies, all, pairs, channels * max(self.predictions - 1, 0)]

    @property
    def numbers(self) -> int:
        """Numbers of one pixel: K (1 + 2C + C (C − 1) / 2), less C a copy, and C for each prediction but the first."""
        return sum(self.sizes())

    def pieces(self, raw: Tensor) -> list[Tensor]:
        """(..., numbers) → logits (..., K), means and sharpness (..., C, K), coefficients (..., C(C−1)/2, K).

        Copies have no means. If P predictions follow, also choices (..., P − 1, C), predictions (..., P, C) and slopes
        (..., C(C−1)/2).
        """
        logits, *others, choices = raw[..., : self.numbers].split(self.sizes(), -1)
        plain, pairs = self.components - self.copies, self.channels * (self.channels - 1) // 2
        rows = ((self.channels, plain), (self.channels, self.components), (pairs, self.components))
        parts = [logits, *(part.unflatten(-1, n) for n, part in zip(rows, others, strict=True))]
        if not self.predictions:
            return parts
        behind, slopes = raw[..., self.numbers :].split([self.predictions * self.channels, pairs], -1)
        return [*parts, *(part.unflatten(-1, (-1, self.channels)) for part in (choices, behind)), slopes]

    # ------------------------------------------------------------------------- what an exact model computes otherwise

    def split(self, raw: Tensor) -> Mixture:
        """(..., numbers) → the mixtures; numbers beyond the bounds are clamped."""
        logits, means, sharpness, coefficients, *behind = self.pieces(raw)
        return Mixture(
            logits.clamp(-LARGEST, LARGEST).log_softmax(-1),
            F.pad(means * self.unit, (0, self.copies)),
            (sharpness - offset(self.levels)).clamp(-FLATTEST, FLATTEST),
            coefficients.tanh() + behind[2].unsqueeze(-1) if behind else coefficients.tanh(),
            self.starts(*behind[:2]) if behind else None,
        )

    def starts(self, choices: Tensor, predictions: Tensor) -> Tensor:
        """What the means start from: (..., C, K), or 1 for all components."""
        mixed = self.mixed(choices, predictions).unsqueeze(-1)
        if not self.copies:
            return mixed
        copied = self.copied(predictions).transpose(-1, -2)
        return torch.cat([mixed.expand(*mixed.shape[:-1], self.components - self.copies), copied], -1)

    def copied(self, predictions: Tensor) -> Tensor:
        """Predictions (..., P, C) → those that are copied (..., copies, C)."""
        return predictions[..., COPIED : COPIED + self.copies, :]

    def mixed(self, choices: Tensor, predictions: Tensor) -> Tensor:
        """Choices (..., P − 1, C) and predictions (..., P, C) → (..., C)."""
        first, farthest = predictions[..., 0, :], FARTHEST * (self.levels - 1)
        mixed = first + (2 * (choices / 2).tanh() * (predictions[..., 1:, :] - first.unsqueeze(-2))).sum(-2)
        return mixed.clamp(-farthest, farthest)

    def component(self, mixture: Mixture, channel: int, v: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (in half-bins) and ρ − b of a channel's components, given the levels `v` (..., C) of earlier ones."""
        mean, sharpness, coefficients = mixture.of_channel(channel)
        if mixture.predicted is not None:
            mean = mean + mixture.predicted[..., channel, :]
        if channel:
            mean = mean + (coefficients * mixture.residuals(channel, half_bins(v, self.levels))).sum(-2)
        farthest = FARTHEST * (self.levels - 1)
        return mean.clamp(-farthest, farthest), sharpness

    def masses(self, mixture: Mixture, channel: int, v: Tensor) -> Tensor:
        """What each component gives to a channel's level in `v` (..., C), given earlier channels: (..., K)."""
        mean, sharpness = self.component(mixture, channel, v)
        return log_mass(half_bins(v[..., channel, None], self.levels), mean, sharpness, self.levels)

    def posterior(self, weights: Tensor, masses: Tensor) -> Tensor:
        """The components' weights (..., K), once a channel's masses (..., K) are known."""
        return (weights + masses).log_softmax(-1)

    def all_levels(self, mixture: Mixture, channel: int, v: Tensor, weights: Tensor) -> Tensor:
        """The conditional of a channel, for the components' weights given the earlier ones in `v`: (..., levels)."""
        mean, sharpness = self.component(mixture, channel, v)
        w = half_bins(torch.arange(self.levels, dtype=mean.dtype, device=mean.device), self.levels)
        total: Tensor | None = None
        for k in range(self.components):  # one by one: all at once would need K times the memory
            mass = log_mass(w, mean[..., k, None], sharpness[..., k, None], self.levels) + weights[..., k, None]
            total = mass if total is None else torch.logaddexp(total, mass)
        assert total is not None
        return total

    # ----------------------------------------------------------------------------------- whole pixels, and step by step

    def logits(self, raw: Tensor, v: Tensor) -> Tensor:
        """The conditionals of whole pixels.

        Args:
            raw: (..., numbers).
            v: levels as floats, (..., C).

        Returns:
            Log-probabilities of each channel's levels, given the earlier channels: (..., C, levels).
        """
        mixture = self.split(raw)
        weights, found = mixture.weights, []
        for channel in range(self.channels):
            found.append(self.all_levels(mixture, channel, v, weights))
            if channel < self.channels - 1:
                weights = self.posterior(weights, self.masses(mixture, channel, v))
        return torch.stack(found, -2)

    def site_log_probs(self, raw: Tensor, v: Tensor) -> Tensor:
        """log p of each channel's level given the earlier ones; no other level's is computed.

        Args:
            raw: (..., numbers).
            v: levels as floats, (..., C).

        Returns:
            Nats, (..., C).
        """
        mixture = self.split(raw)
        weights, found = mixture.weights, []
        for channel in range(self.channels):
            joint = weights + self.masses(mixture, channel, v)
            found.append(joint.logsumexp(-1))
            weights = joint - found[-1].unsqueeze(-1)  # the posterior
        return torch.stack(found, -1)

    def start(self, raw: Tensor) -> MixtureWalk:
        """(B, numbers) → the walk over a pixel's channels, in float64."""
        mixture = self.split(raw.double())
        seen = raw.new_zeros(len(raw), self.channels, dtype=torch.float64)
        return MixtureWalk(mixture, mixture.weights, seen)

    def step_logits(self, walk: MixtureWalk) -> Tensor:
        """The conditional of the channel at hand, as in `logits`: (B, levels)."""
        return self.all_levels(walk.mixture, walk.channel, walk.seen, walk.weights)

    def observe(self, walk: MixtureWalk, value: Tensor) -> MixtureWalk:
        """The walk after the channel at hand took `value`, integers (B,)."""
        if walk.channel + 1 < self.channels:
            walk.seen[:, walk.channel] = value.to(walk.seen.dtype)
            walk.weights = self.posterior(walk.weights, self.masses(walk.mixture, walk.channel, walk.seen))
        walk.channel += 1
        return walk
