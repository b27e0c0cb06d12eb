"""Predictions in front of a trunk: what the network reads, and what follows its features."""

from __future__ import annotations

import itertools

import pytest
import torch

from chainrule.errors import ModelError
from chainrule.models import LogisticPixelCNN
from chainrule.nn import PREDICTIONS
from chainrule.nn.least_squares import ALONE
from chainrule.nn.prediction import softsign


def small(prediction=1):
    torch.manual_seed(0)
    return LogisticPixelCNN((2, 6, 7), 32, filters=6, blocks=1, layer_norm=False, components=2, prediction=prediction)


def test_predictions_are_least_squares_a_plane_and_neighbours():
    """In half-bins; where a neighbour lies outside, the first prediction stands in."""
    model, x = small(), torch.randint(32, (1, 2, 6, 7), generator=torch.Generator().manual_seed(0))
    found = model.trunk(model.encoding(model._float(x)))[0, 6:]
    u = 2.0 * x[0] - 31
    first = model.trunk.squares(u[None])[0, :2]
    assert torch.equal(found[:2], first)
    for k, (row, column) in enumerate(ALONE):
        for i in range(6):
            for j in range(7):
                inside = i + row >= 0 and 0 <= j + column < 7
                wanted = u[:, i + row, j + column] if inside else first[:, i, j]
                assert torch.equal(found[4 + 2 * k : 6 + 2 * k, i, j], wanted)
    plane = 0.75 * u[:, 1:, :-1] + 0.75 * u[:, :-1, 1:] - 0.5 * u[:, :-1, :-1]
    assert torch.equal(found[2:4, 1:, 1:], plane)
    assert len(found) == 2 * PREDICTIONS + 1  # a slope behind them


def test_the_network_reads_pixels_and_what_is_left_of_them():
    model, x = small(), torch.randint(32, (1, 2, 6, 7), generator=torch.Generator().manual_seed(0))
    seen = []
    model.trunk.inner.input.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    model.trunk(model.encoding(model._float(x)))
    u = 2.0 * x - 31
    left = model.trunk.squares.residuals(u, model.trunk.squares(u))
    assert torch.allclose(seen[0], torch.cat([u / 31, softsign(left).float()], 1))


def test_a_second_kind_comes_between_predictions_and_slopes():
    one, model, x = small(), small(2), torch.randint(32, (1, 2, 6, 7), generator=torch.Generator().manual_seed(0))
    seen = []
    model.trunk.inner.input.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    found, u = model.trunk(model.encoding(model._float(x)))[0, 6:], 2.0 * x - 31
    first, far = one.trunk.squares(u)[0], model.trunk.far(u)
    wanted = torch.cat([first[: 2 * PREDICTIONS], far[0, :2], first[2 * PREDICTIONS :]])
    assert torch.equal(found, wanted)
    assert torch.allclose(seen[0][:, 4:], softsign(model.trunk.far.residuals(u, far)).float())


@pytest.mark.parametrize("kinds", [1, 2])
def test_features_know_how_far_predictions_of_the_pixel_itself_lie_apart(kinds):
    """φ = relu(inner + W · [p_0 / (L − 1), d / (4 + |d|)]), d = p_k − p_0, written out for each pixel."""
    model, x = small(kinds), torch.randint(32, (2, 2, 6, 7), generator=torch.Generator().manual_seed(0))
    trunk, seen = model.trunk, []
    trunk.inner.input.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    found = trunk(model.encoding(model._float(x)))
    inner = trunk.inner(seen[0], beside=torch.full((2, 6, 6, 7), 9.0)) - 9  # before its ReLU
    weight, bias = trunk.from_spread.weight[:, :, 0, 0], trunk.from_spread.bias
    for b, i, j in itertools.product(range(2), range(6), range(7)):
        predictions = found[b, 6 : 6 + 2 * trunk.predictions, i, j].view(-1, 2)
        d = predictions[1:] - predictions[0]
        spread = torch.cat([predictions[0] / 31, (d / (4 + d.abs())).flatten()])
        wanted = (inner[b, :, i, j] + weight @ spread + bias).relu()
        torch.testing.assert_close(found[b, :6, i, j], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prediction", [-1, 3])
def test_there_are_two_kinds(prediction):
    with pytest.raises(ModelError, match="kinds of least squares: use 0, 1 or 2"):
        small(prediction)


def test_predictions_keep_their_precision_in_bfloat16():
    """Eight bits would not tell a level from the next."""
    torch.manual_seed(0)
    model = LogisticPixelCNN((3, 6, 7), 256, filters=6, blocks=1, layer_norm=False, components=2)
    x = torch.randint(256, (2, 3, 6, 7), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.trunk(model.encoding(model._float(x)))
    assert torch.equal(found[:, 6:], model.trunk.squares(2.0 * x - 255))
