"""From a recipe to a run folder: train, save the model, measure it once on the test split, and draw what is shown."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from chainrule import data, zoo
from chainrule.data.reading import say
from chainrule.errors import ChainruleError, DataError, ModelError, out_of_memory
from chainrule.evaluation import context_of, splits_of, validation_loss
from chainrule.fixedpoint import calibrate, exact
from chainrule.lab.measurements import before_training, measure
from chainrule.lab.provenance import auto_precision, command, describe, device_name
from chainrule.lab.recipes import RECIPES, Recipe, get_recipe
from chainrule.lab.run_folder import is_main_process, new_folder, prepare_folder, save_arrays, write_json
from chainrule.training.fitting import check_drawing, fit
from chainrule.training.lock import holding
from chainrule.training.step import kept_still

CALIBRATION, PIECE = 16, 64
"""A model of pictures of any size is calibrated on this many pieces of validation pictures, of at most this side."""


def open_dataset(recipe: Recipe) -> data.Dataset:
    """The recipe's data.

    Raises:
        DataError: it names none.
    """
    if not recipe.data:
        raise DataError(f"{recipe.name} is for your own images: pass --data FOLDER")
    return open_data(recipe.data, recipe.train.seed, recipe.levels, recipe.validation, any_size=recipe.any_size)


def open_data(
    name: str,
    seed: int = 0,
    levels: int | None = None,
    validation: int | None = None,
    pixel_values: Sequence[int] | None = None,
    any_size: bool = False,
) -> data.Dataset:
    """A dataset by name or path, split as a recipe says; what follows is as for `data.load_images`."""
    if name == "hopper-mnist" and validation is not None:
        return data.hopper_mnist(validation=validation)
    return data.from_name(name, seed=seed, levels=levels, pixel_values=pixel_values, any_size=any_size)


def run(recipe: Recipe, out: str | Path, *, resume: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Run a recipe into the folder `out`, as `run_folder` describes it; returns the content of result.json.

    Args:
        recipe: what to do.
        out: the run folder; made if it is missing.
        resume: continue from its checkpoint.
        quiet: nothing on standard error.

    Raises:
        ChainruleError: the data cannot be had, `out` cannot be written or holds another run, training failed, or memory
            ran out; once training is over, the model is in the folder whatever comes then.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint to resume from.
    """
    out = Path(out)
    with new_folder(out):
        prepare_folder(out, resume)
        check_init(recipe)
        dataset = open_dataset(recipe)
        for note in dataset.notes:
            say(note, quiet=quiet)
        figures, arrays = before_training(recipe, dataset)
        torch.manual_seed(recipe.train.seed)
        model = recipe.model.build(dataset.shape, dataset.levels)
        model.pixel_values = dataset.pixel_values
        context_of(model, dataset, "train")  # say what is wrong before anything is written
        check_drawing(dataset, recipe.train)
        kept_still(model, recipe.train)
        begun = None if resume or recipe.init is None else start_from(model, recipe.init)
    if len(dataset.shape) == 3 and (legend := data.sheet_note(dataset.shape, dataset.levels)):
        say(legend, quiet=quiet)
    if not resume:
        described = describe(recipe) | {"splits": splits_of(dataset)}
        if begun is not None:
            described["init"] = begun
            say("the run begins with {weights:,} of its {of:,} weights from {model}".format(**begun), quiet=quiet)
        with holding(out if is_main_process() else None):  # a run that is refused leaves the other's record as it is
            write_json(out / "config.json", described)
    parameters = sum(p.numel() for p in model.parameters())
    say(
        f"{recipe.name}: {type(model).__name__}, {parameters:,} parameters, on {dataset.name} "
        f"({len(dataset.train):,} training events)",
        quiet=quiet,
    )
    history = fit(model, dataset, recipe.train, folder=out, resume=resume, quiet=quiet)
    if not is_main_process():
        return {}

    model.to("cpu" if recipe.train.device == "cpu" else model.device).eval()
    model.save_pretrained(out / "model")
    with memory_for_measuring(out):
        notes = keep_scales(model, out / "model", dataset)
        for note in notes:
            say(note, quiet=quiet)
        began = time.perf_counter()
        unit = model.loss_unit.replace("/", "_per_").replace(" ", "_")
        result: dict[str, Any] = {
            "recipe": recipe.name,
            "title": recipe.title,
            "preset": recipe.preset,
            "model": type(model).__name__,
            "data": dataset.name,
            "levels": dataset.levels,
            "shape": list(dataset.shape),
            f"test_{unit}": validation_loss(model, dataset, "test"),
            f"validation_{unit}": history.best_bits,
            "test_events": len(dataset.test),
            "best_step": history.best_step,
            "parameters": parameters,
            "steps": recipe.train.steps,
            "batch_size": recipe.train.batch_size,
            "train_events": len(dataset.train),
            "train_seconds": round(history.step_seconds, 2),
            "processes": (processes := int(os.environ.get("WORLD_SIZE", "1"))),
            "events_per_second_per_process": round(
                recipe.train.steps * recipe.train.batch_size / max(history.step_seconds, 1e-9) / processes, 1
            ),
            "total_seconds": round(history.seconds, 2),
            "test_seconds": round(time.perf_counter() - began, 2),
            "seed": recipe.train.seed,
            "device": device_name(model.device),
            "precision": auto_precision(recipe.train, model.device),
            "command": command(),
        }
        if recipe.init is not None:
            result["init"] = recipe.init
        if notes:
            result["notes"] = notes
        result |= figures
        measure(model, dataset, result, arrays, recipe.train.seed)
    if len(model.shape) == 3:
        data.save_grid(arrays["samples"], dataset.levels, out / "samples.png", pixel_values=dataset.pixel_values)
    save_arrays(out / "arrays.npz", arrays)
    write_json(out / "result.json", result)
    return result


