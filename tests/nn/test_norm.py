"""Layer normalisation over the channels of a pixel, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chainrule.nn import ChannelLayerNorm


@pytest.fixture
def layer():
    torch.manual_seed(0)
    layer = ChannelLayerNorm(6).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def test_is_layer_norm_of_every_pixel(layer):
    """Each pixel's channels go through torch.nn.LayerNorm by themselves."""
    oracle = nn.LayerNorm(6).double()
    oracle.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    y = layer(x)
    assert y.shape == x.shape
    for i in range(3):
        for j in range(4):
            torch.testing.assert_close(y[:, :, i, j], oracle(x[:, :, i, j]), rtol=0, atol=1e-12)


def test_step_equals_forward(layer):
    """One pixel at a time is the same."""
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(layer.step(x[:, :, 1, 2]), layer(x)[:, :, 1, 2], rtol=0, atol=1e-12)


def test_no_pixel_sees_another(layer):
    """Changing one pixel changes the output there alone: statistics over H×W would leak."""
    x = torch.randn(1, 6, 3, 4, dtype=torch.float64)
    other = x.clone()
    other[:, 0, 2, 3] += 5
    changed = (layer(other) != layer(x)).any(1)[0]
    assert changed.nonzero().tolist() == [[2, 3]]
