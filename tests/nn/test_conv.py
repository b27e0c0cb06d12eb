"""The masked convolution: equal to an ordinary one with a masked kernel, and to itself pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from chainrule.nn import MaskedConv2d


def build(kernel, mask_type, inputs=3, outputs=4):
    torch.manual_seed(kernel)
    return MaskedConv2d(inputs, outputs, kernel, mask_type).double()


def full_kernel(conv):
    """The k×k kernel of the definition: what is below or right of the centre is zero."""
    k = conv.kernel
    kernel = torch.zeros(conv.out_channels, conv.in_channels, k, k, dtype=torch.float64)
    kernel[:, :, : k // 2 + 1] = conv.weight.detach()
    for i in range(k):
        for j in range(k):
            earlier = (i, j) < (k // 2, k // 2)
            if not earlier and not (conv.mask_type == "B" and (i, j) == (k // 2, k // 2)):
                kernel[:, :, i, j] = 0
    return kernel


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 1), (4, 7), (9, 3)])
@pytest.mark.parametrize("mask_type", ["A", "B"])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
class TestMaskedConv2d:
    def test_is_a_convolution_with_the_full_masked_kernel(self, kernel, mask_type, size):
        """The cropped kernel computes what the full k×k kernel with zeros computes."""
        conv, x = build(kernel, mask_type), torch.randn(2, 3, *size, dtype=torch.float64)
        wanted = F.conv2d(x, full_kernel(conv), conv.bias, padding=kernel // 2)
        torch.testing.assert_close(conv(x), wanted, rtol=0, atol=1e-12)

    def test_step_equals_forward(self, kernel, mask_type, size):
        """Walking over the pixels gives the parallel pass's outputs, one by one."""
        conv, x = build(kernel, mask_type), torch.randn(2, 3, *size, dtype=torch.float64)
        whole, cache = conv(x), conv.start(2, size[1])
        with torch.no_grad():
            for i in range(size[0]):
                for j in range(size[1]):
                    pixel = x[:, :, i, j]
                    given = pixel if mask_type == "B" else None
                    torch.testing.assert_close(conv.step(given, cache, j), whole[:, :, i, j], rtol=0, atol=1e-12)
                    if mask_type == "A":
                        conv.remember(pixel, cache, j)


def test_masked_taps_get_no_gradient():
    """What is masked is not trained, and the stored weight is never written to."""
    conv = build(5, "A")
    before = conv.weight.detach().clone()
    conv(torch.randn(2, 3, 4, 4, dtype=torch.float64)).sum().backward()
    dead = ~conv.mask.expand_as(conv.weight)
    assert dead.any()
    assert conv.weight.grad[dead].eq(0).all()
    assert conv.weight.grad[~dead].ne(0).all()
    assert torch.equal(conv.weight, before)


def test_the_mask_is_no_part_of_the_weights():
    """A saved layer holds weight and bias alone: the mask is made, not stored."""
    assert set(build(3, "B").state_dict()) == {"weight", "bias"}


def test_two_walks_share_one_layer():
    """Caches belong to walks: two that take turns do not disturb each other."""
    conv = build(3, "B")
    x, y = torch.randn(2, 1, 3, 3, 3, dtype=torch.float64)
    caches = conv.start(1, 3), conv.start(1, 3)
    with torch.no_grad():
        for i in range(3):
            for j in range(3):
                for image, cache in zip((x, y), caches, strict=True):
                    output = conv.step(image[:, :, i, j], cache, j)
                    torch.testing.assert_close(output, conv(image)[:, :, i, j], rtol=0, atol=1e-12)
