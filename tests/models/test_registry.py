"""What every class of the registry promises beside the laws of its distribution: damage is told, layers are sorted."""

from __future__ import annotations

import pytest
import torch

from chainrule import compiled, sampling
from chainrule.errors import ModelError
from chainrule.evaluation import bits_per_dim
from chainrule.models import (
    MADE,
    REGISTRY,
    ConditionalMLP,
    GatedPixelCNN,
    GatedPixelCNNMADE,
    GrayscalePixelCNN,
    Histogram,
    ImageGPT,
    ImageModel,
    LogisticPixelCNN,
    PixelCNN,
    PixelCNNMADE,
    PixelIQN,
    PixelSNAIL,
)
from laws import events, randomised

BUILDS = {
    "Histogram": lambda: Histogram(5),
    "ConditionalMLP": lambda: ConditionalMLP(5, hidden=(7,)),
    "ConditionalMLP, embedded": lambda: ConditionalMLP(5, "embedding", hidden=(7,), embedding=3),
    "MADE": lambda: MADE((3,), 4, (9, 8)),
    "ImageGPT": lambda: ImageGPT((2, 4, 4), 4, filters=8, blocks=1, classes=2),
    "ImageModel": lambda: ImageModel((2, 4, 4), 4, "gated", "logistic", 6, 1),
    "ImageModel, quantiles": lambda: ImageModel((2, 4, 4), 4, "gated", "quantile", 6, 1),
    "PixelCNN": lambda: PixelCNN((2, 4, 4), 4, 6, 1),
    "PixelCNN, many levels": lambda: PixelCNN((2, 4, 4), 20, 6, 1, False),
    "PixelCNNMADE": lambda: PixelCNNMADE((2, 4, 4), 4, 6, 1),
    "GatedPixelCNN": lambda: GatedPixelCNN((2, 4, 4), 4, 6, 1),
    "GatedPixelCNN, labels": lambda: GatedPixelCNN((2, 4, 4), 4, 6, 1, classes=3),
    "GatedPixelCNNMADE": lambda: GatedPixelCNNMADE((2, 4, 4), 4, 6, 1, classes=2),
    "GrayscalePixelCNN": lambda: GrayscalePixelCNN((2, 4, 4), 4, 6, 1),
    "LogisticPixelCNN": lambda: LogisticPixelCNN((2, 4, 4), 4, 6, 1),
    "PixelSNAIL": lambda: PixelSNAIL((2, 4, 4), 4, filters=6, blocks=1),
    "PixelIQN": lambda: PixelIQN((2, 4, 4), 4, 6, 1),
}


def test_every_class_is_here():
    assert {name.partition(",")[0] for name in BUILDS} == set(REGISTRY)


@pytest.fixture(params=list(BUILDS))
def model(request):
    torch.manual_seed(0)
    return randomised(BUILDS[request.param](), dtype=torch.float32)


def test_outer_layers_are_those_that_read_the_event_or_give_logits(model):
    """Every model tells the hidden weights itself; written from the names: input, output and context are outer."""
    outer = [
        any(part.endswith(("input", "output", "context")) for part in name.split("."))
        for name, _ in model.named_parameters()
    ]
    wanted = [p for p, out in zip(model.parameters(), outer, strict=True) if p.ndim >= 2 and not out]
    assert [id(p) for p in model.hidden_parameters()] == [id(p) for p in wanted]
    layers = set(model.modules())
    assert all(layer in layers for layer in model.outer_layers())


def read_by_every_walk(model):
    """The weights and biases that each walk reads: a level's own are read by the events that have it alone."""
    by_level = ("made.layers.0.weight", "network.layers.0.weight", "channel_input.weight", "table", "mlp.0.weight")
    return [name for name, _ in model.named_parameters() if not name.endswith(by_level)]


def spoil(model, name, value):
    """Put `value` into one number of a parameter, one that its mask leaves."""
    parameter = dict(model.named_parameters())[name]
    mask = getattr(model.get_submodule(name.rpartition(".")[0]), "mask", None)
    places = torch.ones_like(parameter) if mask is None or parameter.ndim < 2 else mask.expand_as(parameter)
    place = tuple(places.nonzero()[0].tolist())
    with torch.no_grad():
        kept = parameter[place].clone()
        parameter[place] = value
    return lambda: parameter.data.index_put_(tuple(torch.tensor([k]) for k in place), kept)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_a_weight_that_is_not_finite_is_told_wherever_it_stands(model, value):
    """Also where gates, ReLUs and clamps would make something finite of it: never a picture, never a figure."""
    x, context = events(model, 2), model.example_context(2)
    for name, _ in model.named_parameters():
        heal = spoil(model, name, value)
        with pytest.raises(ModelError, match=r"not finite: its weights are damaged"):
            pytest.fail(f"{name}: {model.sample(2, context).shape}")
        if model.has_likelihood:
            with pytest.raises(ModelError, match=r"not finite: its weights are damaged"):
                pytest.fail(f"{name}: {bits_per_dim(model, x, context=context)}")
        heal()


METHODS = ["steps", "naive", "cached"]


@pytest.fixture
def unchecked(monkeypatch):
    """Weights are believed, so that it is seen whether conditionals tell."""
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda x: torch.isfinite(x) | isinstance(x, torch.nn.Parameter))


@pytest.mark.parametrize("method", METHODS)
def test_a_number_that_is_none_is_told_wherever_it_stands(model, method, unchecked):
    """A NaN in any weight ends samples and completions with a sentence, never with a picture."""
    x, context = events(model, 4), model.example_context(4)
    nothing = torch.zeros(1, dtype=torch.bool)
    draws = (
        lambda: model.sample(4, context, torch.Generator().manual_seed(0), method),
        lambda: model.complete(x, nothing, context, torch.Generator().manual_seed(0), method),
    )
    for name in read_by_every_walk(model):
        heal = spoil(model, name, torch.nan)
        for draw in draws[:1] if method == "naive" else draws:  # to the naive walk, slow as it is, both are one
            with pytest.raises(ModelError, match=r"not finite: its weights are damaged"):
                pytest.fail(f"{name}: {draw().shape}")
        heal()
    assert model.sample(4, context, method=method).shape == x.shape


@pytest.mark.skipif(not compiled.available(), reason="chainrule was installed without a C compiler")
@pytest.mark.parametrize("name", ["PixelCNN", "PixelCNN, many levels", "PixelCNNMADE", "PixelSNAIL"])
def test_the_compiled_engine_tells_as_the_steps_do(name, unchecked):
    """In every weight of a walk, whichever thread and group it is met in; also at sites that are known."""
    torch.manual_seed(0)
    model = randomised(BUILDS[name](), dtype=torch.float32)
    x = events(model, 60)
    for parameter in read_by_every_walk(model):
        heal = spoil(model, parameter, torch.nan)
        for known in (False, True):
            with pytest.raises(ModelError, match=r"not finite"):
                model.complete(x, torch.full((1,), known), method="compiled")
            with pytest.raises(ModelError, match=r"not finite"):
                model.complete(x, torch.full((1,), known), method="steps")
        heal()
        assert sampling.sample(model, 60, method="compiled").shape == x.shape
