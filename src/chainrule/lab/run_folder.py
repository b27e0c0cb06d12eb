"""A run's folder: how it is taken, written and read.

    config.json      the recipe, the data, the command, versions
    metrics.jsonl    losses, a line a step
    checkpoint.pt    where to resume
    model/           the best weights (`cr.load` reads the run folder too)
    result.json      every figure
    arrays.npz       what the plots are drawn from: samples, receptive field, distributions
    samples.png      for images

Everything that is shown of a run later is read from there.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.atomic import write_bytes
from chainrule.errors import ChainruleError, DataError, ModelError
from chainrule.lab.provenance import command, device_name


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[None]:
    """If the block fails, remove the folders that were made within it and are still empty."""
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty, or never made
            for folder in missing:
                folder.rmdir()
        raise


def prepare_folder(out: Path, resume: bool) -> None:
    """Make the run folder, or take one that was made for a run.

    Raises:
        ChainruleError: it cannot be made or written, or it holds other files, or a run that is not to be resumed.
        ModelError: there is nothing to resume.
    """
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
        raise ChainruleError(f"{out} holds a run already: pass --resume to continue it, or choose another --out")
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
    """Write a JSON file whole, if this process is the one that writes."""
    if is_main_process():
        write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a compressed .npz under a temporary name and rename it."""
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
