"""The compiled layers: the same numbers and gradients as PyTorch's operations, on every kind of processor."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from chainrule import compiled as native
from chainrule.compiled.library import library
from chainrule.compiled.training import layer_passes as layers
from chainrule.models import GatedPixelCNNMADE, PixelCNN, PixelCNNMADE
from chainrule.nn import ChannelLayerNorm, Gate, MADENetwork, MaskedConv2d
from laws import events

pytestmark = pytest.mark.skipif(not native.available(), reason="chainrule was installed without a C compiler")

CHANNELS = [2, 16, 24, 130]
PRECISION = {torch.float32: 2e-6, torch.bfloat16: 4e-3}
"""Largest error, as a share of the largest number: of sums in float32, and of one rounding to bfloat16."""


@pytest.fixture(params=[0, 1, 2], ids=["base", "avx2", "widest"])
def registers(request):
    code = library()
    code.chainrule_limit(request.param)
    yield request.param
    code.chainrule_limit(2)


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    """So many threads, also for small tensors."""
    monkeypatch.setattr(layers, "SHARE", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def images(channels, dtype=torch.float32, height=5, width=7):
    x = 2 * torch.randn(3, channels, height, width)
    return x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def agree(compiled, plain, inputs, tolerance):
    """Outputs and all gradients, against PyTorch's in float64."""
    wide = [x.detach().double().requires_grad_() for x in inputs]
    y, expected = compiled(*inputs), plain(*wide)
    assert y.dtype == inputs[-1].dtype or y.dtype == inputs[0].dtype
    grad = torch.randn(y.shape).to(y.dtype)  # not in channels_last memory
    found = torch.autograd.grad(y, inputs, grad)
    wanted = torch.autograd.grad(expected, wide, grad.double())
    for a, b in zip((y.detach(), *found), (expected.detach(), *wanted), strict=True):
        assert float((a.double() - b).abs().max()) <= tolerance * max(float(b.abs().max()), 1e-3)


@pytest.mark.parametrize("dtype", PRECISION, ids=str)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("channels", CHANNELS)
def test_layer_norm(channels, relu, dtype, registers, threads):
    torch.manual_seed(0)
    gain, bias = torch.randn(channels, requires_grad=True), torch.randn(channels, requires_grad=True)

    def plain(x, gain, bias):
        y = F.layer_norm(x.permute(0, 2, 3, 1), (channels,), gain, bias, 0.1).permute(0, 3, 1, 2)
        return F.relu(y) if relu else y

    def compiled(x, gain, bias):
        return layers.layer_norm(x, gain, bias, 0.1, relu=relu)

    agree(compiled, plain, [images(channels, dtype), gain, bias], PRECISION[dtype])


@pytest.mark.parametrize("dtype", PRECISION, ids=str)
@pytest.mark.parametrize("channels", [c for c in CHANNELS if c % 2 == 0])
def test_gate(channels, dtype, registers, threads):
    torch.manual_seed(0)
    agree(
        layers.gate,
        lambda x: x.chunk(2, 1)[0].tanh() * x.chunk(2, 1)[1].sigmoid(),
        [images(channels, dtype)],
        PRECISION[dtype],
    )


@pytest.mark.parametrize("dtype", PRECISION, ids=str)
@pytest.mark.parametrize("border", [1, 3])
@pytest.mark.parametrize("channels", CHANNELS)
def test_relu_and_border(channels, border, dtype, registers, threads):
    """Nothing is rounded."""
    torch.manual_seed(0)
    agree(
        lambda x: layers.relu_pad(x, border),
        lambda x: F.pad(F.relu(x), (border, border, border, 0)),
        [images(channels, dtype)],
        0.0,
    )


