"""Which layers' passes the compiled code takes over: those of the very types that it computes, and no other."""

from __future__ import annotations

import pytest
import torch

from chainrule import compiled, plugins
from chainrule.models import PixelCNNMADE
from chainrule.nn import ChannelLayerNorm, Gate, MADENetwork, MaskedConv2d, MaskedLinear, ResidualBlock, passes
from laws import events

pytestmark = pytest.mark.skipif(not compiled.available(), reason="chainrule was installed without a C compiler")


@pytest.fixture(autouse=True)
def plugged_in():
    plugins.load()


def image(channels):
    x = torch.randn(3, channels, 4, 5, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def levels():
    return torch.zeros(6, 2), torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


LAYERS = [
    (lambda: ResidualBlock(64).to(memory_format=torch.channels_last), "forward", lambda: (image(64),)),
    (lambda: ChannelLayerNorm(8), "forward", lambda: (image(8),)),
    (lambda: ChannelLayerNorm(8), "activated", lambda: (image(8),)),
    (lambda: Gate(), "forward", lambda: (image(8),)),
    (lambda: MaskedConv2d(8, 8, 3, "B"), "activated", lambda: (image(8),)),
    (lambda: MADENetwork(2, 3, [8], auxiliary=4), "first", lambda: levels()),
]


@pytest.mark.parametrize(("build", "method", "inputs"), LAYERS)
def test_the_very_type_is_taken_over_and_no_subclass(build, method, inputs):
    torch.manual_seed(0)
    layer = build()
    assert passes.of(layer, method)(layer, *inputs()) is not None
    layer.__class__ = type("Other", (type(layer),), {})
    assert passes.of(layer, method)(layer, *inputs()) is None


@pytest.mark.parametrize(
    ("build", "method", "inputs", "part", "kind"),
    [
        (*LAYERS[0], "norm", ChannelLayerNorm),
        *((*LAYERS[0], part, MaskedConv2d) for part in ("reduce", "spatial", "expand")),
        (*LAYERS[-1], "layers.0", MaskedLinear),
    ],
)
def test_a_layer_of_other_parts_is_not(build, method, inputs, part, kind):
    torch.manual_seed(0)
    layer = build()
    child = layer.get_submodule(part)
    assert type(child) is kind
    child.__class__ = type("Other", (kind,), {})
    assert passes.of(layer, method)(layer, *inputs()) is None


def test_what_is_not_taken_over_gives_the_same(monkeypatch):
    """A model of blocks of another type, or without any pass, has the losses and gradients of the usual one."""

    def outcome(model):
        loss = model.loss(events(model, 5))
        return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]

    torch.manual_seed(0)
    model = PixelCNNMADE((2, 4, 5), 3, filters=64, blocks=2)
    found = outcome(model)
    for block in model.trunk.blocks:
        block.__class__ = type("Other", (ResidualBlock,), {})
    others = [outcome(model)]
    monkeypatch.setattr(passes, "_PASSES", {})
    others.append(outcome(model))
    for other in others:
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, other, strict=True))
