"""The trunks: features over whole images and pixel by pixel, on the same weights."""

from __future__ import annotations

import pytest
import torch

from chainrule.errors import ModelError
from chainrule.nn import GatedTrunk, MaskedTrunk
from laws import randomised

TRUNKS = [MaskedTrunk, GatedTrunk]


@pytest.fixture(params=[(5, 6), (1, 1), (4, 1), (1, 7)], ids=str)
def image(request):
    return torch.randn(3, 2, *request.param, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def walked(trunk, x, context=None, beside=None):
    """The features that the steps give."""
    batch, _, height, width = x.shape
    state, found = trunk.start(batch, height, width, context), x.new_zeros(batch, trunk.filters, height, width)
    for i in range(height):
        for j in range(width):
            found[:, :, i, j] = trunk.step(state, None if beside is None else beside[:, :, i, j])
            trunk.observe(state, x[:, :, i, j])
    return found


@pytest.mark.parametrize("blocks", [0, 2])
@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("cls", TRUNKS)
def test_steps_equal_forward(cls, layer_norm, blocks, image):
    """For images smaller and larger than the kernels; and no feature is negative."""
    trunk = randomised(cls(2, 6, blocks, layer_norm))
    with torch.no_grad():
        whole = trunk(image)
        torch.testing.assert_close(walked(trunk, image), whole, rtol=0, atol=1e-11)
    assert float(whole.min()) == 0 < float(whole.max())


@pytest.mark.parametrize("cls", TRUNKS)
def test_what_comes_beside_is_added_before_the_last_relu(cls, image):
    trunk = randomised(cls(2, 6, 1, True))
    beside = torch.randn(len(image), 6, *image.shape[2:], generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        whole, far = trunk(image, beside=beside), trunk(image, beside=torch.full_like(beside, 99.0)) - 99
        torch.testing.assert_close(whole, (far + beside).relu(), rtol=0, atol=1e-10)
        torch.testing.assert_close(walked(trunk, image, beside=beside), whole, rtol=0, atol=1e-11)


@pytest.mark.parametrize("sides", [(1, 1), (5, 6), (5, 1), (1, 6)], ids=str)
def test_a_context_reaches_the_steps(sides):
    """Maps that vary over rows, columns, both or neither; without weights of its own it adds nothing."""
    torch.manual_seed(0)
    trunk = GatedTrunk(2, 6, 2, True).double()
    x, context = torch.randn(3, 2, 5, 6, dtype=torch.float64), torch.randn(3, 4, *sides, dtype=torch.float64)
    with torch.no_grad():
        plain = trunk(x)
        trunk.condition(4)
        trunk.double()
        assert torch.equal(trunk(x, context), plain)
        randomised(trunk)
        torch.testing.assert_close(walked(trunk, x, context), trunk(x, context), rtol=0, atol=1e-11)
        assert (trunk(x, context) - trunk(x, -context)).abs().amax((0, 1)).min() > 0


@pytest.mark.parametrize("cls", TRUNKS)
def test_outer_layers_read_pixels_or_the_context(cls):
    """Every layer that does, and no other."""
    trunk = cls(2, 6, 2, True)
    outer = 1 if cls is MaskedTrunk else 2
    assert len(trunk.outer_layers()) == outer
    assert all(layer.in_channels == 2 for layer in trunk.outer_layers())
    if cls is GatedTrunk:
        trunk.condition(9)
        assert sorted(layer.in_channels for layer in trunk.outer_layers()) == [2, 2, 9, 9, 9, 9]


def test_what_cannot_be_is_refused():
    for cls in TRUNKS:
        for filters, blocks in ((0, 1), (4, -1)):
            with pytest.raises(ModelError, match="make no network"):
                cls(2, filters, blocks, True)
    with pytest.raises(ModelError, match="takes no context"):
        MaskedTrunk(2, 4, 1, True).condition(3)
    with pytest.raises(ModelError, match="no room for a context"):
        GatedTrunk(2, 4, 0, True).condition(3)
