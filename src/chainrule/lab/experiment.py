"""From a recipe to a run folder: train, measure once on the test split, and draw what the report shows.

A run folder holds

    config.json      the recipe, the data, the command, versions
    metrics.jsonl    losses, a line a step
    checkpoint.pt    where to resume
    model/           the best weights (`cr.load` reads the run folder too)
    result.json      every figure
    arrays.npz       what the plots are drawn from: samples, receptive field, distributions
    samples.png      for images

and everything that is shown of a run later is read from there.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule import data, metrics, zoo
from chainrule.atomic import write_bytes
from chainrule.errors import ChainruleError, DataError, ModelError
from chainrule.evaluation import bits_per_dim, context_of, log2_joint, receptive_field, validation_loss
from chainrule.fixedpoint import exact
from chainrule.lab.provenance import auto_precision, command, describe, device_name
from chainrule.lab.recipes import Recipe, get_recipe
from chainrule.models import AutoregressiveModel, ConditionalMLP, GrayscalePixelCNN
from chainrule.training.fitting import check_redraw, fit
from chainrule.training.progress import say

SAMPLES = 1000
"""Samples of a one-dimensional model, as the assignment asks."""
PAIR_SAMPLES = 100_000
"""Samples of a two-dimensional model: as many as the data."""
GRAY_IMAGES, COLORINGS = 8, 5
"""Gray images of test images, and how often each is coloured."""
IMAGE_SAMPLES = 100
"""Samples of an image model, as the assignment asks."""


def open_dataset(recipe: Recipe) -> data.Dataset:
    """The recipe's data."""
    return open_data(recipe.data, recipe.train.seed, recipe.levels, recipe.validation)


def open_data(
    name: str,
    seed: int = 0,
    levels: int | None = None,
    validation: int | None = None,
    pixel_values: Sequence[int] | None = None,
) -> data.Dataset:
    """A dataset by name or path, split as a recipe says; `pixel_values` as for `data.load_images`."""
    if name == "hopper-mnist" and validation is not None:
        return data.hopper_mnist(validation=validation)
    return data.from_name(name, seed=seed, levels=levels, pixel_values=pixel_values)


