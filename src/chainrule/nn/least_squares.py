"""Local least squares: each pixel is predicted with the weights that would have suited its neighbourhood best.

    w_i^c = argmin_w Σ_{s near i, s < i} ω_s (t_s^c − w · f_s^c)² + λ |w − w_0^c|²,      t = 2x − W − N

f^c are neighbours of a pixel in channel c, and for each earlier channel its t and some of its neighbours; all but W − N
are taken relative to W + N, so that the prediction of a brighter picture is brighter by as much. Samples s lie in cells
of few columns; `chainrule.nn.surroundings` says which, with what weights ω, and which neighbours, in two kinds. All
pixels of a cell share their w. What is left of an edge or texture is then small even if no network has seen the like.

The same on every machine: samples are whole numbers, so that their sums are exact in float64 in any order; elimination
takes single operations, which IEEE 754 rounds alike, in a fixed order; weights are then rounded to multiples of 2^-12,
predictions to 2^-10. Nothing is trained, and there is no gradient.

References: Wu, Barthel, Zhang, Piecewise 2D Autoregression for Predictive Image Coding, 1998,
https://doi.org/10.1109/ICIP.1998.727397; Meyer and Tischer, GLICBAWLS: Grey Level Image Compression by Adaptive
Weighted Least Squares, 2001, https://doi.org/10.1109/DCC.2001.917171
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.nn import passes
from chainrule.nn.surroundings import NEAR, Surroundings

ALONE = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, 2), (-1, -2), (-2, 1), (-2, -1))
"""Offsets (row, column) of the neighbours that are predictions by themselves, besides the plane ¾ W + ¾ N − ½ NW."""

PREDICTIONS = 2 + len(ALONE)
"""Of every channel: by least squares, by the plane, by single neighbours."""

MOST_PREDICTED, MOST_LEVELS = 4, 256
"""Channels and levels that compiled code has room for, at most."""

FARTHEST_RIGHT = max(column for _, column in ALONE)
"""How many columns to the right the single neighbours reach."""

WEIGHT_BITS, LARGEST_WEIGHT = 12, 4
PREDICTION_BITS = 10


def shifted(x: Tensor, row: int, column: int) -> Tensor:
    """The values of a map at (row, column) from each place, row ≤ 0; zeros outside."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (max(-column, 0), max(column, 0), -row, 0))
    return padded[..., :height, max(column, 0) : max(column, 0) + width]


