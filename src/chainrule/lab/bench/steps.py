"""How long a training step of each image recipe takes, and so how many steps fit the same time.

A comparison at the same training time needs each recipe's number of steps fixed before it is trained. Steps are timed
in turns, all recipes in one process, so that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from chainrule.data import Dataset
from chainrule.errors import ModelError
from chainrule.lab.bench.measuring import timed
from chainrule.lab.provenance import device_name
from chainrule.lab.recipes import RECIPES, Recipe, get_recipe
from chainrule.training.allocator import keep_freed_memory
from chainrule.training.devices import machine_for
from chainrule.training.step import Training

BASE = "pixelcnn-made"
"""The recipe whose training time the others are given."""
ROUNDED = 50
"""Numbers of steps are multiples of this."""
EVENTS, CLASSES = 256, 10


def image_recipes() -> list[str]:
    """The recipes on hopper-mnist that are trained alike: those named after a processor are not."""
    return [name for name in RECIPES if get_recipe(name).data == "hopper-mnist" and not name.endswith("-cpu")]


def bench_steps(
    names: Sequence[str] = (), repeats: int = 15, steps: int = 3, shape: tuple[int, int, int] = (3, 28, 28)
) -> dict[str, Any]:
    """Time training steps of recipes' models side by side, each as `fit` trains it, on the quick preset.

    Args:
        names: recipes; by default all that are trained alike on hopper-mnist. pixelcnn-made always comes first.
        repeats: rounds in which each recipe has its turn, of which the median counts.
        steps: timed steps in a turn; one more goes before them and is not counted.
        shape: of the events, random ones of four levels: what is learnt does not change what a step costs.

    Returns:
        `rows`, one for each recipe: its `parameters`, `milliseconds` a step (median, `_least`, `_most` of the rounds),
        `ratio` to pixelcnn-made (median over the rounds of the quotient within a round), and `steps`, the number that
        takes as long as all of pixelcnn-made's, rounded to 50.

    Raises:
        ModelError: a recipe is unknown, or trained on other data or in another precision.

    Example:
        >>> figures = bench_steps(["gated-made"], repeats=1, steps=1, shape=(3, 4, 4))
        >>> [row["recipe"] for row in figures["rows"]]
        ['pixelcnn-made', 'gated-made']
    """
    recipes = {name: get_recipe(name) for name in dict.fromkeys([BASE, *(names or image_recipes())])}
    base = recipes[BASE].train
    for name, recipe in recipes.items():
        if recipe.data != "hopper-mnist":
            raise ModelError(f"{name} is trained on {recipe.data}: choose among {', '.join(image_recipes())}")
        if (recipe.train.precision, recipe.train.device) != (base.precision, base.device):
            raise ModelError(f"{name} is not trained in the precision of {BASE}: leave it out")
    keep_freed_memory()
    dataset = random_events(shape)
    turns = {name: in_training(recipe, dataset) for name, recipe in recipes.items()}
    machine = turns[BASE].machine
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for turn in turns.values():
        take(turn)
    for repeat in range(repeats):
        for name in sorted(turns, key=list(turns).index, reverse=bool(repeat % 2)):
            take(turns[name])
            seconds[name].append(timed(partial(take, turns[name], steps), machine.device) / steps)
    rows = []
    for name, turn in turns.items():
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[BASE], strict=True))
        rows.append(
            {
                "recipe": name,
                "parameters": sum(p.numel() for p in turn.model.parameters()),
                "batch": recipes[name].train.batch_size,
                "milliseconds": 1000 * statistics.median(seconds[name]),
                "milliseconds_least": 1000 * min(seconds[name]),
                "milliseconds_most": 1000 * max(seconds[name]),
                "ratio": ratio,
                "steps": max(round(base.steps / ratio / ROUNDED), 1) * ROUNDED,
            }
        )
    return {
        "benchmark": "steps",
        "shape": list(shape),
        "device": device_name(machine.device),
        "precision": "bfloat16" if machine.bfloat16 else "float32",
        "repeats": repeats,
        "steps_a_turn": steps,
        "rows": rows,
    }


def random_events(shape: tuple[int, int, int]) -> Dataset:
    """Random images of four levels with labels, as recipes on hopper-mnist expect them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 4, (EVENTS, *shape), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (EVENTS,), generator=generator)
    return Dataset("noise", 4, x, x, x, labels=dict.fromkeys(("train", "validation", "test"), labels))


def in_training(recipe: Recipe, dataset: Dataset) -> Training:
    """A recipe's model in training, as `fit` begins."""
    torch.manual_seed(recipe.train.seed)
    model = recipe.model.build(dataset.shape, dataset.levels)
    return Training(model, dataset, recipe.train, machine_for(recipe.train))


def take(training: Training, steps: int = 1) -> None:
    """Go on for so many steps."""
    for _ in range(steps):
        training.step()