@pytest.mark.parametrize("dtype", PRECISION, ids=str)
@pytest.mark.parametrize("variables", [1, 3, 4])
@pytest.mark.parametrize("units", [5, 24, 64])
def test_lookup(units, variables, dtype, registers, threads):
    torch.manual_seed(0)
    v = torch.randint(0, 5, (variables, 50)).T  # not contiguous, as the pixels of one image are
    inputs = [torch.randn(variables, 5, units), torch.randn(units), torch.randn(50, units).to(dtype)]

    def plain(table, bias, plus):
        return F.relu(bias + sum(table[d, v[:, d]] for d in range(variables)) + plus)

    def compiled(table, bias, plus):
        return layers.lookup_relu(v, table, bias, plus)

    agree(compiled, plain, [x.requires_grad_() for x in inputs], PRECISION[dtype])


@pytest.mark.parametrize("dtype", PRECISION, ids=str)
def test_numbers_at_the_ends(dtype, registers):
    """What is not a number stays none, so that training is told of it; what is large does not become one."""
    ends = torch.tensor([float("nan"), 1e30, -1e30, float("inf"), -float("inf"), 0.0, 50.0, -50.0], dtype=dtype)
    x = ends.repeat(2).view(1, 16, 1, 1)
    y = layers.gate(x).flatten().double()
    expected = ends.double().tanh() * ends.double().sigmoid()
    assert torch.allclose(y, expected, atol=1e-6, rtol=1e-2, equal_nan=True)
    negative = torch.full((1, 8, 1, 1), -float("nan"), dtype=dtype)
    for broken in (
        layers.relu_pad(negative, 1)[:, :, 1, 1],
        layers.layer_norm(negative, torch.ones(8), torch.zeros(8), 1e-5, relu=True),
        layers.lookup_relu(torch.zeros(1, 1).long(), torch.zeros(1, 2, 8), torch.zeros(8), negative.view(1, 8)),
    ):
        assert bool(broken.isnan().all())


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE, GatedPixelCNNMADE])
def test_models_with_and_without(cls, batch, monkeypatch):
    """The loss and every gradient of a model, from compiled layers and from PyTorch's."""
    torch.manual_seed(0)
    model = cls((2, 4, 5), 3, filters=12, blocks=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    x = events(model, batch)
    found = {}
    for native_code in ("1", "0"):
        monkeypatch.setenv("CHAINRULE_COMPILED", native_code)
        loss = model.loss(x)
        found[native_code] = [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]
    for a, b in zip(found["1"], found["0"], strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE, GatedPixelCNNMADE])
