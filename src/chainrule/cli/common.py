"""What the commands have in common: how arguments are parsed and figures are printed."""

from __future__ import annotations

import codecs
import contextlib
import json
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from chainrule.errors import ModelError, escaped

if TYPE_CHECKING:
    from torch import nn

M = TypeVar("M", bound="nn.Module")

ModelName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
Device = Literal["auto", "cpu", "cuda"]
MODEL_HELP = (
    "MODEL is a run folder, a folder written by save_pretrained, the name of a shipped model, or user/name on the Hub."
)


class Question(list[str]):
    """Stands in for a command line: it asks a verb for the function that has its arguments."""

    function: Callable[..., None]


def parse(function: Callable[..., None], verb: str, args: list[str]) -> None:
    """Call `function` with the arguments of a command line; a usage error exits with status 2."""
    if isinstance(args, Question):
        args.function = function
        return
    tyro.cli(function, prog=f"chainrule {verb}", args=args)


def placed(model: M, device: Device) -> M:
    """A model on the device asked for; "auto" is a GPU if there is one.

    Raises:
        ModelError: a GPU was asked for, and there is none.
    """
    import torch

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise ModelError("--device cuda: PyTorch finds no GPU here: pass --device cpu, or auto")
    return model.to("cuda" if there and device != "cpu" else "cpu")


def report_figures(figures: dict[str, Any], as_json: bool) -> None:
    """Figures on standard output: JSON for a program, aligned lines for a person."""
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    figures = {name: escaped(value) if isinstance(value, str) else value for name, value in figures.items()}
    width = max(map(len, figures))
    for name, value in figures.items():
        print(
            f"{name.replace('_', ' '):{width}}  {value:.5f}"
            if isinstance(value, float)
            else f"{name.replace('_', ' '):{width}}  {value}"
        )


def report_rows(rows: Iterable[dict[str, Any]], as_json: bool) -> None:
    """Rows of the same figures on standard output, each as soon as it is known: JSON lines, or a table."""
    for number, row in enumerate(rows):
        if as_json:
            print(json.dumps(row), flush=True)
            continue
        if not number:
            print("  ".join(f"{name.replace('_', ' '):>20}" for name in row))
        values = ("–" if value is None else value for value in row.values())
        cells = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in values)
        print("  ".join(f"{cell:>20}" for cell in cells), flush=True)


PLAIN = str.maketrans({**dict.fromkeys("─━═", "-"), **dict.fromkeys("│┃║", "|"), **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼", "+")})
PLAIN |= str.maketrans({"…": "...", "×": "x", "→": "->", "·": "*", "−": "-", "–": "-", "’": "'", "\xa0": " "})


def plain_output() -> None:
    """Let standard output spell out what its encoding lacks (that of an old console, say), rather than fail."""

    def spelled(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        lacking = error.object[error.start : error.end].translate(PLAIN)
        return lacking.encode("ascii", "backslashreplace").decode(), error.end

    codecs.register_error("chainrule", spelled)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # whatever stands in for it
            stream.reconfigure(errors="chainrule")  # type: ignore[union-attr]
