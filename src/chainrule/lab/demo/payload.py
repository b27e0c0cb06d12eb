"""What a browser needs of a model: its program, the compiled walk, and an account of both."""

from __future__ import annotations

import base64
import ctypes
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule import __version__, data
from chainrule.codec.container import account_of
from chainrule.codec.model_blocks import known_of
from chainrule.compiled.constants import layout
from chainrule.compiled.library import why_missing
from chainrule.compiled.walk import records
from chainrule.compiled.walk.lowering import lower
from chainrule.compiled.walk.portable import portable
from chainrule.compiled.walk.program import Program
from chainrule.errors import ModelError
from chainrule.fixedpoint import exact
from chainrule.lab.demo.receptive import fields

FOLDER = Path(__file__).parent
MOST_PIXELS = 96 * 96
"""Of a picture whose size may be chosen: a page holds, of each pixel, which others it can depend on."""
SCRIPTS = ("runtime.js", "twister.js", "walk.js", "huffman.js", "deflate.js", "container.js", "codec.js")


@dataclass(frozen=True)
class Payload:
    """What goes into a page.

    Args:
        scripts: JavaScript, in this order; they define the global `Chainrule`.
        wasm, program: base64 of deflated bytes, for `Chainrule.open`.
        meta: what the page may say of the model, and what `open` needs to know; JSON.
    """

    scripts: list[str]
    wasm: str
    program: str
    meta: dict[str, Any]


def payload(model: Any, name: str, size: tuple[int, int] | None = None) -> Payload:
    """An exact model for a browser.

    Args:
        model: of images, float or exact.
        name: by which the command line knows it.
        size: rows and columns of the page's pictures, where the model takes any.

    Raises:
        ModelError: it has no exact form, or none that the compiled walk runs, or the size is not its own or too large.
    """
    if len(model.shape) != 3:
        raise ModelError(f"{name} is no model of images: a page can show only such a one")
    if (any_size := model.any_size) and size is None:
        raise ModelError(f"{name} takes pictures of any size: say the page's, as in --size 32 48 (height and width)")
    if (reason := why_missing()) is not None:
        raise ModelError(f"a page is made of the compiled walk, and there is none ({reason})")
    model = exact(model)
    known = known_of(model)
    if size is not None:
        model = model.sized(*size)
        if math.prod(size) > MOST_PIXELS:
            raise ModelError(
                f"{size[0]}×{size[1]} pixels are more than a page has room for, {MOST_PIXELS:,}: choose a smaller size"
            )
    with torch.no_grad():
        program = lower(model)
    if program is None:
        raise ModelError(f"{name} ({type(model).__name__}) is no model that compiled walks run: a page cannot hold it")
    block, pointers = portable(program)
    record = program.record
    channels, height, width = model.shape
    heads = {records.LOGITS: "factorised", records.MADE: "made", records.MIXTURE: "mixture"}
    meta = {
        "name": name,
        "class": known.model,
        "levels": model.levels,
        "any_size": any_size,
        "channels": channels,
        "height": height,
        "width": width,
        "entries": channels * height * width,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "fingerprint": known.fingerprint,
        "account": base64.b64encode(account_of(known)).decode(),
        "version": __version__,
        "pixel_values": data.grid_of(model.levels, model.pixel_values).tolist(),
        "look": heads[record.head],
        "looks": looks(block, program),
        "fields": packed(np.packbits(fields(program), bitorder="little").tobytes()),
        "needs": {"memory": record.memory, "scratch": record.scratch, "room": record.room},
        "pointers": pointers,
        "layout": str(layout(records.ProgramRecord, records.OperationRecord, records.EntryRecord)),
    }
    scripts = [(FOLDER / script).read_text(encoding="utf-8") for script in SCRIPTS]
    return Payload(scripts, packed((FOLDER / "walk.wasm").read_bytes()), packed(planes(block)), meta)


def looks(block: bytes, program: Program) -> list[int]:
    """Where in the block each attention has the pointer to its notes, in order; none for other models."""
    fields = records.ProgramRecord, records.OperationRecord
    start = fields[0].from_buffer_copy(block).operations + fields[1].bias.offset
    size = ctypes.sizeof(fields[1])
    return [start + k * size for k, step in enumerate(program.operations) if step.kind == records.ATTEND]


def planes(block: bytes) -> bytes:
    """The first bytes of all words of four, then the second ones, …: what is alike side by side."""
    padded = block + bytes(-len(block) % 4)
    return np.frombuffer(padded, np.uint8).reshape(-1, 4).T.tobytes()


def packed(content: bytes) -> str:
    """Base64 of raw deflate."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return base64.b64encode(packer.compress(content) + packer.flush()).decode("ascii")
