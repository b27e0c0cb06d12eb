"""The command line: one thin function a verb.

Exit status: 0 done; 2 something was wrong with the input, said in one sentence on standard error; 130 interrupted, with
a checkpoint to resume from. Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

import tyro

from chainrule.errors import ChainruleError, DataError, ModelError

if TYPE_CHECKING:
    from chainrule.models import AutoregressiveModel

# PyTorch takes seconds to import: everything that needs it is imported where it is used, so that --help is quick.

ModelName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
MODEL_HELP = "MODEL is a run folder, a folder written by save_pretrained, or the name of a shipped model."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        return run_verb(args)
    except ChainruleError as error:
        return complain(str(error))
    except KeyboardInterrupt as error:
        print(str(error) or "chainrule: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run_verb(args: list[str]) -> int:
    """Do what the first argument says."""
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage(), flush=True)
        return 0 if args else 2
    verb = args.pop(0)
    if verb in ("--version", "-V"):
        from chainrule import __version__

        print(f"chainrule {__version__}")
        return 0
    if verb not in VERBS:
        return complain(f"there is no command {verb!r}: use one of {', '.join(VERBS)}")
    VERBS[verb](args)
    sys.stdout.flush()
    return 0


def complain(sentence: str) -> int:
    print(f"chainrule: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


def usage() -> str:
    """What `chainrule --help` prints."""
    lines = [
        "usage: chainrule COMMAND …",
        "",
        "Autoregressive models of discrete data: train, measure, sample, complete.",
        "",
    ]
    for name, verb in VERBS.items():
        lines.append(f"  {name:10} {(verb.__doc__ or '').splitlines()[0]}")
    lines += ["", "chainrule COMMAND --help tells more.", MODEL_HELP]
    return "\n".join(lines)


def parse(function: Callable[..., None], verb: str, args: list[str]) -> None:
    """Call `function` with the arguments of a command line; a usage error exits with status 2."""
    tyro.cli(function, prog=f"chainrule {verb}", args=args)


def report_figures(figures: dict[str, Any], as_json: bool) -> None:
    """Figures on standard output: JSON for a program, aligned lines for a person."""
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        print(
            f"{name.replace('_', ' '):{width}}  {value:.5f}"
            if isinstance(value, float)
            else f"{name.replace('_', ' '):{width}}  {value}"
        )


# ---------------------------------------------------------------------------------------------------------------- train

M = TypeVar("M")
Preset = Literal["quick", "full"]


@dataclass
class TrainCommand(Generic[M]):
    """Train a recipe into a run folder and measure it on the test split."""

    model: M
    train: Any
    preset: Preset = "quick"
    """quick fits two CPU cores, full is the assignment's size."""
    data: str | None = None
    """Another dataset: a name (warmup, portrait-2d, hopper-mnist), a file or a folder of images."""
    levels: int | None = None
    """Quantise your own images to this many levels."""
    out: Path | None = None
    """The run folder; runs/RECIPE if left out."""
    resume: bool = False
    """Go on from the checkpoint in the run folder."""
    json: bool = False
    """Print the result as JSON."""


def train(args: list[str]) -> None:
    """Train a recipe into a run folder: chainrule train RECIPE [--preset full] [--train.steps 500] …"""
    from chainrule.experiment import run

    recipe, command = parse_recipe("train", args, TrainCommand)
    out = command.out or Path("runs") / recipe.name
    try:
        result = run(recipe, out, resume=command.resume)
    except KeyboardInterrupt:
        again = [] if "--resume" in args else ["--resume"]
        words = " ".join(["chainrule", "train", *args, *again])
        raise KeyboardInterrupt(f"chainrule: interrupted; a checkpoint is safe, go on with: {words}") from None
    if not result:
        return
    if command.json:
        report_figures(result, True)
    else:
        wanted = (
            "test_bits_per_dim",
            "exact_bits_per_dim",
            "entropy_bits_per_dim",
            "validation_bits_per_dim",
            "parameters",
        )
        report_figures(
            {key: result[key] for key in (*wanted, "train_seconds") if key in result} | {"folder": str(out)}, False
        )


def parse_recipe(verb: str, args: list[str], command_type: Any) -> tuple[Any, Any]:
    """(recipe with all overrides, the rest of the command) from `RECIPE --preset … --train.… --model.…`."""
    from dataclasses import replace

    from chainrule.recipes import RECIPES, get_recipe
    from chainrule.training import TrainConfig

    if not args or args[0].startswith("-"):
        listing = "\n".join(f"  {name:15} {build('quick').title}" for name, build in RECIPES.items())
        print(f"usage: chainrule {verb} RECIPE [OPTIONS]\n\nRecipes:\n{listing}\n")
        print(f"chainrule {verb} RECIPE --help lists the options, with the recipe's defaults.")
        raise SystemExit(0 if args and args[0] in ("-h", "--help") else 2)
    name, rest = args[0], args[1:]
    preset: Any = "quick"
    for position, word in enumerate(rest):
        if word.startswith("--preset"):
            preset = word.partition("=")[2] or (rest[position + 1] if position + 1 < len(rest) else "")
    if preset not in ("quick", "full"):
        raise ModelError(f"there is no preset {preset!r}: use quick or full")
    recipe = get_recipe(name, preset)
    command_type.__annotations__["train"] = TrainConfig
    typed = command_type[type(recipe.model)]
    defaults = command_type(model=recipe.model, train=recipe.train, preset=preset)
    command = tyro.cli(typed, default=defaults, prog=f"chainrule {verb} {name}", args=rest)
    recipe = replace(
        recipe, model=command.model, train=command.train, data=command.data or recipe.data, levels=command.levels
    )
    return recipe, command