def run(recipe: Recipe, out: str | Path, *, resume: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Run a recipe into the folder `out`; returns the content of result.json.

    Args:
        recipe: what to do.
        out: the run folder; made if it is missing.
        resume: go on from its checkpoint.
        quiet: nothing on standard error.

    Raises:
        ChainruleError: the data cannot be had, `out` cannot be written or holds another run, training failed.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint to resume from.
    """
    out = Path(out)
    with new_folder(out):
        prepare_folder(out, resume)
        dataset = open_dataset(recipe)
        for note in dataset.notes:
            say(note, quiet=quiet)
        arrays = before_training(recipe, dataset)
        torch.manual_seed(recipe.train.seed)
        model = recipe.model.build(dataset.shape, dataset.levels)
        model.pixel_values = dataset.pixel_values
        context_of(model, dataset, "train")  # say what is wrong before anything is written
        check_redraw(dataset, recipe.train)
    if len(dataset.shape) == 3 and (legend := data.sheet_note(dataset.shape, dataset.levels)):
        say(legend, quiet=quiet)
    if recipe.init is not None:
        say(start_from(model, recipe.init), quiet=quiet)
    parameters = sum(p.numel() for p in model.parameters())
    say(
        f"{recipe.name}: {type(model).__name__}, {parameters:,} parameters, on {dataset.name} "
        f"({len(dataset.train):,} training events)",
        quiet=quiet,
    )
    if not resume:
        write_json(out / "config.json", describe(recipe))
    history = fit(model, dataset, recipe.train, folder=out, resume=resume, quiet=quiet)
    if not is_main_process():
        return {}

    model.to("cpu" if recipe.train.device == "cpu" else model.device).eval()
    with contextlib.suppress(ModelError):  # a model without an exact form has no scales to keep
        exact(model)  # keeps the scales of its exact twin in model.scales, and so in config.json
    model.save_pretrained(out / "model")
    began = time.perf_counter()
    result: dict[str, Any] = {
        "recipe": recipe.name,
        "title": recipe.title,
        "preset": recipe.preset,
        "model": type(model).__name__,
        "data": dataset.name,
        "levels": dataset.levels,
        "shape": list(dataset.shape),
        **losses(model, dataset, history.best_bits),
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
        "precision": "float32" if recipe.train.precision == "float32" else auto_precision(recipe.train, model.device),
        "command": command(),
    }
    if "receptive_field" in arrays:
        reference = get_recipe(recipe.name, "full").model
        result["receptive_field_of"] = f"{reference.blocks} blocks, {reference.filters} filters"
    measure(model, dataset, result, arrays, recipe.train.seed)
    if len(model.shape) == 3:
        data.save_grid(arrays["samples"], dataset.levels, out / "samples.png", pixel_values=dataset.pixel_values)
    save_arrays(out / "arrays.npz", arrays)
    write_json(out / "result.json", result)
    return result


def losses(model: Any, dataset: data.Dataset, best: float) -> dict[str, float]:
    """Test and best validation loss: bits/dim, or a model's own loss where there is no likelihood."""
    if isinstance(model, AutoregressiveModel):
        return {"test_bits_per_dim": bits_per_dim(model, dataset), "validation_bits_per_dim": best}
    return {"test_quantile_loss": validation_loss(model, dataset, "test"), "validation_quantile_loss": best}


def before_training(recipe: Recipe, dataset: data.Dataset) -> dict[str, np.ndarray]:
    """What is measured at random initialisation: for images, the receptive field of the centre's first channel.

    It is that of the network at the assignment's size, whatever size this run has.
    """
    if len(dataset.shape) != 3:
        return {}
    torch.manual_seed(recipe.train.seed)
    model = get_recipe(recipe.name, "full").model.build(dataset.shape, dataset.levels)
    if not isinstance(model, AutoregressiveModel):
        return {}
    _, height, width = dataset.shape
    return {"receptive_field": receptive_field(model, (0, height // 2, width // 2))}


def start_from(model: AutoregressiveModel, name: str) -> str:
    """Copy what has the same name and shape from another model; a sentence that says how much that was.

    Raises:
        ModelError: there is no such model, or nothing in it fits.
    """
    own, other = model.state_dict(), zoo.load(name).state_dict()
    fitting = {key: value for key, value in other.items() if key in own and own[key].shape == value.shape}
    if not fitting:
        raise ModelError(f"no weights of {name} have the names and shapes of this model's: leave --init out")
    model.load_state_dict(own | fitting)
    taken, total = (sum(value.numel() for value in tensors.values()) for tensors in (fitting, own))
    return f"the run begins with {taken:,} of its {total:,} weights from {name}"


def measure(
    model: AutoregressiveModel, dataset: data.Dataset, result: dict[str, Any], arrays: dict[str, np.ndarray], seed: int
) -> None:
    """Samples, and what is particular to one and to two dimensions."""
    generator = torch.Generator().manual_seed(seed)
    n = SAMPLES if model.shape == (1,) else PAIR_SAMPLES if model.shape == (2,) else IMAGE_SAMPLES
    began = time.perf_counter()
    samples = model.sample(n, model.example_context(n), generator).cpu().numpy()
    result["sample_seconds"], result["sample_count"] = round(time.perf_counter() - began, 3), n
    arrays["samples"] = samples.astype(np.uint8 if dataset.levels <= 256 else np.int32)
    if model.shape == (1,):
        counts = lambda x: np.bincount(np.asarray(x).ravel(), minlength=dataset.levels) / len(x)  # noqa: E731
        everything = torch.cat([dataset.train, dataset.validation, dataset.test])
        arrays["model_pmf"] = model.log_pmf(dataset.test[:1])[0, 0].double().exp().detach().cpu().numpy()
        arrays["sample_frequencies"], arrays["data_frequencies"] = counts(samples), counts(everything)
        arrays["offset"] = np.array(dataset.offset)
        pairs = {
            "model_data": ("model_pmf", "data_frequencies"),
            "samples_data": ("sample_frequencies", "data_frequencies"),
        }
        pairs["samples_model"] = ("sample_frequencies", "model_pmf")
        for name, (p, q) in pairs.items():
            result[f"total_variation_{name}"] = metrics.total_variation(arrays[p], arrays[q])
    if dataset.truth is not None:
        log2_q = log2_joint(model)
        result["exact_bits_per_dim"] = metrics.cross_entropy_bits(dataset.truth, log2_q) / 2
        result["entropy_bits_per_dim"] = metrics.entropy_bits(dataset.truth) / 2
        result["kl_bits"] = metrics.kl_bits(dataset.truth, log2_q)
        arrays["truth"], arrays["model_joint"] = dataset.truth, np.exp2(log2_q)
    if isinstance(model, ConditionalMLP):
        result["encoding"] = model.encoding
    if isinstance(model, GrayscalePixelCNN):
        measure_gray(model, dataset, result, arrays, generator)


def measure_gray(
    model: GrayscalePixelCNN,
    dataset: data.Dataset,
    result: dict[str, Any],
    arrays: dict[str, np.ndarray],
    generator: torch.Generator,
) -> None:
    """What the gray image costs and what the colours given it, in bits for each entry of the event; and colourings."""
    total = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for part in dataset.test.split(100):
            log_p = model.site_log_probs(part).double().cpu()
            total += torch.stack([log_p[:, -1].sum(), log_p[:, :-1].sum()])
    for name, nats in zip(("gray", "color"), total.tolist(), strict=True):
        result[f"{name}_bits_per_dim"] = metrics.bits_per_dim(-nats / len(dataset.test), model.dims)
    originals = dataset.test[:GRAY_IMAGES].to(model.device)
    gray = model.with_auxiliaries(originals)[:, -1].long()
    colorings = model.colorize(gray.repeat_interleave(COLORINGS, 0), generator)
    small = np.uint8 if dataset.levels <= 256 else np.int32
    arrays["originals"], arrays["gray_given"] = originals.cpu().numpy(), gray.cpu().numpy().astype(np.uint8)
    arrays["colorings"] = colorings.unflatten(0, (len(originals), COLORINGS)).cpu().numpy().astype(small)
    arrays["gray_levels"] = np.array(model.grays)


# ---------------------------------------------------------------------------------------------------------- the folder


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[None]:
    """Take a folder away again that was made within the block and is still empty, if the block fails."""
    there = out.exists()
    try:
        yield
    except BaseException:
        if not there:
            with contextlib.suppress(OSError):  # not empty, or never made
                out.rmdir()
        raise


def prepare_folder(out: Path, resume: bool) -> None:
    """Make the run folder; refuse one that holds something else, or another run unless it is to be resumed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ChainruleError(f"cannot make the folder {out}: {error.strerror}; choose another --out") from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise ChainruleError(f"cannot write into {out}: permission denied; choose another --out")
    if not is_main_process():
        return
    has_run = (out / "checkpoint.pt").exists() or (out / "result.json").exists()
    if has_run and not resume:
        raise ChainruleError(f"{out} holds a run already: pass --resume to go on with it, or choose another --out")
    if resume and not (out / "checkpoint.pt").exists():
        raise ModelError(f"{out} holds no checkpoint to resume from: leave --resume out to start a run there")
    if not has_run and any(out.iterdir()) and not is_run_config(out / "config.json"):
        raise ChainruleError(f"{out} holds other files: choose an empty or new folder as --out")


def is_run_config(path: Path) -> bool:
    """Whether a config.json is a run's: one that was interrupted before its first checkpoint left nothing else."""
    try:
        return "recipe" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def is_main_process() -> bool:
    """Whether this process writes the files; the others of a distributed run only compute."""
    return int(os.environ.get("RANK", "0")) == 0


def write_json(path: Path, content: dict[str, Any]) -> None:
    if is_main_process():
        write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a compressed .npz under a temporary name and rename it."""
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def write_run(out: Path, name: str, result: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write measurements that are no training run as a run folder, so that the report can show them."""
    device = device_name(torch.device(result.get("device", "cpu")))
    result = {"recipe": name, **result, "device": device, "command": command()}
    write_json(out / "config.json", {"command": command()})
    write_bytes(out / "metrics.jsonl", b"")
    save_arrays(out / "arrays.npz", arrays)
    write_json(out / "result.json", result)


def read_run(folder: str | Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, np.ndarray]]:
    """What a finished run left: (result, metrics, arrays).

    Raises:
        DataError: the folder holds no finished run.
    """
    folder = Path(folder)
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        with np.load(folder / "arrays.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return result, [json.loads(line) for line in lines], arrays
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        raise DataError(
            f"{folder} holds no finished run (result.json, metrics.jsonl, arrays.npz): train one there"
        ) from None
