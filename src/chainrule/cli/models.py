"""The commands that use trained models and runs: evaluate, sample, complete, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from chainrule.cli.common import Device, ModelName, parse, placed, report_figures
from chainrule.errors import DataError, ModelError

if TYPE_CHECKING:
    from chainrule.models import AutoregressiveModel


def evaluate(args: list[str]) -> None:
    """Measure a model's likelihood: chainrule evaluate MODEL [--data FILE] [--split test]"""

    def evaluate(
        model: ModelName,
        data: str | None = None,
        split: Literal["train", "validation", "test"] = "test",
        n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None,
        redraw: bool = False,
        independent_channels: bool = False,
        device: Device = "cpu",
        json: bool = False,
    ) -> None:
        """Measure a model's exact likelihood on data.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            data: A dataset's name, a file or a folder of images; for a run folder, by default what it was trained on.
            split: Which part of the data.
            n: Measure the first so many events only.
            redraw: Draw the training split anew: digits on other crops than those the model may have been trained on.
            independent_channels: For a PixelCNN-MADE: also what it would need if it predicted each channel without the
                others of its pixel, the least that a factorised model of the same features can need.
            device: Where the model computes: cpu, cuda (a GPU), or auto for a GPU if there is one.
            json: Print JSON.
        """
        from chainrule import metrics, zoo
        from chainrule.evaluation import bits_per_dim, log2_joint, part_of
        from chainrule.lab.independence import independent_bits_per_dim

        loaded = placed(zoo.load(model), device)
        dataset = part_of(open_data_of(model, data, loaded), split, n, redraw)
        figures: dict[str, Any] = {"model": model, "data": dataset.name, "split": split}
        if redraw:
            figures["redrawn"] = True
        figures["events"] = len(getattr(dataset, split))
        if independent_channels:  # first, since it may be refused
            independent = independent_bits_per_dim(loaded, dataset, split)
        figures["bits_per_dim"] = bits_per_dim(loaded, dataset, split)
        figures["bits_per_event"] = figures["bits_per_dim"] * loaded.dims
        if independent_channels:
            figures["independent_channels_bits_per_dim"] = independent
        if dataset.truth is not None:
            log2_q = log2_joint(loaded)
            figures["exact_bits_per_dim"] = metrics.cross_entropy_bits(dataset.truth, log2_q) / 2
            figures["kl_bits"] = metrics.kl_bits(dataset.truth, log2_q)
        report_figures(figures | ({"notes": dataset.notes} if json else {}), json)

    parse(evaluate, "evaluate", args)


