"""What is particular to the model with a gray image: consistency, colouring, completion, its two parts."""

from __future__ import annotations

import pytest
import torch

from chainrule.errors import DataError, ModelError
from chainrule.models import GrayscalePixelCNN
from chainrule.models.gray import gray_of
from laws import enumerate_events, events, randomised


@pytest.fixture
def model():
    torch.manual_seed(0)
    return randomised(GrayscalePixelCNN((3, 3, 2), 4, filters=6, blocks=1))


def gray(model, x):
    return gray_of(x, model.levels, model.grays)


def test_colorings_have_the_gray_they_were_given(model):
    """Every pixel of every draw, and the colours differ."""
    given = torch.randint(0, model.grays, (40, 3, 2), generator=torch.Generator().manual_seed(0))
    x = model.colorize(given, torch.Generator().manual_seed(1))
    assert torch.equal(gray(model, x), given)
    again = model.colorize(given, torch.Generator().manual_seed(2))
    assert torch.equal(gray(model, again), given)
    assert not torch.equal(x, again)


def test_the_two_factors_are_distributions():
    """Gray images alone sum to one, and so do the colours of each gray image."""
    torch.manual_seed(0)
    model = randomised(GrayscalePixelCNN((2, 1, 2), 3, filters=5, blocks=1))
    x = enumerate_events(model)
    parts = model.site_log_probs(x).detach()
    of_gray, of_colors = parts[:, 2].flatten(1).sum(1).exp(), parts[:, :2].flatten(1).sum(1).exp()
    images = gray(model, x).flatten(1)
    total = 0.0
    for image in images.unique(dim=0):
        same = (images == image).all(1)
        assert abs(float(of_colors[same].sum()) - 1) < 1e-10
        assert float(of_gray[same].max() - of_gray[same].min()) < 1e-12
        total += float(of_gray[same][0])
    assert abs(total - 1) < 1e-10


def test_completion_keeps_whole_pixels(model):
    """Also in the gray image, whose draws go on from the gray of what is known."""
    x = events(model, 30)
    known = torch.zeros(1, 3, 2, dtype=torch.bool)
    known[:, :2] = True
    y = model.complete(x, known, generator=torch.Generator().manual_seed(0))
    assert torch.equal(y[:, :, :2], x[:, :, :2])
    assert not torch.equal(y, x)
    part = torch.zeros(3, 3, 2, dtype=torch.bool)
    part[0] = True
    with pytest.raises(DataError, match="whole pixels"):
        model.complete(x, part)


def test_gradients_are_finite(model):
    """Although some logits are infinite."""
    model.train()
    model.loss(events(model, 20)).backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    assert sum(p.grad is None for p in model.parameters()) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1, 3, 3), 4), "two or more channels"),
        (((3,), 4), "two or more channels"),
        (((3, 3, 3), 4, 8, 1, True, 11), "11 gray levels"),
        (((3, 3, 3), 4, 8, 0), "at least one"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ModelError, match=message):
        GrayscalePixelCNN(*arguments)


def test_gray_images_are_checked(model):
    for wrong in (torch.zeros(2, 3, 2), torch.zeros(2, 2, 2, dtype=torch.long), torch.full((2, 3, 2), model.grays)):
        with pytest.raises(DataError, match="gray"):
            model.colorize(wrong)
