"""The commands that train: train and tune."""

from __future__ import annotations

import dataclasses
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import tyro

from chainrule.cli.common import report_figures
from chainrule.errors import ModelError
from chainrule.stopping import INTERRUPTED, at_once

M = TypeVar("M")
T = TypeVar("T")
Preset = Literal["quick", "full"]


@dataclass
class RecipeCommand(Generic[M, T]):
    """What every command on a recipe takes."""

    model: M
    train: T
    preset: Preset = "quick"
    """quick fits two CPU cores, full is the assignment's size."""
    data: str | None = None
    """Another dataset: a name (warmup, portrait-2d, hopper-mnist, photos, digits), a file or a folder of images."""
    levels: int | None = None
    """Quantise your own images to this many levels."""
    out: Path | None = None
    """The folder; runs/RECIPE, for tune tune/RECIPE, if left out."""
    json: bool = False
    """Print the result as JSON."""


@dataclass
class TrainCommand(RecipeCommand[M, T]):
    """Train a recipe into a run folder and measure it on the test split."""

    init: str | None = None
    """A model or run whose weights of the same names and shapes this one begins with; None for a random start."""
    resume: bool = False
    """Continue from the checkpoint in the run folder."""


@dataclass
class TuneCommand(RecipeCommand[M, T]):
    """Search a recipe's hyper-parameters on its validation data with optuna; a search that is there continues."""

    trials: int = 20
    """How many more trials."""


def train(args: list[str]) -> None:
    """Train a recipe into a run folder: chainrule train RECIPE [--preset full] [--train.steps 500] …"""
    recipe, command = parse_recipe("train", args, TrainCommand)
    from chainrule.lab.experiment import run
    from chainrule.training import keep_freed_memory, leave_processes

    keep_freed_memory()
    out = command.out or Path("runs") / recipe.name

    def farewell() -> str:
        words = [word for word in args if word != "--resume"]
        if not (out / "checkpoint.pt").exists():
            return f"{INTERRUPTED} before its first checkpoint; begin again with: {again(words)}"
        return f"{INTERRUPTED}; a checkpoint is safe, continue with: {again([*words, '--resume'])}"

    try:
        with at_once(farewell):
            result = run(recipe, out, resume=command.resume)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(farewell()) from None
    leave_processes()
    if not result:
        return
    if not command.json:
        bits = ("test_bits_per_dim", "exact_bits_per_dim", "entropy_bits_per_dim", "validation_bits_per_dim")
        wanted = (*bits, "test_quantile_loss", "validation_quantile_loss", "parameters", "train_seconds")
        result = {key: result[key] for key in wanted if key in result} | {"folder": str(out)}
    report_figures(result, command.json)


def again(words: list[str]) -> str:
    """A command of training that can be pasted."""
    return shlex.join(["chainrule", "train", *words])


def parse_recipe(verb: str, args: list[str], command_type: Any) -> tuple[Any, Any]:
    """(recipe with all overrides, the rest of the command) from `RECIPE --preset … --train.… --model.…`."""
    from chainrule.lab.recipes import RECIPES, get_recipe

    if not args or args[0].startswith("-"):
        listing = "\n".join(f"  {name:22} {line.title}" for name, line in RECIPES.items())
        print(f"usage: chainrule {verb} RECIPE [OPTIONS]\n\nRecipes:\n{listing}\n")
        print(f"chainrule {verb} RECIPE --help lists the options, with the recipe's defaults.")
        raise SystemExit(0 if args and args[0] in ("-h", "--help") else 2)
    name, rest = args[0], args[1:]
    recipe = get_recipe(name, preset_of(rest))
    for word in rest:
        check_field(recipe, word)
    typed = command_type[type(recipe.model), type(recipe.train)]
    begin = {"init": recipe.init} if command_type is TrainCommand else {}
    defaults = command_type(model=recipe.model, train=recipe.train, preset=recipe.preset, **begin)
    command = tyro.cli(typed, default=defaults, prog=f"chainrule {verb} {name}", args=rest)
    given = {"model": command.model, "train": command.train, "levels": command.levels}
    return dataclasses.replace(
        recipe, data=command.data or recipe.data, init=getattr(command, "init", None), **given
    ), command


def preset_of(args: list[str]) -> Any:
    """The preset that the arguments name: it decides the defaults of all others."""
    preset = "quick"
    for position, word in enumerate(args):
        if word.startswith("--preset"):
            preset = word.partition("=")[2] or "".join(args[position + 1 : position + 2])
    if preset not in ("quick", "full"):
        raise ModelError(f"there is no preset {preset!r}: use quick or full")
    return preset


def check_field(recipe: Any, word: str) -> None:
    """Raise `ModelError` for a `--model.…` or `--train.…` that the recipe does not have."""
    group, dot, name = word.removeprefix("--").partition("=")[0].partition(".")
    if not (word.startswith("--") and dot and group in ("model", "train")):
        return
    known = [field.name for field in dataclasses.fields(getattr(recipe, group))]
    if name.replace("-", "_") not in (*known, *(f"no_{field}" for field in known)):
        has = ", ".join(f"--{group}.{field.replace('_', '-')}" for field in known) or "none"
        raise ModelError(f"the recipe {recipe.name} has no --{group}.{name}: it has {has}")


def tune(args: list[str]) -> None:
    """Search a recipe's hyper-parameters on its validation data: chainrule tune RECIPE [--trials 20]"""
    recipe, command = parse_recipe("tune", args, TuneCommand)
    from chainrule.lab import tuning
    from chainrule.training import keep_freed_memory

    keep_freed_memory()
    out = command.out or Path("tune") / recipe.name
    rows = tuning.tune(recipe, out, command.trials)
    if command.json:
        print(json.dumps(rows, indent=2))
        return
    best = json.loads((out / "best.json").read_text(encoding="utf-8"))
    print(f"best of {len(rows)} trials: {rows[0]['validation_bits_per_dim']:.5f} bits/dim on validation data, with")
    print(f"  chainrule train {recipe.name} {' '.join(best['flags'])}")
    print(f"all trials: {out / 'trials.csv'}")
