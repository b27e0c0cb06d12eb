"""Walks over fronts: the same conditionals as from pixel to pixel, in another order."""

from __future__ import annotations

import functools

import pytest
import torch

import chainrule as cr
from chainrule.errors import ModelError
from chainrule.models import ImageModel
from chainrule.models.front_walk import FrontWalk, front_order
from chainrule.nn.fronts import Fronts
from laws import randomised

KINDS = [
    ("factorised", 3, False),
    ("made", 3, True),
    ("logistic", 3, False),
    ("logistic", 19, False),
    ("logistic", 19, False, 2),
]
SIZES = [(1, 1), (1, 9), (9, 1), (3, 4), (7, 5), (5, 30)]


@pytest.mark.parametrize("size", SIZES)
def test_fronts_meet_every_pixel_once(size) -> None:
    """And a pixel's front comes after those of all pixels that a 7×7 kernel of type A reaches from it."""
    fronts, when = Fronts(*size), {}
    for t, (rows, columns) in enumerate(fronts):
        for pixel in zip(rows.tolist(), columns.tolist(), strict=True):
            assert pixel not in when
            when[pixel] = t
    assert set(when) == {(i, j) for i in range(size[0]) for j in range(size[1])}
    for (i, j), t in when.items():
        for a, b in [(a, b) for a in range(-3, 1) for b in range(-3, 4) if a < 0 or b < 0]:
            assert when.get((i + a, j + b), -1) < t


@functools.cache
def model_of(kind, exact):
    """A model of any size, made exact once."""
    head, levels, layer_norm, *prediction = kind
    torch.manual_seed(0)
    options = {"layer_norm": layer_norm, "prediction": prediction[0] if prediction else None}
    model = ImageModel((2, None, None), levels, "masked", head, filters=6, blocks=2, **options)
    return cr.exact(randomised(model, dtype=torch.float32)) if exact else randomised(model)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("exact", [False, True])
def test_the_conditionals_are_those_of_the_parallel_pass(kind, size, exact) -> None:
    """In exact arithmetic bit for bit."""
    model = model_of(kind, exact)
    sized = model.sized(*size)
    x = torch.randint(model.levels, (1, 2, *size), generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), model.arithmetic():
        wanted, walk, order = sized.log_pmf(x)[0].double().exp().flatten(0, 2), FrontWalk(sized), []
        places = torch.arange(x.numel()).view(x.shape[1:])
        for rows, columns in walk.fronts:
            for channel in range(2):
                where = places[channel, rows, columns]
                tolerance = 1e-15 if exact else 1e-10
                assert torch.allclose(walk.conditional(), wanted[where], rtol=0, atol=tolerance)
                walk.observe(x.flatten()[where])
                order.append(where)
    assert torch.equal(torch.cat(order), front_order(2, *size))


def test_gated_trunks_and_contexts_have_none() -> None:
    """Their refusal says why."""
    with pytest.raises(ModelError, match="looks far to the right"):
        FrontWalk(ImageModel((1, 3, 3), 3, "gated", filters=4, blocks=1))
    with pytest.raises(ModelError, match="context"):
        FrontWalk(ImageModel((1, 3, 3), 3, "gated", filters=4, blocks=1, classes=2))
