"""The commands that measure and show: study, bench, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from chainrule.cli.common import Device, parse, placed, report_figures, report_rows
from chainrule.cli.run_data import open_data_of, run_config
from chainrule.errors import DataError


def report(args: list[str]) -> None:
    """Make one offline page from run folders: chainrule report RUN... -o report"""

    def report(
        runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")],
        out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report"),
        recorded: tuple[Path, ...] = (),
        bonus: Path | None = None,
    ) -> None:
        """Make report/index.html, one offline page, and report/results.json from finished runs.

        Args:
            runs: Run folders.
            out: The folder to write.
            recorded: Run folders that were trained beforehand; the page labels them so.
            bonus: A folder with other models at the same budget, as make bonus leaves it.
        """
        from chainrule.lab.report import build

        if not runs and bonus is None:
            raise DataError("name at least one run folder: chainrule report runs/pixelcnn-made")
        print(build(runs, out, recorded, bonus))

    parse(report, "report", args)


def study(args: list[str]) -> None:
    """Do a series of runs, but for those that are done: chainrule study parts|bonus|shipped --out DIR"""

    def study(
        name: Annotated[Literal["parts", "bonus", "shipped"], tyro.conf.Positional],
        out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
        preset: Literal["quick", "full"] = "quick",
        dry: bool = False,
    ) -> None:
        """Do what is left to do of a series of runs, one after the other, and print their folders.

        Args:
            name: parts: the assignment's parts 1 to 3 and the codec. bonus: other models at the same budget. shipped:
                the models of coloured digits that ship with the package, from scratch; the last two want a GPU.
            out: The folder of the series; runs/NAME if left out. Runs that are there are skipped or resumed.
            preset: quick fits two CPU cores, full is the assignment's size; shipped has but one.
            dry: Only print the commands that are left.
        """
        from chainrule.lab.studies import run_study

        folders = run_study(name, out or Path("runs") / name, preset, dry=dry)
        if not dry:
            print(*folders, sep="\n")

    parse(study, "study", args)


def bench(args: list[str]) -> None:
    """Measure speed and size beside the usual way: chainrule bench training|steps|sampling|codec [--json]"""

    def bench(
        name: Annotated[Literal["training", "steps", "sampling", "codec"], tyro.conf.Positional],
        recipes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE...|FOLDER]")] = (),
        model: Annotated[str | None, tyro.conf.arg(aliases=["-m"])] = None,
        data: str | None = None,
        n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None,
        repeats: int | None = None,
        steps: int = 0,
        seeds: int = 1,
        growth: bool = False,
        profile: bool = False,
        out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
        device: Device = "cpu",
        json: bool = False,
    ) -> None:
        """Time ours and the usual way side by side, in one process.

        Args:
            name: What to measure. training: steps of ours and of a plain float32 PixelCNN-MADE. steps: training steps
                of the image recipes in turns, and how many take as long as pixelcnn-made's. sampling: cached against
                naive, one full pass for each entry. codec: lossless compression with a model against PNG, WebP,
                JPEG XL, xz, zstd and brotli, on test images; of a FOLDER of pictures against PNG, WebP, JPEG XL and xz:
                bits a sub-pixel with a file for each picture and with all in one, speed, memory.
            recipes: For steps: the recipes; by default all that are trained alike on hopper-mnist. For codec: a folder.
            model: A model or run; for sampling by default the assignment's full-size PixelCNN-MADE with random weights,
                also for training; for codec by default the shipped colored-mnist.
            data: For codec and training: a dataset's name, a file or a folder; by default what the run was trained on,
                for training hopper-mnist.
            n: Events drawn together (100), images compressed (300), or images in a training step (16).
            repeats: Timed runs, of which the median counts (3; for steps 15 rounds).
            steps: For training: also train both for so many steps, and compare their losses.
            seeds: For training with --steps: how often, from other weights and with other batches; the mean counts.
            growth: For sampling: a table of how the cost grows with batch, side, filters and blocks.
            profile: For training: a table of where the time of our step goes instead.
            out: For codec: write a run folder that chainrule report shows.
            device: For sampling and codec: cpu, cuda (a GPU), or auto for a GPU if there is one.
            json: Print JSON.
        """
        from chainrule import zoo
        from chainrule.data.reading import say
        from chainrule.lab.bench import (
            bench_codec,
            bench_growth,
            bench_pictures,
            bench_sampling,
            bench_steps,
            bench_training,
            full_size,
            profile_training,
            read_folder,
        )
        from chainrule.lab.experiment import open_data
        from chainrule.lab.run_folder import write_run

        if (n is not None and n < 1) or (repeats is not None and repeats < 1) or steps < 0 or seeds < 1:
            raise DataError("-n, --repeats and --seeds must be at least 1, and --steps not negative")
        if device != "cpu" and (name not in ("sampling", "codec") or growth):
            raise DataError("--device is for bench sampling and bench codec: leave it out here")
        if name == "codec" and len(recipes) == 1:
            chosen = None if model is None else [placed(zoo.load(model), device)]
            pictures = read_folder(Path(recipes[0]), n)
            raw = sum(picture.size for picture in pictures)
            say(f"{len(pictures):,} pictures of {raw / 1e6:,.1f} MB (one byte a sub-pixel), lossless", quiet=json)
            report_rows(bench_pictures(pictures, chosen), json)
            return
        if recipes and name != "steps":
            raise DataError(f"bench {name} takes no recipes: give it a model with --model, or use bench steps")
        if name == "steps":
            timing = bench_steps(recipes, repeats or 15)
            if json:
                report_figures(timing, True)
            else:
                report_rows(timing["rows"], False)
            return
        repeats = repeats or 3
        if name == "sampling" and growth:
            report_rows(bench_growth(repeats), json)
            return
        if name == "sampling":
            drawn = placed(zoo.load(model) if model else full_size(), device)
            report_figures(bench_sampling(drawn, n or 100, repeats), json)
            return
        if name == "training":
            trained = zoo.load(model) if model else None
            dataset = open_data(data or "hopper-mnist")
            if profile:
                report_rows(profile_training(dataset, trained, n or 16), json)
                return
            report_figures(bench_training(dataset, trained, n or 16, repeats, steps, seeds), json)
            return
        model = model or "colored-mnist"
        loaded = placed(zoo.load(model), device)
        dataset = open_data_of(model, data or (None if run_config(model) else "hopper-mnist"), loaded)
        figures, arrays = bench_codec(loaded, dataset, n or 300, repeats)
        if out is not None:
            write_run(out, "codec", figures, arrays)
        if not json:
            for row in figures.pop("others"):
                figures[f"{row['codec']} bits per dim"] = row["bits_per_dim"]
        report_figures(figures, json)

    parse(bench, "bench", args)