def test_gradients_of_gradients(cls, monkeypatch):
    """They cannot be taken of compiled layers, and are right all the same."""
    torch.manual_seed(0)
    model = cls((2, 3, 3), 3, filters=8, blocks=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    x, parameters, found = events(model, 2), list(model.parameters()), {}
    for native_code in ("1", "0"):
        monkeypatch.setenv("CHAINRULE_COMPILED", native_code)
        grads = torch.autograd.grad(model.loss(x), parameters, create_graph=True)
        found[native_code] = torch.autograd.grad(sum((s**2).sum() for s in grads), parameters, materialize_grads=True)
    assert any(float(a.abs().max()) > 1e-3 for a in found["0"])
    for a, b in zip(found["1"], found["0"], strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("relu", [False, True])
def test_gradients_of_gradients_in_bfloat16(relu):
    x, gain, bias = images(8, torch.bfloat16), torch.randn(8, requires_grad=True), torch.randn(8)
    y = layers.layer_norm(x, gain, bias, 0.1, relu=relu)
    grads = torch.autograd.grad(y.float().square().sum(), [x, gain], create_graph=True)
    assert grads[0].dtype == torch.bfloat16
    assert grads[1].dtype == torch.float32
    assert all(bool(s.isfinite().all()) for s in torch.autograd.grad(sum(s.float().sum() for s in grads), [x, gain]))


@pytest.mark.parametrize("cls", [PixelCNN, PixelCNNMADE, GatedPixelCNNMADE])
def test_transformed_models(cls):
    """torch.func, and Jacobians of many rows at once."""
    torch.manual_seed(0)
    model = cls((2, 3, 3), 3, filters=8, blocks=1)
    x, parameters = events(model, 2), dict(model.named_parameters())
    found = torch.func.grad(lambda p: -torch.func.functional_call(model, p, (x,)).mean() / model.dims)(parameters)
    wanted = torch.autograd.grad(model.loss(x), list(parameters.values()))
    for a, b in zip(found.values(), wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    y, weights = model(x), list(parameters.values())
    rows = torch.autograd.grad(y, weights, torch.eye(2), is_grads_batched=True, retain_graph=True)
    for a, b in zip(rows, torch.autograd.grad(y, weights, torch.tensor([0.0, 1.0])), strict=True):
        assert torch.allclose(a[1], b, atol=1e-5)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=str)
def test_other_defaults(default):
    """What new tensors are by default has no part in it."""
    torch.manual_seed(0)
    x, gain, bias = images(8), torch.randn(8, requires_grad=True), torch.randn(8, requires_grad=True)
    rows, table = torch.zeros(50, 1).long(), torch.randn(1, 2, 8, requires_grad=True)
    plus = torch.randn(50, 8)

    def results():
        norm = layers.layer_norm(x, gain, bias, 0.1)
        first = torch.autograd.grad(norm.square().sum(), [x, gain, bias])
        looked = layers.lookup_relu(rows, table, bias, plus)
        return [norm, *first, layers.gate(x), looked, *torch.autograd.grad(looked.square().sum(), [table, bias])]

    wanted = results()
    try:
        torch.set_default_dtype(default)
        with torch.device("meta"):
            found = results()
    finally:
        torch.set_default_dtype(torch.float32)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def test_a_bias_between_other_numbers():
    both = torch.ones(2 * 4096)
    both[1::2] = 2.0
    y = layers.lookup_relu(torch.zeros(1, 1).long(), torch.zeros(1, 2, 4096), both[::2], torch.zeros(1, 4096))
    assert bool((y == 1.0).all())


def test_norms_that_do_not_fit_are_left_to_pytorch():
    x = images(8)
    for options in ({"bias": False}, {"elementwise_affine": False}):
        norm = ChannelLayerNorm(8, **options)
        assert norm(x).shape == norm.activated(x).shape == x.shape
    for channels in (4, 12):
        with pytest.raises(RuntimeError, match="normalized_shape"):
            ChannelLayerNorm(channels)(x)


def test_gates_of_odd_halves_are_refused():
    with pytest.raises(RuntimeError, match="size"):
        Gate()(images(5))


def test_levels_and_shapes_that_do_not_fit_are_left_to_pytorch():
    torch.manual_seed(0)
    network = MADENetwork(3, 4, [8], auxiliary=2)
    v, given = torch.randint(0, 4, (5, 3)).float(), torch.randn(5, 2)
    for level in (-1.0, 4.0, 1e6):
        with pytest.raises(RuntimeError, match="Class values"):
            network(torch.tensor([[0.0, 0.0, level]]), given[:1])
    with pytest.raises(RuntimeError, match="shapes"):
        network(v[:, :1], given)
    whole = network(v, given)
    assert torch.allclose(network(v[0], given[0]), whole[0], atol=1e-6)
    assert torch.allclose(network(v, given[0]), network(v, given[:1].expand(5, -1)), atol=1e-6)
    assert torch.allclose(network(v[:1], given), network(v[:1].expand(5, -1), given), atol=1e-6)


def test_a_subclass_may_do_something_else():
    class OtherNorm(ChannelLayerNorm):
        def forward(self, x):
            return x - 1

    class OtherConv(MaskedConv2d):
        def forward(self, x):
            return x - 1

    x = images(8).detach()
    assert torch.equal(OtherNorm(8).activated(x), F.relu(x - 1))
    assert torch.equal(OtherConv(8, 8, 3, "B").activated(x.clone(memory_format=torch.preserve_format)), F.relu(x) - 1)


def test_what_does_not_fit_is_left_to_pytorch():
    x = images(8)
    assert layers.fits(x)
    assert not layers.fits(x.double())
    assert not layers.fits(x.contiguous(memory_format=torch.contiguous_format))
    assert not layers.fits(x[:, :4])
    assert not layers.fits(x[0])
