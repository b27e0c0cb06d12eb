"""What the commands know of a model's data: from the run that made it, or from what a person names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainrule.errors import DataError

if TYPE_CHECKING:
    from chainrule.models import AutoregressiveModel


def open_data_of(name: str, data_name: str | None, model: AutoregressiveModel) -> Any:
    """The dataset asked for, or the one that a run was trained on, its notes printed.

    Raises:
        DataError: there is none, it does not fit the model, or the run was trained on different events of that name.
    """
    from chainrule.data import NAMES
    from chainrule.data.reading import read_json, say
    from chainrule.evaluation import check_splits
    from chainrule.lab.experiment import open_data

    config = run_config(name)
    if data_name is None:
        data_name = config.get("data")
        if data_name is None:
            raise DataError(f"{name} does not say what it was trained on: pass --data")
    seed, levels, pixel_values = config.get("train", {}).get("seed", 0), config.get("levels"), None
    if data_name not in NAMES and len(model.shape) == 3:  # images of one's own, as this model sees them
        levels, pixel_values = model.levels, model.pixel_values
    dataset = open_data(data_name, seed, levels, config.get("validation"), pixel_values, model.any_size)
    if not model.takes(dataset.shape, dataset.levels):
        raise DataError(
            f"{dataset.name} has events of shape {tuple(dataset.shape)} with {dataset.levels} levels, "
            f"{name} is for {model.shape} with {model.levels}: choose data that fit"
        )
    if data_name == config.get("data") and (record := read_json(Path(name) / "config.json").get("splits")) is not None:
        check_splits(record, dataset)
    for note in dataset.notes:
        say(note)
    return dataset


def run_config(name: str) -> dict[str, Any]:
    """The recipe of a run folder; empty for other models.

    Raises:
        DataError: it is not as a run writes it.
    """
    from chainrule.data.reading import read_json

    path = Path(name) / "config.json"
    if not path.is_file():
        return {}
    recipe = read_json(path).get("recipe", {})
    if not isinstance(recipe, dict):
        recipe = {"data": recipe}
    train = recipe.get("train", {})
    whole = [
        recipe.get("levels"),
        recipe.get("validation"),
        train.get("seed", 0) if isinstance(train, dict) else "none",
    ]
    if not isinstance(recipe.get("data", ""), str) or any(type(n) not in (int, type(None)) for n in whole):
        raise DataError(f"{path} is not as a run writes it: it is damaged, or of another version")
    return recipe


def run_offset(name: str) -> int:
    """What a person reads is value + offset; runs know theirs."""
    return 1 if run_config(name).get("data") == "warmup" else 0
