"""The residual block."""

from __future__ import annotations

import pytest
import torch

from chainrule.nn import ResidualBlock
from laws import randomised


@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("filters", [1, 5, 8])
def test_step_equals_forward(filters, layer_norm):
    """Pixel by pixel the block gives what it gives for the whole image."""
    block = randomised(ResidualBlock(filters, layer_norm=layer_norm))
    x = torch.randn(2, filters, 4, 5, dtype=torch.float64)
    cache = block.start(2, 5)
    with torch.no_grad():
        whole = block(x)
        for i in range(4):
            for j in range(5):
                torch.testing.assert_close(block.step(x[:, :, i, j], cache, j), whole[:, :, i, j], rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_the_input_is_added_once(layer_norm):
    """With a last convolution of zeros the block is the identity."""
    block = ResidualBlock(6, layer_norm=layer_norm)
    block.expand.weight.data.zero_()
    x = torch.randn(2, 6, 3, 3)
    assert torch.equal(block(x), x)


def test_a_pixel_sees_its_neighbourhood_and_no_later_one():
    """The Jacobian reaches the 3×3 type-B neighbourhood exactly."""
    block = randomised(ResidualBlock(6))
    x = torch.randn(30, 6, 5, 5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(x)[:, :, 2, 2].sum(), x)
    seen = gradient.abs().amax((0, 1)).nonzero().tolist()
    assert seen == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2]]


def test_depth_keeps_the_stream_from_growing():
    """A deep stack's initial residual branches are smaller by the square root of its depth."""
    torch.manual_seed(0)
    shallow = ResidualBlock(32)
    torch.manual_seed(0)
    deep = ResidualBlock(32, depth=16)
    torch.testing.assert_close(deep.expand.weight, shallow.expand.weight / 4)
