"""Where the bits are: two parts that add up, each what it says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from chainrule.data import Dataset
from chainrule.data.colored import crop_bits
from chainrule.errors import DataError, ModelError
from chainrule.evaluation import part_of
from chainrule.lab.split_bits import split_bits, split_pixel_log_prob
from chainrule.models import MADE, GatedPixelCNNMADE, PixelCNN, PixelCNNMADE, PixelIQN, PixelSNAIL
from laws import events, randomised


@pytest.mark.parametrize(
    "model",
    [
        PixelCNN((2, 2, 3), 4, 6, 1),
        PixelCNNMADE((2, 2, 3), 4, 6, 1),
        PixelSNAIL((2, 2, 3), 4, filters=6, blocks=1),
        GatedPixelCNNMADE((2, 2, 3), 4, 6, 1, classes=3),
    ],
    ids=lambda model: type(model).__name__,
)
def test_parts_are_those_of_the_conditionals(model) -> None:
    """Both add up to log p; the first is the probability of a pixel or its inverse, by changing that pixel alone."""
    model = randomised(model)
    x = events(model, 5)
    context = model.example_context(5)
    pair, which = split_pixel_log_prob(model, x, context)
    torch.testing.assert_close((pair + which).sum((1, 2)), model.log_prob(x, context), rtol=0, atol=1e-9)
    for i, j in ((0, 0), (1, 2)):
        changed = x.clone()
        changed[:, :, i, j] = 3 - changed[:, :, i, j]
        pixels = [model.site_log_probs(y, context)[:, :, i, j].sum(1) for y in (x, changed)]
        torch.testing.assert_close(pair[:, i, j], torch.logaddexp(*pixels), rtol=0, atol=1e-9)


def test_bits_of_a_dataset_are_means_over_its_images() -> None:
    """A model that knows nothing pays log₂ 4 − 1 bits for each entry's background, and a bit for each pixel's digit."""
    model = PixelCNN((1, 28, 28), 4, 4, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    x = torch.randint(0, 4, (7, 1, 28, 28), dtype=torch.uint8)
    mask = torch.zeros(7, 28, 28, dtype=torch.uint8)
    mask[0, 0, :7] = 3
    data = Dataset("digits", 4, x, x, x, masks={"test": mask})
    found = split_bits(model, data)
    assert (found.background, found.digit) == pytest.approx((784, 784), abs=1e-4)
    assert found.digit_pixels == pytest.approx(7 * 2 / 7, abs=1e-5)
    assert found.background_floor == pytest.approx(14.2318, abs=0.01)
    first = split_bits(model, part_of(data, "test", 1))
    assert first.digit_pixels == pytest.approx(14, abs=1e-5)


def test_crops_that_are_the_same_are_one() -> None:
    """The entropy of places, less what the same crop at several places saves: by hand."""
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[3, 3] = 1
    assert crop_bits(picture, 2, 2) == pytest.approx(-(8 / 9 * math.log2(8 / 9) + 1 / 9 * math.log2(1 / 9)))
    every = np.arange(25, dtype=np.uint8).reshape(5, 5, 1)
    assert crop_bits(every, 3, 2) == pytest.approx(math.log2(12))


def test_refusals() -> None:
    """Other models and other data are told what would do."""
    model = PixelCNN((1, 2, 2), 4, 4, 0)
    x = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    data = Dataset("mine", 4, x, x, x)
    with pytest.raises(DataError, match="mine does not say which pixels are a digit's: use hopper-mnist"):
        split_bits(model, data)
    data = replace(data, masks={"test": x[:, 0]})
    for other in (PixelIQN((1, 2, 2), 4, 4, 0), MADE((1, 2, 2), 4, (4,))):
        with pytest.raises(ModelError, match="does not tell a pixel's bits apart"):
            split_bits(other, data)
