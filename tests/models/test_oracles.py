"""Each model against an independent computation of the same distribution."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical
from torch.nn import functional as F

from chainrule.models import MADE, ConditionalMLP, Histogram, LogisticPixelCNN, PixelCNN, PixelCNNMADE
from chainrule.nn.encoding import ONE_HOT_UP_TO
from laws import events, randomised


def test_histogram_is_a_categorical():
    """log p(x) is Categorical(logits=θ)'s, and θ = 0 the uniform."""
    model = randomised(Histogram(9))
    x = events(model, 50)
    torch.testing.assert_close(model.log_prob(x), Categorical(logits=model.theta).log_prob(x[:, 0]), rtol=0, atol=1e-12)
    assert Histogram(8).log_prob(x[:3] % 8).exp().tolist() == pytest.approx([1 / 8] * 3)


def test_made_is_a_chain_of_categoricals():
    """Each variable's conditional is that of its logits, computed with the later variables set to nothing."""
    model = randomised(MADE((4,), 5, (12, 9)))
    x = events(model, 30)
    total = torch.zeros(30, dtype=torch.float64)
    for d in range(4):
        masked = x.clone()
        masked[:, d:] = 0
        total += Categorical(logits=model.network(masked.double())[:, d]).log_prob(x[:, d])
    torch.testing.assert_close(model.log_prob(x), total, rtol=0, atol=1e-12)


def test_made_by_hand():
    """Written out with explicit masked weights and ordinary linear layers."""
    model = randomised(MADE((3,), 2, (4,)))
    x = events(model, 10)
    # Ranks of the four hidden units: 1, 1, 2, 2. Inputs 1 … 3 with two levels each.
    first, last = model.network.layers[0], model.network.output
    seen = torch.tensor([[1, 1, 0, 0, 0, 0]] * 2 + [[1, 1, 1, 1, 0, 0]] * 2)
    used = torch.tensor([[0, 0, 0, 0]] * 2 + [[1, 1, 0, 0]] * 2 + [[1, 1, 1, 1]] * 2)
    h = F.relu(F.linear(F.one_hot(x, 2).flatten(1).double(), first.weight * seen, first.bias))
    logits = F.linear(h, last.weight * used, last.bias).unflatten(1, (3, 2))
    torch.testing.assert_close(model.log_prob(x), Categorical(logits=logits).log_prob(x).sum(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("encoding", ["onehot", "scalar", "embedding"])
def test_conditional_mlp_by_hand(encoding):
    """θ for the first, the MLP of the encoded first for the second."""
    model = randomised(ConditionalMLP(6, encoding, (7,), embedding=3))
    x = events(model, 40)
    first = x[:, 0]
    if encoding == "onehot":
        inputs = F.one_hot(first, 6).double()
    elif encoding == "embedding":
        inputs = model.table[first]
    else:
        inputs = ((first.double() - 2.5) / (2.5 / math.sqrt(3)))[:, None]
    wanted = Categorical(logits=model.theta).log_prob(first) + Categorical(logits=model.mlp(inputs)).log_prob(x[:, 1])
    torch.testing.assert_close(model.log_prob(x), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", [ONE_HOT_UP_TO, ONE_HOT_UP_TO + 1])
def test_pixelcnn_by_hand(levels):
    """The stack of the paper written with ordinary k×k convolutions on masked kernels; both encodings of the input."""
    model = randomised(PixelCNN((2, 5, 6), levels, 8, 2, layer_norm=False))
    x = events(model, 3)

    def conv(layer, h):
        k, radius = layer.kernel, layer.kernel // 2
        kernel = torch.zeros(*layer.weight.shape[:2], k, k, dtype=torch.float64)
        kernel[:, :, : radius + 1] = layer.weight.detach() * layer.mask
        return F.conv2d(h, kernel, layer.bias, padding=radius)

    if levels <= 16:
        v = F.one_hot(x, levels).permute(0, 1, 4, 2, 3).flatten(1, 2).double()
    else:
        v = x.double() * 2 / (levels - 1) - 1
        assert v.min() >= -1
        assert v.max() <= 1
    h = conv(model.trunk.input, v)
    for block in model.trunk.blocks:
        h = h + conv(block.expand, F.relu(conv(block.spatial, F.relu(conv(block.reduce, F.relu(h))))))
    logits = (
        conv(model.head.output, F.relu(conv(model.trunk.hidden, F.relu(h))))
        .unflatten(1, (2, levels))
        .permute(0, 1, 3, 4, 2)
    )
    torch.testing.assert_close(model.site_log_probs(x), Categorical(logits=logits).log_prob(x), rtol=0, atol=1e-11)


def test_channels_are_independent_in_a_pixelcnn_and_not_in_its_made():
    """Given earlier pixels, p(c1, c2) factorises in the one and, in general, not in the other."""
    for cls, factorised in ((PixelCNN, True), (PixelCNNMADE, False)):
        model = randomised(cls((2, 1, 2), 3, 8, 1), std=0.6)
        x = events(model, 1).expand(9, -1, -1, -1).clone()
        x[:, :, 0, 1] = torch.cartesian_prod(torch.arange(3), torch.arange(3))
        joint = model.site_log_probs(x)[:, :, 0, 1].sum(1).exp().view(3, 3).detach()
        product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
        assert torch.allclose(joint, product, atol=1e-12) == factorised


def test_many_levels_enter_scaled():
    """Beyond the limit each channel is one number: the first layer does not grow with the levels."""
    assert PixelCNN((3, 2, 2), ONE_HOT_UP_TO, 4, 1).trunk.input.in_channels == 3 * ONE_HOT_UP_TO
    assert PixelCNN((3, 2, 2), 256, 4, 1).trunk.input.in_channels == 3


def test_logistic_components_begin_side_by_side():
    """As constructed, a mixture covers the range: no level of a first channel is far from its share."""
    for levels in (2, 4, 17, 256):
        torch.manual_seed(0)
        model = LogisticPixelCNN((3, 2, 2), levels, 16, 1, prediction=False)
        pmf = model.log_pmf(torch.zeros(1, 3, 2, 2).long())[:, 0].detach().exp() * levels
        assert float(pmf.min()) > 0.4
        inner = pmf[..., 1:-1] if levels > 2 else pmf
        assert float(inner.max()) < 2.5


def test_with_a_prediction_components_begin_there():
    """As constructed, a pixel inside is likeliest near ¾ W + ¾ N − ½ NW, and later channels where the first one led."""
    torch.manual_seed(0)
    model = LogisticPixelCNN((3, 2, 2), 256, 16, 1)
    x = torch.full((1, 3, 2, 2), 100)
    x[:, :, 0, 1], x[:, :, 1, 0] = 120, 140  # so that 145 is predicted; the first channel is 20 above it
    x[:, :2, 1, 1] = torch.tensor([165, 161])
    likeliest = model.log_pmf(x)[0, :, 1, 1].argmax(-1)
    assert (likeliest - torch.tensor([145, 161, 145 + 14])).abs().max() <= 2


def test_mixtures_are_computed_in_float32_under_autocast():
    """A mean among 256 levels, rounded to eight bits, would miss its level: the last layer is not."""
    torch.manual_seed(0)
    model = LogisticPixelCNN((3, 4, 4), 256, 16, 0, layer_norm=False)
    x = events(model, 8)
    features = model.features(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = model.head._numbers(features)
        assert model.log_prob(x).dtype == torch.float32
    assert raw.dtype == torch.float32
    assert torch.equal(raw, model.head._numbers(features))
