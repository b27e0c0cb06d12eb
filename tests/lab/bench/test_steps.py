"""The benchmark of steps: every recipe in its turn, trained as fit trains, and steps that follow from the times."""

import math

import pytest
import torch

from chainrule.errors import ModelError
from chainrule.lab.bench import steps as bench
from chainrule.lab.recipes import get_recipe
from chainrule.training import fit

SHAPE = (3, 4, 4)


def test_figures_follow_from_the_times(monkeypatch):
    """A clock that the models' names move: medians, the ratio within a round, and steps rounded to 50."""
    ticks = {"pixelcnn-made": iter([1.0, 2.0, 9.0]), "gated": iter([2.0, 5.0, 18.0])}

    def clock(action, device):
        action()
        return 3 * next(ticks[names[id(action.args[0])]])

    def named(recipe, dataset):
        training = begin(recipe, dataset)
        names[id(training)] = recipe.name
        return training

    names, begin = {}, bench.in_training
    monkeypatch.setattr(bench, "in_training", named)
    monkeypatch.setattr(bench, "timed", clock)
    figures = bench.bench_steps(["gated"], repeats=3, steps=3, shape=SHAPE)
    base, gated = figures["rows"]
    assert [row["recipe"] for row in figures["rows"]] == ["pixelcnn-made", "gated"]
    assert (base["ratio"], base["steps"]) == (1, get_recipe("pixelcnn-made").train.steps)
    assert (gated["milliseconds"], gated["milliseconds_least"], gated["milliseconds_most"]) == (5000, 2000, 18000)
    assert gated["ratio"] == 2
    assert gated["steps"] == base["steps"] // 2
    assert gated["parameters"] == sum(p.numel() for p in get_recipe("gated").model.build(SHAPE, 4).parameters())


def test_a_turn_trains_as_fit_does():
    """The same weights after the same steps, schedule and average included."""
    recipe, dataset = get_recipe("gated-made"), bench.random_events(SHAPE)
    training = bench.in_training(recipe, dataset)
    bench.take(training, 3)
    torch.manual_seed(recipe.train.seed)
    model = recipe.model.build(SHAPE, 4)
    history = fit(model, dataset, recipe.train, steps=3, ema=0.0, quiet=True)
    assert len(history.train) == 3
    ours, theirs = training.model.state_dict(), model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    values = training.average.values
    assert any(not torch.equal(a, p) for a, p in zip(values, training.model.parameters(), strict=True))


def test_by_default_all_image_recipes_are_timed(monkeypatch):
    names = bench.image_recipes()
    assert {"pixelcnn", "pixelcnn-made", "gated", "gated-made"} <= set(names)
    assert not {"warmup", "2d-made", "pixelcnn-made-cpu"} & set(names)
    figures = bench.bench_steps(repeats=1, steps=1, shape=SHAPE)
    assert [row["recipe"] for row in figures["rows"]] == ["pixelcnn-made", *(n for n in names if n != "pixelcnn-made")]
    for row in figures["rows"]:
        assert math.isfinite(row["ratio"])
        assert row["steps"] % bench.ROUNDED == 0
        assert 0 < row["milliseconds_least"] <= row["milliseconds"] <= row["milliseconds_most"]


def test_recipes_that_cannot_be_compared_are_refused():
    with pytest.raises(ModelError, match="warmup is trained on warmup"):
        bench.bench_steps(["warmup"], repeats=1)
    with pytest.raises(ModelError, match="no recipe 'gate'"):
        bench.bench_steps(["gate"], repeats=1)
