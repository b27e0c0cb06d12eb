"""Receptive fields read off a program are those of the gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chainrule import compiled as native
from chainrule.compiled.walk.lowering import lower
from chainrule.fixedpoint import exact
from chainrule.lab.demo.receptive import fields
from compiled.test_walk import CLASSES, image_model

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