class LocalLeastSquares(nn.Module):
    """Predictions of every pixel, and how the first of each channel depends on earlier channels. It has no parameters.

    Its numbers for a pixel are predictions, all channels of a prediction side by side, and C (C − 1) / 2 slopes, of
    channel 1 on 0, of 2 on 0, of 2 on 1, …. Predictions are that by least squares and, if `alone`, those by the plane
    and by single neighbours, `PREDICTIONS` in all.

    Args:
        channels, levels: of the pixels.
        by: neighbours and samples.
        alone: whether there are other predictions than that by least squares.

    >>> ramp = torch.arange(20.0).expand(1, 1, 16, 20) * 2 - 255
    >>> (LocalLeastSquares(1, 256)(ramp) - ramp)[0, 0, -1, 8:-1].abs().max() < 0.1
    tensor(True)
    """

    composes_exactly = True

    def __init__(self, channels: int, levels: int, by: Surroundings = NEAR, *, alone: bool = True) -> None:
        super().__init__()
        self.channels, self.levels, self.by, self.alone = channels, levels, by, alone
        self.predictions = PREDICTIONS if alone else 1
        self.own = by.own
        self.variables = (self.own + 1) * channels  # a channel's neighbours, and its t behind them
        self.weights = by.weights()

    def regressors(self, channel: int) -> list[int]:
        """Which variables predict a channel."""
        own, each = self.own, self.own + 1
        lent = [each * j + k for j in range(channel) for k in (own, *range(self.by.lent))]
        return [each * channel + k for k in range(own)] + lent

    def start_weights(self, channel: int) -> list[float]:
        """w_0: those of the plane ¾ W + ¾ N − ½ NW, and 0.8 of what it left of the channel before."""
        own, lent = [0.0, -0.5] + [0.0] * (self.own - 2), [0.8, 0.0, 0.4] + [0.0] * (self.by.lent - 2)
        return own + [number * (j == channel - 1) for j in range(channel) for number in lent]

    @torch.no_grad()
    def forward(self, u: Tensor) -> Tensor:
        """Pixels in half-bins, whole numbers (B, C, H, W) → its numbers, float32, (B, numbers, H, W)."""
        if (faster := passes.of(self, "forward")(self, u)) is not None:
            return faster
        (height, width), by = u.shape[-2:], self.by
        variables, base = self.variables_of(u.double(), u.new_ones(height, width, dtype=torch.float64))
        sums = F.pad(self.products(variables, self.valid(height, width, u.device)), (by.before, by.after, by.rows, 0))
        near = sum(
            weight * sums[..., row : row + height, cell : sums.shape[-1] - by.before - by.after + cell]
            for row, weights in enumerate(self.weights.tolist())
            for cell, weight in enumerate(weights)
            if weight
        )
        assert isinstance(near, Tensor)
        weights = [
            self.solve(near, c).movedim(-1, 1).repeat_interleave(by.cell, -1)[..., :width] for c in range(self.channels)
        ]
        alone = torch.stack([shifted(u.double(), *place) for place in ALONE], 1)
        inside = torch.stack([shifted(torch.ones_like(u[:1, 0], dtype=torch.float64), *place) for place in ALONE], 1)
        return self.numbers_of(weights, variables, base, alone, inside)

    def valid(self, height: int, width: int, device: torch.device) -> Tensor:
        """Which pixels are samples, (H, W): 1 or 0."""
        valid = torch.zeros(height, width, dtype=torch.float64, device=device)
        valid[self.by.up :, self.by.left : width - self.by.right] = 1
        return valid

    def variables_of(self, u: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """The variables of each pixel, and W + N of each channel.

        Outside the picture N replaces W, and W replaces N; other neighbours outside count for nothing.

        Args:
            u: (B, C, H, W), zeros outside the picture.
            inside: 1 inside of it, 0 outside; it broadcasts to one channel of `u`.
        """
        west, north = shifted(u, 0, -1), shifted(u, -1, 0)
        west, north = west + (1 - shifted(inside, 0, -1)) * north, north + (1 - shifted(inside, -1, 0)) * west
        base = west + north
        others = [(2 * shifted(u, *place) - base) * shifted(inside, *place) for place in self.by.others]
        return torch.stack([west - north, *others, 2 * u - base], 2).flatten(1, 2), base

    def products(self, variables: Tensor, valid: Tensor) -> Tensor:
        """The products of all pairs of variables at the samples, summed over cells: (B, pairs, H, cells)."""
        one, other = torch.tril_indices(self.variables, self.variables, device=variables.device)
        samples = variables * valid
        products = samples[:, one] * samples[:, other]
        cell = self.by.cell
        return F.pad(products, (0, -products.shape[-1] % cell)).unflatten(-1, (-1, cell)).sum(-1)

    def solve(self, sums: Tensor, channel: int) -> Tensor:
        """The weights of a channel from the sums of products, (B, pairs, …) → (B, …, regressors)."""
        chosen, sums = self.regressors(channel), sums.movedim(1, -1)
        n, target, ridge = len(chosen), (self.own + 1) * channel + self.own, self.by.ridge

        def place(i: int, j: int) -> int:
            return max(i, j) * (max(i, j) + 1) // 2 + min(i, j)

        a = sums[..., [place(i, j) for i in chosen for j in chosen]].unflatten(-1, (n, n))
        y = sums[..., [place(i, target) for i in chosen]] + ridge * sums.new_tensor(self.start_weights(channel))
        a.diagonal(dim1=-2, dim2=-1).add_(ridge)
        factors, inverses = [], []
        for k in range(n):
            inverses.append(1.0 / a[..., k, k, None])
            factors.append(a[..., k + 1 :, k] * inverses[k])
            a[..., k + 1 :, k + 1 :] -= factors[k].unsqueeze(-1) * a[..., k + 1 :, k].unsqueeze(-2)
            y[..., k + 1 :] -= factors[k] * y[..., k, None]
        y *= torch.cat(inverses, -1)
        for k in reversed(range(1, n)):
            y[..., :k] -= torch.stack([factors[i][..., k - i - 1] for i in range(k)], -1) * y[..., k, None]
        largest = float(LARGEST_WEIGHT << WEIGHT_BITS)
        return y.mul_(2.0**WEIGHT_BITS).round_().clamp_(-largest, largest).mul_(2.0**-WEIGHT_BITS)

    def numbers_of(
        self, weights: list[Tensor], variables: Tensor, base: Tensor, alone: Tensor, inside: Tensor
    ) -> Tensor:
        """A pixel's numbers from each channel's weights (B, regressors, …) and what they multiply.

        Args:
            alone, inside: the neighbours that are predictions, (B, neighbours, C, …), and which of them lie inside the
                picture, (B or 1, neighbours, …); outside the first prediction stands in.
        """
        predicted: list[Tensor] = []
        slopes: list[Tensor] = []
        for channel, weight in enumerate(weights):
            inputs = variables[:, self.regressors(channel)]
            for j, earlier in enumerate(predicted):  # in the place of what is not known yet
                inputs[:, self.own + (self.by.lent + 1) * j] = 2 * earlier - base[:, j]
            slopes += weight[:, self.own :: self.by.lent + 1].unbind(1)
            whole = (base[:, channel] + (weight * inputs).sum(1)).mul_(2.0 ** (PREDICTION_BITS - 1)).round_()
            predicted.append(whole.mul_(2.0**-PREDICTION_BITS).clamp_(1 - self.levels, self.levels - 1))
        found = [first := torch.stack(predicted, 1)]
        if self.alone:
            alone = torch.where(inside.unsqueeze(2) > 0, alone, first.unsqueeze(1))
            found += [base / 2 - variables[:, 1 :: self.own + 1] / 4, alone.flatten(1, 2)]
        return torch.cat([*found, *(slope.unsqueeze(1) for slope in slopes)], 1).float()

    def residuals(self, u: Tensor, numbers: Tensor) -> Tensor:
        """The residuals of pixels (B, C, …) in half-bins, each channel given those before: float64, exact."""
        predicted, slopes = (
            numbers[:, : self.channels].double(),
            numbers[:, self.predictions * self.channels :].double(),
        )
        alone, pair = u.double().round() - predicted, 0
        found = []
        for channel in range(self.channels):
            leaning = [slopes[:, pair + j] * alone[:, j] for j in range(channel)]
            found.append(alone[:, channel] - sum(leaning, torch.zeros_like(alone[:, 0])))
            pair += channel
        return torch.stack(found, 1)

    # ---------------------------------------------------------------------------------------------------------- steps

    def start(self, batch: int, height: int, width: int, device: torch.device) -> LeastSquaresState:
        """The state before the first pixel of pictures of one size."""
        return LeastSquaresState(self, batch, height, width, device)


class LeastSquaresState:
    """The pixels seen so far, in half-bins, with a border; and the sums of products of their cells."""

    def __init__(self, layer: LocalLeastSquares, batch: int, height: int, width: int, device: torch.device) -> None:
        by = layer.by
        self.layer, border = layer, (by.left, max(by.right, FARTHEST_RIGHT), by.up, 0)
        self.valid, self.weights = layer.valid(height, width, device), layer.weights.to(device)
        self.inside = F.pad(torch.ones_like(self.valid), border)
        self.seen = self.valid.new_zeros(batch, layer.channels, *self.inside.shape)
        pairs = layer.variables * (layer.variables + 1) // 2
        self.sums = self.valid.new_zeros(batch, pairs, height, -(-width // by.cell))

    @torch.no_grad()
    def numbers(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The numbers of n pixels of each picture, whose neighbours are known: float32, (n · B, numbers)."""
        layer, (patches, inside, variables, base) = self.layer, self._around(rows, columns)
        near = self.sums.new_empty(len(rows), *self.sums.shape[:2])
        for n, place in enumerate(zip(rows.tolist(), (columns // layer.by.cell).tolist(), strict=True)):
            near[n] = self._near(*place)
        weights = [layer.solve(near.flatten(0, 1), channel) for channel in range(layer.channels)]
        down, right = torch.tensor(ALONE).T + torch.tensor([[layer.by.up], [layer.by.left]])
        alone = patches[:, :, down, right].transpose(1, 2)
        return layer.numbers_of(weights, variables, base, alone, inside[:, 0, down, right])

    @torch.no_grad()
    def observe(self, rows: Tensor, columns: Tensor, u: Tensor) -> None:
        """Remember pixels (n · B, C) in half-bins."""
        pixels = u.double().round().unflatten(0, (-1, len(self.seen))).permute(1, 2, 0)
        by = self.layer.by
        self.seen[:, :, rows + by.up, columns + by.left] = pixels
        variables = self._around(rows, columns)[2]
        one, other = torch.tril_indices(self.layer.variables, self.layer.variables)
        products = (variables[:, one] * variables[:, other]).unflatten(0, (-1, len(self.seen))).permute(1, 2, 0)
        self.sums[:, :, rows, columns // by.cell] += products * self.valid[rows, columns]

    def _near(self, row: int, cell: int) -> Tensor:
        """The weighted sums around one cell of each picture, (B, pairs)."""
        by = self.layer.by
        top, left = max(0, row - by.rows), max(0, cell - by.before)
        sums = self.sums[:, :, top : row + 1, left : cell + by.after + 1]
        first = left - cell + by.before
        return (sums * self.weights[top - row + by.rows :, first : first + sums.shape[-1]]).sum((-2, -1))

    def _around(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The patches around pixels (n · B, C, …), what of them is inside, variables and W + N of the pixels."""
        by = self.layer.by
        down = rows[:, None, None] + torch.arange(by.up + 1)[:, None]
        right = columns[:, None, None] + torch.arange(by.left + 1 + max(by.right, FARTHEST_RIGHT))
        patches = self.seen[:, :, down, right].permute(2, 0, 1, 3, 4).flatten(0, 1)
        inside = self.inside[down, right].repeat_interleave(len(self.seen), 0)[:, None]
        variables, base = self.layer.variables_of(patches, inside)
        return patches, inside, variables[:, :, by.up, by.left], base[:, :, by.up, by.left]
