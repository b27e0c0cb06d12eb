"""Archives of models whose sites differ, or that need more than the events: gray images, and labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule.codec.event_coding import label_frequencies, likeliest_labels
from chainrule.fixedpoint import exact, frequencies
from chainrule.models import GatedPixelCNNMADE, GrayscalePixelCNN, LogisticPixelCNN
from chainrule.sampling import score
from laws import randomised


def build(cls, **options):
    torch.manual_seed(0)
    return randomised(cls((3, 5, 4), 4, filters=8, blocks=1, **options), dtype=torch.float32)


MODELS = {
    "class": lambda: build(GatedPixelCNNMADE, classes=3),
    "one class": lambda: build(GatedPixelCNNMADE, classes=1),
    "gray": lambda: build(GrayscalePixelCNN),
    "logistic": lambda: build(LogisticPixelCNN, components=3),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("embed", [False, True])
def test_round_trip(name, embed):
    """Images come back, with the model at hand or from the archive, and the archive is as long as it should be."""
    model = MODELS[name]()
    x = model.sample(300, model.example_context(300), torch.Generator().manual_seed(0))
    images = x.permute(0, 2, 3, 1).numpy().astype(np.uint8)
    blob = cr.compress(model, images, embed_model=embed, chunk=200)
    back = cr.decompress(None if embed else model, blob)
    assert back.dtype == images.dtype
    assert np.array_equal(back, images)
    if not embed:
        twin = exact(model)
        context = likeliest_labels(twin, x) if twin.needs_context else None
        bits = -float(twin.log_prob(x, context).sum()) / np.log(2) + len(x) * np.log2(getattr(model, "classes", 0) or 1)
        assert 8 * len(blob) == pytest.approx(bits, abs=8 * 800)


def test_labels_are_the_likeliest():
    """No label makes an event shorter than the one that is taken, and not all events take the same."""
    model = MODELS["class"]()
    x = model.sample(60, model.example_context(60), torch.Generator().manual_seed(0))
    twin = exact(model)
    found = likeliest_labels(twin, x)
    of_found = twin.log_prob(x, found)
    for label in range(3):
        assert (twin.log_prob(x, torch.full((60,), label)) <= of_found).all()
    assert len(found.unique()) > 1
    assert int(label_frequencies(model).sum()) == 2**22


def test_frequencies_take_a_context():
    """The encoder's table is the walk's, label by label."""
    twin = exact(MODELS["class"]())
    labels = torch.tensor([0, 2, 1, 1])
    x = torch.randint(0, 4, (4, 3, 5, 4), generator=torch.Generator().manual_seed(1))
    table = frequencies(twin, x, labels)
    sites = twin.sites()
    chosen = torch.stack([table[k, range(4), x[(slice(None), *site.index)]] for k, site in enumerate(sites)], 1)
    walked = score(twin, x, labels)
    walked = torch.stack([walked[(slice(None), *site.index)] for site in sites], 1)
    assert torch.equal(chosen.double().mul(2.0**-22).log(), walked)
