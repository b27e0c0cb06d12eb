"""Passes that are taken over: by the very type of a layer, and only where they answer."""

from __future__ import annotations

import pytest
import torch

from chainrule.nn import ChannelLayerNorm, Gate, MADENetwork, MaskedConv2d, ResidualBlock, passes


@pytest.fixture
def taken(monkeypatch):
    """Every pass that layers ask for is taken over: `taken.calls` notes them, and `taken.answer` is what they give."""

    class Taken:
        answer = None

        def __init__(self):
            self.calls = []

        def __call__(self, layer, *inputs):
            self.calls.append(type(layer).__name__)
            return self.answer

    found, names = Taken(), ("forward", "activated", "first")
    kinds = (ChannelLayerNorm, Gate, MADENetwork, MaskedConv2d, ResidualBlock)
    monkeypatch.setattr(passes, "_PASSES", {})
    for kind in kinds:
        for name in names:
            passes.register(kind, name, found)
    return found


def image(channels=4):
    return torch.randn(2, channels, 3, 3, generator=torch.Generator().manual_seed(0))


USES = [
    (lambda: ResidualBlock(4), lambda layer: layer(image())),
    (lambda: ChannelLayerNorm(4), lambda layer: layer(image())),
    (lambda: ChannelLayerNorm(4), lambda layer: layer.activated(image())),
    (lambda: MaskedConv2d(4, 4, 3, "B"), lambda layer: layer.activated(image())),
    (lambda: Gate(), lambda layer: layer(image())),
    (lambda: MADENetwork(2, 3, [4], auxiliary=4), lambda layer: layer._first(torch.zeros(5, 2), torch.ones(5, 4))),
]


@pytest.mark.parametrize(("build", "use"), USES)
def test_an_answer_is_taken_and_none_is_not(build, use, taken, monkeypatch):
    """Where the pass returns None the layer computes as if there were none."""
    torch.manual_seed(0)
    layer = build()
    left = use(layer)
    assert taken.calls
    taken.answer = torch.full((), 7.0)
    assert use(layer) is taken.answer
    monkeypatch.setattr(passes, "_PASSES", {})
    assert torch.equal(use(layer), left)


@pytest.mark.parametrize(("build", "use"), USES)
def test_a_subclass_is_never_taken_over(build, use, taken):
    """It may do something else."""
    torch.manual_seed(0)
    layer = build()
    own = use(layer)
    layer.__class__ = type("Other", (type(layer),), {})
    taken.calls.clear()
    assert torch.equal(use(layer), own)
    assert not {"Other", *(kind.__name__ for kind in type(layer).__bases__)} & set(taken.calls)