# ----------------------------------------------------------------------------------------------------------------- tune


@dataclass
class TuneCommand(Generic[M]):
    """Search a recipe's hyper-parameters on its validation data with optuna."""

    model: M
    train: Any
    preset: Preset = "quick"
    data: str | None = None
    """Another dataset, as for train."""
    levels: int | None = None
    """Quantise your own images to this many levels."""
    out: Path | None = None
    """Where trials go; tune/RECIPE if left out. A search that is there is gone on with."""
    trials: int = 20
    """How many more trials."""
    json: bool = False
    """Print all trials as JSON."""


def tune(args: list[str]) -> None:
    """Search a recipe's hyper-parameters on its validation data: chainrule tune RECIPE [--trials 20]"""
    from chainrule import tuning

    recipe, command = parse_recipe("tune", args, TuneCommand)
    out = command.out or Path("tune") / recipe.name
    rows = tuning.tune(recipe, out, command.trials)
    if command.json:
        print(json.dumps(rows, indent=2))
        return
    best = json.loads((out / "best.json").read_text(encoding="utf-8"))
    print(f"best of {len(rows)} trials: {rows[0]['validation_bits_per_dim']:.5f} bits/dim on validation data, with")
    print(f"  chainrule train {recipe.name} {' '.join(best['flags'])}")
    print(f"all trials: {out / 'trials.csv'}")


# ------------------------------------------------------------------------------------------------------------- evaluate


def evaluate(args: list[str]) -> None:
    """Measure a model's likelihood: chainrule evaluate MODEL [--data FILE] [--split test]"""

    def evaluate(
        model: ModelName,
        data: str | None = None,
        split: Literal["train", "validation", "test"] = "test",
        json: bool = False,
    ) -> None:
        """Measure a model's exact likelihood on data.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            data: A dataset's name, a file or a folder of images; for a run folder, by default what it was trained on.
            split: Which part of the data.
            json: Print JSON.
        """
        from chainrule import metrics, zoo
        from chainrule.evaluation import bits_per_dim, log2_joint

        loaded = zoo.load(model)
        dataset = open_data_of(model, data, loaded)
        figures: dict[str, Any] = {"model": model, "data": dataset.name, "split": split}
        figures["events"] = len(getattr(dataset, split))
        figures["bits_per_dim"] = bits_per_dim(loaded, dataset, split)
        figures["bits_per_event"] = figures["bits_per_dim"] * loaded.dims
        if dataset.truth is not None:
            log2_q = log2_joint(loaded)
            figures["exact_bits_per_dim"] = metrics.cross_entropy_bits(dataset.truth, log2_q) / 2
            figures["kl_bits"] = metrics.kl_bits(dataset.truth, log2_q)
        report_figures(figures, json)

    parse(evaluate, "evaluate", args)


def open_data_of(name: str, data_name: str | None, model: AutoregressiveModel) -> Any:
    """The dataset asked for, or the one that a run was trained on; it must fit the model."""
    from chainrule.experiment import open_data

    config = run_config(name)
    if data_name is None:
        data_name = config.get("data")
        if data_name is None:
            raise DataError(f"{name} does not say what it was trained on: pass --data")
    seed = config.get("train", {}).get("seed", 0)
    dataset = open_data(data_name, seed, config.get("levels"), config.get("validation"))
    if (tuple(dataset.shape), dataset.levels) != (model.shape, model.levels):
        raise DataError(
            f"{dataset.name} has events of shape {tuple(dataset.shape)} with {dataset.levels} levels, "
            f"{name} is for {model.shape} with {model.levels}: choose data that fit"
        )
    return dataset


def run_config(name: str) -> dict[str, Any]:
    """The recipe of a run folder; empty for other models."""
    try:
        return json.loads((Path(name) / "config.json").read_text(encoding="utf-8")).get("recipe", {})
    except (OSError, ValueError, AttributeError):
        return {}


# ----------------------------------------------------------------------------------------------------- sample, complete


