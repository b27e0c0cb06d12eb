"""Receptive fields read off a program are those of the gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chainrule import compiled as native
from chainrule.compiled.walk.lowering import lower
from chainrule.fixedpoint import exact
from chainrule.lab.demo.receptive import fields
from chainrule.models import LogisticPixelCNN
from compiled.test_walk import CLASSES, image_model
from laws import randomised

pytestmark = pytest.mark.skipif(not native.available(), reason="chainrule was installed without a C compiler")


def seen(model, trials=6):
    """Booleans (pixels, pixels): where the gradient of a pixel's logits is not zero, for some random images."""
    model = model.double()
    _, height, width = model.shape
    found = np.zeros((height * width, height * width), bool)
    for _ in range(trials):
        v = model._float(torch.randint(4, (1, *model.shape))).requires_grad_()
        logits = model._logits(v)[0, 0].flatten(0, 1)
        for pixel, own in enumerate(logits):
            (gradient,) = torch.autograd.grad(own @ torch.randn(4, dtype=torch.float64), v, retain_graph=True)
            found[pixel] |= (gradient[0].flatten(1) != 0).any(0).numpy()
    return found


@pytest.mark.parametrize("shape", [(1, 3, 9), (2, 7, 4)])
@pytest.mark.parametrize("cls", CLASSES)
def test_fields_are_where_the_gradient_is_not_zero(cls, shape):
    """Of the first channel, which knows nothing of its own pixel: none too many, none too few."""
    model = image_model(cls, shape, blocks=1)
    with torch.no_grad():
        program = lower(model)
    assert np.array_equal(fields(program), seen(model))


def test_an_exact_model_sees_what_its_model_sees():
    model = image_model(shape=(1, 5, 9))
    with torch.no_grad():
        assert np.array_equal(fields(lower(exact(model))), fields(lower(model)))


@pytest.mark.parametrize("kinds", [1, 2])
def test_local_least_squares_see_what_changes_their_numbers(kinds):
    """They have no gradient: a pixel whose change alters a later one's numbers is in its field, and few others are."""
    height, width = 7, 24
    model = LogisticPixelCNN((1, height, width), 256, filters=4, blocks=1, components=2, prediction=kinds)
    model = exact(randomised(model))  # one pixel's numbers do not change with the batch
    pixels = height * width
    found = np.zeros((pixels, pixels), bool)
    with torch.no_grad():
        expected = fields(lower(model))
        for _ in range(2):  # what one picture does not show, another may
            x = torch.randint(256, (1, 1, height, width)).expand(pixels, -1, -1, -1).clone()
            before = model._logits(model._float(x[:1]))
            x.view(pixels, pixels)[range(pixels), range(pixels)] = torch.randint(256, (pixels,))
            found |= (model._logits(model._float(x)) != before).any(-1).view(pixels, pixels).T.numpy()
    assert not (found & ~expected).any()
    assert found.sum() > 0.85 * expected.sum()
    assert not expected[-1].all()