@contextlib.contextmanager
def memory_for_measuring(out: Path) -> Iterator[None]:
    """Turn the end of memory within the block into a sentence: the model is saved by then."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise ChainruleError(
            f"too little memory to measure the model, which is saved in {out / 'model'}: free some memory and repeat "
            "the command with --resume"
        ) from None


def keep_scales(model: Any, folder: Path, dataset: data.Dataset) -> list[str]:
    """Keep the scales of the exact model in the saved model's config.json, or say in a sentence why there are none.

    A model of pictures of any size is calibrated on pieces of the validation set, any other on its own samples.
    """
    try:
        if isinstance(dataset.validation, data.Pictures) and model.scales is None:
            torch.manual_seed(0)
            rows = torch.arange(CALIBRATION) % len(dataset.validation)
            model.scales = calibrate(model, dataset.validation.crops(rows, PIECE).to(model.device))
        exact(model)
    except ModelError as error:
        return [f"no exact model: {error}"]
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return ["no exact model yet: too little memory to calibrate it, which is done anew wherever it is needed"]
    model.save_pretrained(folder)
    return []


def check_init(recipe: Recipe) -> None:
    """Check that the run that a recipe starts from exists.

    Raises:
        ModelError: it is not; the sentence says how to make it.
    """
    folder = Path(recipe.init or "")
    if recipe.init == get_recipe(recipe.name).init and folder.parent == Path("runs") and not folder.exists():
        how = f"chainrule train {folder.name}" if folder.name in RECIPES else "chainrule study shipped --out runs"
        raise ModelError(f"{recipe.name} begins from {recipe.init}, which is not there: {how} makes it, or pass --init")


def start_from(model: torch.nn.Module, name: str) -> dict[str, Any]:
    """Copy what has the same name and shape from another model.

    Returns:
        For the record: `model`, the number of `weights` taken and `of` how many, and the `sha256` of the weights' file.

    Raises:
        ModelError: there is no such model, or nothing in it fits.
    """
    own, other = model.state_dict(), zoo.load(name).state_dict()
    fitting = {key: value for key, value in other.items() if key in own and own[key].shape == value.shape}
    if not fitting:
        raise ModelError(f"no weights of {name} have the names and shapes of this model's: leave --init out")
    model.load_state_dict(own | fitting)
    taken, total = (sum(value.numel() for value in tensors.values()) for tensors in (fitting, own))
    sha256 = hashlib.sha256(zoo.stored_weights(zoo.find(name))).hexdigest()
    return {"model": name, "weights": taken, "of": total, "sha256": sha256}
