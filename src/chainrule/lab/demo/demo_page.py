"""The page of `chainrule demo`: one offline file that holds a model, the runtime, and what a person does with them."""

from __future__ import annotations

import json
import shlex
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from chainrule import zoo
from chainrule.atomic import write_bytes
from chainrule.errors import ChainruleError
from chainrule.lab.demo.payload import payload

SCRIPTS = ("asking", "pictures", "drawing", "completing", "bits", "archives", "start")
"""The parts of the page's script, in order: one module."""


def write_page(model: Any, name: str, out: str | Path, size: tuple[int, int] | None = None) -> Path:
    """Write the page of a model.

    Args:
        model: float or exact.
        name: what the command line calls it; the page shows commands with it.
        out: the file.
        size: rows and columns of the page's pictures, where the model takes any.

    Returns:
        The file.

    Raises:
        ModelError: the model cannot go into a page.
        DataError: the file cannot be written.
    """
    write_bytes(out, render(model, name, size).encode())
    return Path(out)


def render(model: Any, name: str, size: tuple[int, int] | None = None) -> str:
    """The page's HTML. Everything but the scripts, the style sheet and base64 is escaped."""
    held = payload(model, name, size)
    quoted = shlex.quote(name)
    sized = f"--size {held.meta['height']} {held.meta['width']}" if held.meta["any_size"] else ""
    meta = {**held.meta, "quoted": quoted, "sized": sized}
    loader = jinja2.PackageLoader("chainrule.lab", "demo")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.jinja").render(
        meta=meta,
        command=" ".join(["chainrule sample", quoted, *filter(None, [sized]), "--exact -n 10 --seed 0 -o samples.png"]),
        bits=stored_bits(name),
        title=meta["class"].replace("CNNMADE", "CNN-MADE"),
        style=Markup(source("demo.css")),
        worker=[inside_script(script) for script in (*held.scripts, source("worker.js"))],
        script=inside_script("\n".join(source(f"{part}.js") for part in SCRIPTS)),
        wasm=Markup(held.wasm),
        program=Markup(held.program),
    )


def stored_bits(name: str) -> tuple[float, float] | None:
    """Bits/dim on test images of the exact model and of the trained one, where the model's folder says so."""
    try:
        stored = json.loads((zoo.find(name) / "training.json").read_text(encoding="utf-8"))["stored"]
        return float(stored["exact_test_bits_per_dim"]), float(stored["test_bits_per_dim"])
    except (ChainruleError, OSError, ValueError, KeyError, TypeError):
        return None


def source(file: str) -> str:
    """The text of one of the page's parts."""
    return (resources.files("chainrule.lab.demo") / file).read_text(encoding="utf-8")


def inside_script(text: str) -> Markup:
    """A script that cannot end its element: "</" and "<!--" stand in strings alone, where the slash changes nothing."""
    return Markup(text.replace("</", "<\\/").replace("<!--", "<\\!--"))
