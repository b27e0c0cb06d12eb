"""The command that writes a page on which a browser runs a model: demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from chainrule.cli.common import ModelName, parse
from chainrule.errors import DataError


def demo(args: list[str]) -> None:
    """Make one offline page on which a browser runs a model: chainrule demo MODEL -o demo.html"""

    def demo(
        model: ModelName,
        out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("demo.html"),
        size: tuple[int, int] | None = None,
    ) -> None:
        """Write one offline HTML file in which the exact model draws, completes, counts bits and packs archives.

        Seeds give the same pixels as chainrule sample --exact, and archives are the same bytes as chainrule compress.

        Args:
            model: A run folder, a folder written by save_pretrained, or the name of a shipped model of images.
            out: The page, an .html file.
            size: Height and width of its pictures, for a model of pictures of any size.
        """
        if out.suffix.lower() not in (".html", ".htm"):
            raise DataError(f"cannot write {out}: the page is an .html file, so name it like one")
        if out.is_dir():
            raise DataError(f"{out} is a folder: name the page itself")
        from chainrule import zoo
        from chainrule.lab.demo.demo_page import write_page

        print(write_page(zoo.load(model), model, out, size))

    parse(demo, "demo", args)