def open_data_of(name: str, data_name: str | None, model: AutoregressiveModel) -> Any:
    """The dataset asked for, or the one that a run was trained on, its notes said aloud.

    Raises:
        DataError: there is none, it does not fit the model, or the run was trained on other events of that name.
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
    dataset = open_data(data_name, seed, levels, config.get("validation"), pixel_values)
    if (tuple(dataset.shape), dataset.levels) != (model.shape, model.levels):
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


def sample(args: list[str]) -> None:
    """Draw from a model: chainrule sample MODEL -n 100 -o samples.png --seed 0"""

    def sample(
        model: ModelName,
        n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 100,
        out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
        seed: int = 0,
        label: int | None = None,
        method: Literal["cached", "naive"] = "cached",
        device: Device = "cpu",
    ) -> None:
        """Draw samples from a model, exactly.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            n: How many.
            out: A picture (.png, images only: a sheet of ten columns) or an array (.npy; images as N, H, W, C). Without
                it, samples that are not images are printed, one a line.
            seed: The same seed gives the same samples.
            label: For a model that is conditioned on a class: the class of every sample; by default all in turn.
            method: cached takes one pass in all; naive takes a full pass for each entry, and gives the same.
            device: Where the model computes: cpu, cuda (a GPU), or auto for a GPU if there is one.
        """
        import torch

        from chainrule import zoo

        if n < 1:
            raise DataError(f"cannot draw {n} samples: ask for at least 1")
        loaded = placed(zoo.load(model), device)
        check_output(out, loaded)
        context = loaded.example_context(n) if label is None else torch.full((n,), label)
        x = loaded.sample(n, context, torch.Generator().manual_seed(seed), method).cpu()
        write_events(x, loaded, out, run_offset(model))

    parse(sample, "sample", args)


def complete(args: list[str]) -> None:
    """Draw the rest of an image: chainrule complete MODEL IMG --keep-rows 14 -o out.png"""

    def complete(
        model: ModelName,
        image: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMG")],
        keep_rows: int | None = None,
        mask: Path | None = None,
        n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1,
        out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("completed.png"),
        seed: int = 0,
        label: int | None = None,
        device: Device = "cpu",
    ) -> None:
        """Keep part of an image and draw the rest, each pixel given everything before it.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            image: A picture of the model's size.
            keep_rows: Keep this many rows at the top.
            mask: Or keep where this picture of the same size is white (known pixels after unknown ones are put in place
                as they come, and not looked at before).
            n: How many completions; more than one become a sheet.
            out: A picture, or an array (.npy) of levels.
            seed: The same seed gives the same completions.
            label: For a model that is conditioned on a class: the class of the image; by default all in turn.
            device: Where the model computes: cpu, cuda (a GPU), or auto for a GPU if there is one.
        """
        import numpy as np
        import torch

        from chainrule import data, zoo
        from chainrule.data.reading import say

        loaded = placed(zoo.load(model), device)
        if len(loaded.shape) != 3:
            raise ModelError(f"{model} models events of shape {loaded.shape}: only images can be completed")
        if (keep_rows is None) == (mask is None):
            raise DataError("say what is known of the image: either --keep-rows or --mask")
        if n < 1:
            raise DataError(f"cannot draw {n} completions: ask for at least 1")
        check_output(out, loaded)
        if any(path is not None and path.exists() and path.samefile(out) for path in (image, mask) if out.exists()):
            raise DataError(f"{out} is what is to be completed: give the result another name")
        event = data.read_event(image, loaded.levels, loaded.shape, loaded.pixel_values)
        x = torch.as_tensor(event.levels, dtype=torch.long)
        _, height, width = loaded.shape
        known = torch.zeros(height, width, dtype=torch.bool)
        if keep_rows is not None:
            if not 0 <= keep_rows <= height:
                raise DataError(f"--keep-rows is {keep_rows}: the image has {height} rows")
            known[:keep_rows] = True
        elif mask is not None:
            pixels = data.read_pixels(mask).pixels
            if pixels.shape[:2] != (height, width):
                raise DataError(
                    f"{mask} is {pixels.shape[1]}×{pixels.shape[0]}, the model's images are {width}×{height}"
                )
            known = torch.from_numpy(pixels.max(-1) > 127)
        batch = x.expand(n, *loaded.shape)
        context = loaded.example_context(n) if label is None else torch.full((n,), label)
        y = loaded.complete(batch, known, context, torch.Generator().manual_seed(seed)).cpu()
        for note in event.notes:
            say(f"{note} What is kept is written as it was." if out.suffix.lower() == ".png" else note)
        if out.suffix.lower() == ".png":  # what is kept is kept, also where the model has no level for it
            drawn = data.grid_of(loaded.levels, loaded.pixel_values)[y.numpy()]
            shown = np.where(known.numpy(), event.pixels, drawn)
            if n == 1:
                data.write_image(shown[0], 256, out)
            else:
                data.save_grid(shown, 256, out)
            print(out)
        else:
            write_events(y, loaded, out, 0)

    parse(complete, "complete", args)


def check_output(out: Path | None, model: AutoregressiveModel) -> None:
    """Refuse an output that cannot be written before any work is done."""
    pictures = len(model.shape) == 3
    if out is None:
        if pictures:
            raise DataError("say where the images go: -o samples.png or -o samples.npy")
        return
    if out.suffix.lower() not in (".npy", ".png") or (out.suffix.lower() == ".png" and not pictures):
        kinds = ".png or .npy" if pictures else ".npy"
        raise DataError(f"cannot write {out}: the samples of this model go to a {kinds} file")
    if out.parent != Path() and not out.parent.is_dir():
        raise DataError(f"cannot write {out}: there is no folder {out.parent}")


def write_events(x: Any, model: AutoregressiveModel, out: Path | None, offset: int) -> None:
    """Samples to a picture, an array, or standard output."""
    import io

    import numpy as np

    from chainrule import data
    from chainrule.atomic import write_bytes
    from chainrule.training.progress import say

    if out is None:
        for event in x.flatten(1).tolist():
            print(" ".join(str(value + offset) for value in event))
    elif out.suffix.lower() == ".png":
        data.save_grid(x, model.levels, out, pixel_values=model.pixel_values)
        if note := data.sheet_note(model.shape, model.levels):
            say(note)
        print(out)
    else:
        small = np.uint8 if model.levels + offset <= 256 else np.int32
        array = data.to_nhwc(x) if len(model.shape) == 3 else x.cpu().numpy() + offset
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(array).astype(small))
        write_bytes(out, buffer.getvalue())
        print(out)


def run_offset(name: str) -> int:
    """What a person reads is value + offset; runs know theirs."""
    return 1 if run_config(name).get("data") == "warmup" else 0


def doctor(args: list[str]) -> None:
    """Look a model over: what it is, and the certificate of its exact mode: chainrule doctor MODEL"""

    def doctor(model: ModelName, json: bool = False) -> None:
        """Say what a model is, and prove that its exact twin's sums are exact, layer by layer.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            json: Print JSON.
        """
        from dataclasses import asdict

        from chainrule import compiled as native
        from chainrule import zoo
        from chainrule.fixedpoint import certificate, exact, fingerprint, probe

        loaded = zoo.load(model)
        twin = exact(loaded)
        rows = certificate(twin)
        figures: dict[str, Any] = {
            "model": type(loaded).__name__,
            "shape": list(loaded.shape),
            "levels": loaded.levels,
            "parameters": sum(p.numel() for p in loaded.parameters()),
            "fingerprint": fingerprint(twin).hex(),
            "probe": probe(twin).hex(),
            "compiled walk": "ready" if native.available() else "none: install with a C compiler at hand for speed",
        }
        if json:
            report_figures(figures | {"certificate": [asdict(row) for row in rows]}, True)
            return
        report_figures(figures, False)
        width = max(len(row.layer) for row in rows) if rows else 0
        print("\nNo sum of the exact model can leave what its type represents exactly:\n")
        print(f"  {'layer':{width}}  carrier   worst case / limit")
        for row in rows:
            print(f"  {row.layer:{width}}  {row.carrier:8}  {row.worst / row.limit:.3f}")

    parse(doctor, "doctor", args)
