"""Searching hyper-parameters on the validation set with optuna. The test split is never touched.

Trials are kept in a journal beside a table, so that a search can be stopped, resumed, and looked at later.
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch

from chainrule.atomic import write_bytes
from chainrule.data.reading import say
from chainrule.errors import ChainruleError, ModelError
from chainrule.lab.experiment import open_dataset
from chainrule.lab.recipes import Recipe
from chainrule.training.fitting import fit

if TYPE_CHECKING:
    import optuna


def suggest(trial: optuna.Trial, recipe: Recipe) -> Recipe:
    """The recipe with the hyper-parameters of one trial: learning rate, batch and optimiser.

    For a model with hidden layers also their width and number and the jitter, and where there is a choice of encodings
    the encoding; the filters and blocks of an image model stay as they are.
    """
    train, chosen = recipe.train, {field.name: field.type for field in fields(recipe.model)}
    pictures = "filters" in chosen
    optimizer = trial.suggest_categorical("optimizer", ["adam", "muon"] if pictures else ["adam", "adamw", "sgd"])
    factor = trial.suggest_float("lr_factor", 0.2, 5.0, log=True)
    usual = {"sgd": 1.0, "muon": 0.02, "adam": 2e-3, "adamw": 2e-3}[optimizer] * (1 if pictures else 2)
    batch = trial.suggest_categorical("batch_size", [4, 8, 16, 32] if pictures else [250, 500, 1000, 2000])
    # The same number of events whatever the batch, so that trials cost about the same.
    steps = max(1, math.ceil(train.steps * train.batch_size / batch))
    changes: dict[str, Any] = {"optimizer": optimizer, "lr": factor * usual, "batch_size": batch, "steps": steps}
    if optimizer == "adamw":
        changes["weight_decay"] = trial.suggest_float("weight_decay", 1e-3, 1.0, log=True)
    arguments: dict[str, Any] = {}
    if "hidden" in chosen:
        changes["jitter"] = trial.suggest_categorical("jitter", [0.0, 0.75, 1.0, 1.5, 2.0])
        width = trial.suggest_categorical("width", [64, 128, 256])
        arguments["hidden"] = (width,) * trial.suggest_int("depth", 1, 3)
    if encodings := get_args(chosen.get("encoding")):
        arguments["encoding"] = trial.suggest_categorical("encoding", list(encodings))
    changes["eval_every"] = max(1, steps // 20)
    changes["warmup"] = min(train.warmup, steps // 10)
    return replace(recipe, model=replace(recipe.model, **arguments), train=replace(train, **changes))


def tune(recipe: Recipe, out: str | Path, trials: int = 20, *, quiet: bool = False) -> list[dict[str, Any]]:
    """Run `trials` more trials of a search into `out`.

    `out` gets journal.log (optuna's storage), trials.csv and best.json (the flags of the best trial).

    Returns:
        All trials so far, best first: `trial`, `validation_bits_per_dim`, `seconds` and the trial's parameters.

    Raises:
        ModelError: optuna is not installed, the model has no likelihood, or all trials diverged.
        ChainruleError: `out` cannot be written.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise ModelError("tuning needs optuna: pip install 'chainrule[tune]'") from None
    if trials < 1:
        raise ModelError(f"--trials is {trials}: ask for at least 1")
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(out / "journal.log")))
    except OSError as error:
        raise ChainruleError(f"cannot write into {out}: {error.strerror}; choose another --out") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dataset = open_dataset(recipe)
    if not recipe.model.build(dataset.shape, dataset.levels).has_likelihood:
        raise ModelError(f"trials are ranked by bits/dim, and {recipe.model.of} has none: tune pixelcnn-made")

    def objective(trial: optuna.Trial) -> float:
        candidate = suggest(trial, recipe)
        torch.manual_seed(candidate.train.seed)
        model = candidate.model.build(dataset.shape, dataset.levels)
        trial.set_user_attr("train", asdict(candidate.train))
        trial.set_user_attr("model", asdict(candidate.model))
        try:
            history = fit(model, dataset, candidate.train, quiet=True)
        except ModelError as error:  # a learning rate so high that the loss is no longer finite
            say(f"trial {trial.number}: {error}", quiet=quiet)
            raise optuna.TrialPruned from None
        trial.set_user_attr("seconds", round(history.step_seconds, 1))
        say(f"trial {trial.number}: {history.best_bits:.5f} bits/dim with {trial.params}", quiet=quiet)
        return history.best_bits

    sampler = optuna.samplers.TPESampler(seed=recipe.train.seed, multivariate=True)
    study = optuna.create_study(study_name=recipe.name, storage=storage, sampler=sampler, load_if_exists=True)
    study.optimize(objective, n_trials=trials)
    done = sorted((t for t in study.trials if t.value is not None), key=lambda t: t.value or 0.0)
    rows = [
        {"trial": t.number, "validation_bits_per_dim": t.value, "seconds": t.user_attrs.get("seconds"), **t.params}
        for t in done
    ]
    if not rows:
        raise ModelError(f"all {trials} trials diverged: tune with other settings")
    write_table(out / "trials.csv", rows)
    best = study.best_trial
    flags = changed_flags("train", asdict(recipe.train), best.user_attrs["train"]) + changed_flags(
        "model", asdict(recipe.model), best.user_attrs["model"]
    )
    content = {"recipe": recipe.name, "validation_bits_per_dim": best.value, "flags": flags, "parameters": best.params}
    write_bytes(out / "best.json", (json.dumps(content, indent=2) + "\n").encode())
    return rows


def changed_flags(prefix: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The command-line flags that turn one configuration into another.

    >>> changed_flags("train", {"lr": 0.1, "batch_size": 8}, {"lr": 0.5, "batch_size": 8})
    ['--train.lr', '0.5']
    """
    flags = []
    for name, value in new.items():
        values = list(value) if isinstance(value, list | tuple) else [value]  # JSON knows no tuples
        before = old.get(name)
        if values != (list(before) if isinstance(before, list | tuple) else [before]):
            flags += [f"--{prefix}.{name.replace('_', '-')}", *map(str, values)]
    return flags


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows of possibly different columns as CSV."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, buffer.getvalue().encode())
