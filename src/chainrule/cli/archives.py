"""The commands of the codec: compress, decompress, info."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import tyro

from chainrule.cli.common import Device, parse, placed, report_figures
from chainrule.cli.installation import say_once_without_compiled_code
from chainrule.errors import DataError

MODEL = tyro.conf.arg(aliases=["-m"], metavar="MODEL")


def compress(args: list[str]) -> None:
    """Pack pictures into an archive, losslessly: chainrule compress IMG... -o F.crz [-m MODEL]"""

    def compress(
        images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMG...")],
        out: Annotated[str, tyro.conf.arg(aliases=["-o"])],
        model: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], MODEL] = (),
        embed_model: bool = False,
        verify: bool = False,
        skip: bool = False,
        overwrite: bool = False,
        chunk: int | None = None,
        device: Device = "cpu",
        json: bool = False,
    ) -> None:
        """Pack pictures of any size and kind into a .crz archive that decodes bit for bit on any machine.

        Args:
            images: Pictures, folders of pictures, .npy, .npz, IDX or pickle files, a dataset's name (its test images),
                or - for an .npy on standard input.
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model; may be repeated.
                What it does not suit, a usual codec takes. Without it the shipped models of photographs are tried.
            out: The archive; - for standard output.
            embed_model: Put the exact model into the archive, so that it can be unpacked without anything else.
            skip: Leave out, and list, pictures that cannot be packed (damaged ones).
            verify: Unpack the whole archive into files again and compare them before it gets its name.
            overwrite: Replace an archive that is there already.
            chunk: Images that are coded together.
            device: Where the model computes: cpu, cuda (a GPU), or auto for a GPU if there is one; the archive is the
                same.
            json: Print the figures as JSON.
        """
        from chainrule import codec, zoo
        from chainrule.data.reading import say

        if not images:
            raise DataError(
                "name what to compress: pictures, folders, .npy, .npz, IDX or pickle files, a dataset, or -"
            )
        say_once_without_compiled_code()
        began = time.perf_counter()
        with progress("packing") as tell:
            loaded = [placed(zoo.load(name), device) for name in model] or None
            figures = codec.compress_files(
                images,
                loaded,
                out,
                embed_model=embed_model,
                verify=verify,
                skip=skip,
                overwrite=overwrite,
                chunk=chunk,
                progress=tell,
            )
        figures["seconds"] = round(time.perf_counter() - began, 3)
        for note in figures["notes"]:
            say(note)
        if not json:
            del figures["notes"]
            flatten(figures)
        if out != "-":
            report_figures({"archive": out, **figures}, json)

    parse(compress, "compress", args)


def decompress(args: list[str]) -> None:
    """Unpack an archive: chainrule decompress F.crz -o DIR [-m MODEL]"""

    def decompress(
        archive: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="F.crz")],
        out: Annotated[str, tyro.conf.arg(aliases=["-o"])],
        model: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], MODEL] = (),
        overwrite: bool = False,
        device: Device = "cpu",
    ) -> None:
        """Unpack a .crz archive; files appear only when all of it has been decoded and verified.

        Args:
            archive: Its path; - for standard input.
            out: A folder; - writes the .npy of an archive of one array to standard output.
            model: The model that packed it; may be repeated. Not needed if the archive holds its models, if shipped
                ones packed it, or none.
            overwrite: Replace files that are there already.
            device: Where the model computes: cpu, cuda (a GPU), or auto for a GPU if there is one.
        """
        from chainrule import codec, zoo

        say_once_without_compiled_code()
        with progress("unpacking") as tell:
            loaded = [zoo.load(name) for name in model]
            files = codec.decompress_file(
                archive, out, loaded, overwrite=overwrite, progress=tell, place=lambda twin: placed(twin, device)
            )
        if out != "-":
            print(f"{len(files):,} file{'s' * (len(files) != 1)} in {out}")

    parse(decompress, "decompress", args)


def info(args: list[str]) -> None:
    """Say what an archive holds, without its model: chainrule info F.crz"""

    def info(
        archive: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="F.crz")], json: bool = False
    ) -> None:
        """Say what an archive holds and check that it is whole; the model is not needed.

        Args:
            archive: Its path; - for standard input.
            json: Print JSON.
        """
        from chainrule import codec

        figures = codec.info(archive)
        if not json:
            names = figures.pop("files")
            more = f" … {len(names) - 4:,} more … {names[-1]}" if len(names) > 5 else ""
            figures["files"] = (", ".join(names[:4]) + more) if more else ", ".join(names)
            flatten(figures)
        report_figures(figures, json)

    parse(info, "info", args)


def flatten(figures: dict[str, Any]) -> None:
    """Spell out, for a person, what coders and models an archive has."""
    for name, row in figures.pop("coders").items():
        figures[f"coded by {name}"] = f"{row['count']:,} in {row['bytes']:,} bytes"
    models = figures.pop("models")
    for number, model in enumerate(models, 1):
        figures["model" if len(models) == 1 else f"model {number}"] = in_words(model)


def in_words(model: str | dict[str, Any]) -> str:
    """A model of an archive, for a person."""
    if isinstance(model, str):
        return model
    shape = "×".join("any" if side is None else str(side) for side in model["shape"])
    inside = f", embedded in {model['embedded_bytes']:,} bytes" if model["embedded_bytes"] else ""
    return f"{model['model']} of {shape}, {model['levels']} levels, fingerprint {model['fingerprint']}{inside}"


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar with an ETA on a terminal, nothing elsewhere: yields what is told of (images done, images in all)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield None
        return
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("images · left"), TimeRemainingColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
