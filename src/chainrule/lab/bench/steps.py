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
from chainrule.evaluation import context_of
from chainrule.lab.bench.measuring import timed
from chainrule.lab.provenance import device_name
from chainrule.lab.recipes import RECIPES, Recipe, get_recipe
from chainrule.training.allocator import keep_freed_memory
from chainrule.training.average import WeightAverage
from chainrule.training.batches import batch_indices
from chainrule.training.fitting import Objective, loss_and_gradients, make_accelerator
from chainrule.training.optimizers import make_optimizer

BASE = "pixelcnn-made"
"""The recipe whose training time the others are given."""
ROUNDED = 50
"""Numbers of steps are multiples of this."""
EVENTS, CLASSES = 256, 10


def image_recipes() -> list[str]:
    """The recipes on hopper-mnist that share one training: those named after a processor have another."""
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
    accelerator = make_accelerator(base)
    turns = {name: Turn(recipe, dataset, accelerator) for name, recipe in recipes.items()}
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for turn in turns.values():
        turn.take()
    for repeat in range(repeats):
        for name in sorted(turns, key=list(turns).index, reverse=bool(repeat % 2)):
            turns[name].take()
            seconds[name].append(timed(partial(turns[name].take, steps), accelerator.device) / steps)
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
        "device": device_name(accelerator.device),
        "precision": {"bf16": "bfloat16"}.get(accelerator.mixed_precision, "float32"),
        "repeats": repeats,
        "steps_a_turn": steps,
        "rows": rows,
    }


def random_events(shape: tuple[int, int, int]) -> Dataset:
    """Images of four levels with labels, as recipes on hopper-mnist expect them, of nothing."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 4, (EVENTS, *shape), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (EVENTS,), generator=generator)
    return Dataset("noise", 4, x, x, x, labels=dict.fromkeys(("train", "validation", "test"), labels))


class Turn:
    """A recipe's model in training: `take` makes steps as the loop of `fit` does, without its evaluations."""

    def __init__(self, recipe: Recipe, dataset: Dataset, accelerator: Any) -> None:
        self.config, self.accelerator = recipe.train, accelerator
        torch.manual_seed(self.config.seed)
        self.model = recipe.model.build(dataset.shape, dataset.levels).to(accelerator.device).train()
        self.objective = accelerator.prepare(Objective(self.model))
        optimizer = make_optimizer(
            self.config.optimizer, self.model, self.config.lr, self.config.weight_decay, self.config.betas
        )
        self.optimizer = accelerator.prepare(optimizer)
        self.average = WeightAverage(self.model, self.config.ema)
        self.x, self.context = dataset.train.to(accelerator.device), context_of(self.model, dataset, "train")
        self.step = 0

    def take(self, steps: int = 1) -> None:
        """Go on for so many steps."""
        for _ in range(steps):
            rows = batch_indices(len(self.x), self.config.batch_size, self.config.seed, self.step)
            given = None if self.context is None else self.context[rows].to(self.x.device)
            self.optimizer.zero_grad(set_to_none=True)
            x = self.x[rows.to(self.x.device)]
            loss_and_gradients(self.accelerator, self.objective, x, given, self.config.accumulate)
            if self.config.clip:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
            self.optimizer.step()
            self.average.update(self.step)
            self.step += 1
