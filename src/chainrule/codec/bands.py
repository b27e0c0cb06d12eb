"""Pictures by fronts, and large ones in bands of rows, so that memory stays bounded.

A band is coded like a picture of its own, except that its conditionals also see what is above: the few rows that its
features know of are computed again.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from chainrule import sampling
from chainrule.codec.coder import Decoder, Encoder
from chainrule.fixedpoint import edges
from chainrule.models.front_walk import FrontWalk, front_order

BAND_PIXELS, BAND_ROWS = 2**21, 2**12
"""Pixels and rows of a band, at most."""
WIDEST = 2**16
"""Pixels of a row, at most."""


@dataclass(frozen=True)
class Band:
    """Rows `top` to `end`, of which the features know the rows from `begin` on."""

    begin: int
    top: int
    end: int

    @property
    def above(self) -> int:
        """Rows above it that its features know of."""
        return self.top - self.begin


def bands(model: Any) -> list[Band]:
    """Those of a model of one size, from above."""
    _, height, width = model.shape
    rows, reach = max(1, min(BAND_ROWS, BAND_PIXELS // width)), model.trunk.reach
    return [Band(max(0, top - reach), top, min(top + rows, height)) for top in range(0, height, rows)]


def encode_bands(model: Any, x: Tensor) -> bytes:
    """The words of pictures (N, C, H, W), integers, by fronts."""
    encoder = Encoder()
    channels, _, width = model.shape
    for band in reversed(bands(model)):
        height = band.end - band.begin
        strip = _of_rows(model, height)
        v = strip.checked(x[:, :, band.begin : band.end].long())
        order = front_order(channels, height, width)
        new = order // width % height >= band.above
        symbols = v.cpu().flatten(1)[:, order[new]].T
        encoder.push(symbols.flatten(), edges(strip, v, fronts=True)[new].flatten(0, 1), model.levels)
    return encoder.words()


def decode_bands(model: Any, decoder: Decoder, count: int) -> Tensor:
    """Pictures, integers (count, C, H, W); bytes where these can hold the levels and there are several bands."""
    found = bands(model)
    narrow = len(found) > 1 and model.levels <= 256
    x = torch.empty(count, *model.shape, dtype=torch.uint8 if narrow else torch.int64)
    for band in found:
        strip = _of_rows(model, band.end - band.begin)
        x[:, :, band.top : band.end] = _decoded(strip, decoder, count, x[:, :, band.begin : band.top])
    return x


def _of_rows(model: Any, height: int) -> Any:
    """A model of one size for pictures of so many rows."""
    found = copy.copy(model)
    found.shape = (model.shape[0], height, model.shape[2])
    return found


def _decoded(model: Any, decoder: Decoder, count: int, above: Tensor) -> Tensor:
    """The rows below those that are known: at each entry of a front one picture after the other."""
    known = above.shape[2]
    with torch.no_grad(), sampling.evaluating(model):
        quick = sampling.engines.fronts(model, count, above)
        if quick is not None and (found := decoder.whole(quick)) is not None:
            return found[:, :, known:]
        x, walk = torch.zeros(count, *model.shape, dtype=torch.int64), FrontWalk(model, count)
        x[:, :, :known] = above
        for front in range(len(walk.fronts)):
            rows, columns = walk.fronts[front]
            new = (rows >= known).repeat_interleave(count)
            for channel in range(model.shape[0]):
                pmf: Any = walk.conditional()
                values = x[:, channel, rows, columns].T.flatten()
                values[new] = decoder.decode(pmf[new])
                x[:, channel, rows, columns] = values.view(-1, count).T
                walk.observe(values.to(model.device))
    return x[:, :, known:]
