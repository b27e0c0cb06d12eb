"""Parallel passes give an encoder what walks give, in bounded memory, whatever the trunk and the head."""

from __future__ import annotations

import pytest
import torch

from chainrule.fixedpoint import exact, scoring
from chainrule.fixedpoint.scoring import by_passes, edges_by_passes, edges_of, order_of
from chainrule.models import ImageGPT, ImageModel, LogisticPixelCNN, PixelCNNMADE, PixelSNAIL
from laws import events, randomised

MODELS = {
    "image-gpt": lambda: ImageGPT((1, 9, 4), 17, "logistic", 8, 1),
    "image-gpt, labelled": lambda: ImageGPT((2, 9, 4), 17, "logistic", 8, 1, classes=3),
    "snail": lambda: PixelSNAIL((2, 9, 4), 17, "logistic", 8, 1),
    "gated, labelled": lambda: ImageModel((2, 9, 4), 17, "gated", "logistic", 8, 1, classes=3),
    "masked": lambda: LogisticPixelCNN((2, None, None), 17, 8, 1),
    "by fronts, tabulated": lambda: PixelCNNMADE((2, None, None), 5, 8, 1),
    "tabulated": lambda: PixelCNNMADE((2, 9, 4), 5, 8, 1),
}


@pytest.mark.parametrize("n", [0, 1, 7])
@pytest.mark.parametrize("name", MODELS)
def test_edges_by_passes_are_those_of_frequencies(name, n, monkeypatch):
    """However few pixels a pass takes: a part of one event, one, or some of them."""
    torch.manual_seed(0)
    model = exact(randomised(MODELS[name](), dtype=torch.float32))
    model = model.sized(9, 4) if model.any_size else model
    x, context = events(model, n), model.example_context(n)
    taken: list[int] = []
    real = ImageModel.features
    monkeypatch.setattr(ImageModel, "features", lambda m, v, c=None: taken.append(v[:, 0].numel()) or real(m, v, c))
    with torch.no_grad(), model.arithmetic():
        wanted = edges_of(x.flatten(1)[:, order_of(model)].T, by_passes(model, x, context))
        for pixels in (1, 20, 80, 2**16):
            taken.clear()
            monkeypatch.setattr(scoring, "PASS_PIXELS", pixels)
            monkeypatch.setattr(scoring, "PASS_ENTRIES", pixels * model.shape[0] * model.levels)
            found = edges_by_passes(model, x, context)
            assert torch.equal(found, wanted.to(found.dtype))
            whole = model.trunk.reach >= 9 or name == "tabulated"  # an event is never cut there
            assert all(size <= max(pixels, 36 if whole else (model.trunk.reach + 1) * 4) for size in taken)