def sample(args: list[str]) -> None:
    """Draw from a model: chainrule sample MODEL -n 100 -o samples.png --seed 0"""

    def sample(
        model: ModelName,
        n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 100,
        out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
        seed: int = 0,
        method: Literal["cached", "naive"] = "cached",
    ) -> None:
        """Draw samples from a model, exactly.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            n: How many.
            out: A picture (.png, images only: a sheet of ten columns) or an array (.npy; images as N, H, W, C). Without
                it, samples that are not images are printed, one a line.
            seed: The same seed gives the same samples.
            method: cached takes one pass in all; naive takes a full pass for each entry, and gives the same.
        """
        import torch

        from chainrule import zoo

        loaded = zoo.load(model)
        check_output(out, loaded)
        x = loaded.sample(n, generator=torch.Generator().manual_seed(seed), method=method)
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
    ) -> None:
        """Keep part of an image and draw the rest, each pixel given everything before it.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            image: A picture of the model's size.
            keep_rows: Keep this many rows at the top.
            mask: Or keep where this picture of the same size is white (known pixels after unknown ones are put in place
                as they come, and not looked at before).
            n: How many completions; more than one become a sheet.
            out: A picture.
            seed: The same seed gives the same completions.
        """
        import numpy as np
        import torch

        from chainrule import data, zoo

        loaded = zoo.load(model)
        if len(loaded.shape) != 3:
            raise ModelError(f"{model} models events of shape {loaded.shape}: only images can be completed")
        if (keep_rows is None) == (mask is None):
            raise DataError("say what is known of the image: either --keep-rows or --mask")
        if n < 1:
            raise DataError(f"cannot draw {n} completions: ask for at least 1")
        check_output(out, loaded)
        x = torch.as_tensor(np.asarray(data.read_image(image, loaded.levels, loaded.shape)), dtype=torch.long)
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
        y = loaded.complete(batch, known, generator=torch.Generator().manual_seed(seed))
        if n == 1:
            data.write_image(y[0], loaded.levels, out)
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
    from chainrule.checkpoint import write_atomically

    if out is None:
        for event in x.flatten(1).tolist():
            print(" ".join(str(value + offset) for value in event))
    elif out.suffix.lower() == ".png":
        data.save_grid(x, model.levels, out)
        print(out)
    else:
        small = np.uint8 if model.levels + offset <= 256 else np.int32
        array = data.to_nhwc(x) if len(model.shape) == 3 else x.cpu().numpy() + offset
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(array).astype(small))
        write_atomically(out, buffer.getvalue())
        print(out)


def run_offset(name: str) -> int:
    """What a person reads is value + offset; runs know theirs."""
    return 1 if run_config(name).get("data") == "warmup" else 0


# --------------------------------------------------------------------------------------------------------------- report


def report(args: list[str]) -> None:
    """Make one offline page from run folders: chainrule report RUN... -o report"""

    def report(
        runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")],
        out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report"),
        recorded: tuple[Path, ...] = (),
    ) -> None:
        """Make report/index.html, one offline page, and report/results.json from finished runs.

        Args:
            runs: Run folders.
            out: The folder to write.
            recorded: Run folders that were trained beforehand; the page labels them so.
        """
        from chainrule.report import build

        if not runs:
            raise DataError("name at least one run folder: chainrule report runs/pixelcnn-made")
        print(build(runs, out, recorded))

    parse(report, "report", args)


# ---------------------------------------------------------------------------------------------------------------- bench


def bench(args: list[str]) -> None:
    """Measure speed as a ratio to the usual code: chainrule bench sampling [-n 100] [--json]"""

    def bench(
        name: Annotated[Literal["sampling"], tyro.conf.Positional],
        model: str | None = None,
        n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 100,
        repeats: int = 3,
        json: bool = False,
    ) -> None:
        """Time ours and the plain reference side by side, on the same weights, and print the ratio.

        Args:
            name: What to measure. sampling: cached against naive (one full pass for each entry).
            model: A model or run; by default the assignment's full-size PixelCNN-MADE with random weights.
            n: Events drawn together.
            repeats: Timed runs, of which the median counts.
            json: Print JSON.
        """
        from chainrule import zoo
        from chainrule.bench import BENCHMARKS

        if n < 1 or repeats < 1:
            raise DataError("-n and --repeats must be at least 1")
        report_figures(BENCHMARKS[name](zoo.load(model) if model else None, n, repeats), json)

    parse(bench, "bench", args)


# --------------------------------------------------------------------------------------------------------------- doctor


def doctor(args: list[str]) -> None:
    """Look a model over: what it is, and the certificate of its exact mode: chainrule doctor MODEL"""

    def doctor(model: ModelName, json: bool = False) -> None:
        """Say what a model is, and prove that its exact twin's sums are exact, layer by layer.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            json: Print JSON.
        """
        from dataclasses import asdict

        from chainrule import zoo
        from chainrule.exact import certificate, exact, fingerprint, probe

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


VERBS: dict[str, Callable[[list[str]], None]] = {
    "train": train,
    "evaluate": evaluate,
    "sample": sample,
    "complete": complete,
    "tune": tune,
    "report": report,
    "doctor": doctor,
    "bench": bench,
}
