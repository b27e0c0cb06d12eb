"""The commands of the codec: compress, decompress, info."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from chainrule.cli.common import Device, parse, placed, report_figures
from chainrule.errors import DataError

if TYPE_CHECKING:
    from chainrule.models import AutoregressiveModel

MODEL = tyro.conf.arg(aliases=["-m"], metavar="MODEL")


def compress(args: list[str]) -> None:
    """Pack images into an archive, losslessly: chainrule compress IMG... -m MODEL -o F.crz"""

    def compress(
        images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMG...")],
        model: Annotated[str, MODEL],
        out: Annotated[str, tyro.conf.arg(aliases=["-o"])],
        embed_model: bool = False,
        verify: bool = False,
        overwrite: bool = False,
        chunk: int | None = None,
        device: Device = "cpu",
        json: bool = False,
    ) -> None:
        """Pack images into a .crz archive that decodes bit for bit on any machine.

        Args:
            images: Pictures, folders of pictures, .npy, .npz, IDX or pickle files, a dataset's name (its test images),
                or - for an .npy on standard input.
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model.
            out: The archive; - for standard output.
            embed_model: Put the exact model into the archive, so that it can be unpacked without anything else.
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
        began = time.perf_counter()
        with progress("packing") as tell:
            loaded = placed(zoo.load(model), device)
            figures = codec.compress_files(
                images,
                loaded,
                out,
                embed_model=embed_model,
                verify=verify,
                overwrite=overwrite,
                chunk=chunk,
                progress=tell,
            )
        figures["seconds"] = round(time.perf_counter() - began, 3)
        for note in figures["notes"]:
            say(note)
        if not json:
            del figures["notes"]
        if out != "-":
            report_figures({"archive": out, **figures}, json)

    parse(compress, "compress", args)


def decompress(args: list[str]) -> None:
    """Unpack an archive: chainrule decompress F.crz -o DIR [-m MODEL]"""

    def decompress(
        archive: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="F.crz")],
        out: Annotated[str, tyro.conf.arg(aliases=["-o"])],
        model: Annotated[str | None, MODEL] = None,
        overwrite: bool = False,
        device: Device = "cpu",
    ) -> None:
        """Unpack a .crz archive; files appear only when all of it has been decoded and verified.

        Args:
            archive: Its path; - for standard input.
            out: A folder; - writes the .npy of an archive of one array to standard output.
            model: The model that packed it. Not needed if the archive holds its model or a shipped one packed it.
            overwrite: Replace files that are there already.
            device: Where the model computes: cpu, cuda (a GPU), or auto for a GPU if there is one.
        """
        from chainrule import codec, zoo

        with progress("unpacking") as tell:
            loaded = shipped_model(archive) if model is None else zoo.load(model)
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
        report_figures(figures, json)

    parse(info, "info", args)


def shipped_model(archive: str) -> AutoregressiveModel | None:
    """The shipped model that packed an archive, found by its fingerprint; None if none did, or it needs none."""
    from chainrule import codec, zoo
    from chainrule.fixedpoint import fingerprint

    if archive == "-":
        return None
    found = codec.info(archive)
    if not found["embedded_model_bytes"]:
        for folder in set(zoo.shipped().values()):
            model = zoo.load(folder)
            if fingerprint(model).hex() == found["fingerprint"]:
                return model
    return None


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
