"""Linear predictions in front of a trunk: the first is trained, the neighbours stay what they are."""

from __future__ import annotations

import pytest
import torch

from chainrule.models import LogisticPixelCNN
from chainrule.nn.prediction import NEIGHBOURS, PLANE
from chainrule.training import fit
from laws import tiny_dataset


def small():
    torch.manual_seed(0)
    return LogisticPixelCNN((2, 6, 7), 32, filters=6, blocks=1, layer_norm=False, components=2)


def test_the_predictions_are_neighbours_and_a_plane():
    """In half-bins; beyond the border lies the middle of the levels."""
    model, x = small(), torch.randint(32, (1, 2, 6, 7), generator=torch.Generator().manual_seed(0))
    found = model.trunk(model.encoding(model._float(x)))[0, -2 * (1 + len(NEIGHBOURS)) :].unflatten(0, (-1, 2))
    w = torch.zeros(2, 12, 13)
    w[:, 3:9, 3:10] = 2 * x[0] - 31
    at = lambda row, column: w[:, 3 + row : 9 + row, 3 + column : 10 + column]  # noqa: E731
    plane = sum(weight * at(*place) for place, weight in PLANE.items())
    wanted = torch.stack([plane, *(at(*place) for place in NEIGHBOURS)])
    assert torch.allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_neighbours_stay_neighbours(optimizer):
    """Only the first prediction of each channel is trained."""
    model = small()
    before = [parameter.clone() for parameter in model.trunk.predict.parameters()]
    fit(model, tiny_dataset((2, 6, 7), 32), steps=3, batch_size=8, optimizer=optimizer, lr=0.01)
    for old, new in zip(before, model.trunk.predict.parameters(), strict=True):
        assert torch.equal(old[2:], new[2:])
        assert not torch.equal(old[:2], new[:2])
