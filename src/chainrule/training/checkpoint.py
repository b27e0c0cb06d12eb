"""What a training run leaves on disk while it lasts: a journal of metrics and a checkpoint to resume from."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch

from chainrule.atomic import write_bytes
from chainrule.errors import ChainruleError, ModelError


class Checkpoint:
    """The state of a run in one file, always whole.

    Args:
        path: the file, or None to write nothing.
        settings: what must be the same for the run to be continued; JSON values.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path = path
        self.settings = json.loads(json.dumps(settings))

    def write(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by `state`."""
        if self.path is not None:
            buffer = io.BytesIO()
            torch.save({"settings": self.settings, **state}, buffer)
            write_bytes(self.path, buffer.getvalue())

    def read(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state, or None if there is none.

        Raises:
            ModelError: the file is damaged, or belongs to a run with other settings.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location=device, weights_only=True)
            found = state["settings"]
        except Exception:
            raise ModelError(f"the checkpoint {self.path} is damaged: remove it to start over") from None
        if found != self.settings:
            raise ModelError(
                f"the checkpoint {self.path} belongs to a run with other settings "
                f"({', '.join(differences(found, self.settings))}): give the same ones, or another --out"
            )
        return state


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Where two settings differ, as sentences of a few words.

    >>> differences({"train": {"lr": 1, "seed": 0}}, {"train": {"lr": 2, "seed": 0}})
    ['train.lr was 1, is 2']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))]
    return [] if old == new else [f"{name} was {old}, is {new}"]


class Journal:
    """metrics.jsonl: one JSON object a line, `{"step": 7, "train": …}` or `{"step": 7, "validation": …}`."""

    def __init__(self, path: Path | None, *, tensorboard: bool = False, unit: str = "bits/dim") -> None:
        self.path = path
        self.lines: list[str] = []
        self.tag = unit.replace("/", "_per_").replace(" ", "_")
        self.events = event_writer(path.parent / "tensorboard") if tensorboard and path is not None else None

    def add(self, record: dict[str, Any]) -> None:
        """Note one record; `flush` puts it on disk."""
        self.lines.append(json.dumps(record) + "\n")
        if self.events is not None:
            for name, value in record.items():
                if name != "step":
                    self.events.add_scalar(f"{self.tag}/{name}", value, record["step"])

    def flush(self) -> None:
        """Append what was noted."""
        if self.path is not None and self.lines:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with open(self.path, "a", encoding="utf-8") as file:
                    file.writelines(self.lines)
            except OSError as error:
                raise ChainruleError(f"cannot write {self.path}: {error.strerror or error}") from None
        self.lines.clear()

    def cut(self, step: int) -> None:
        """Forget what was measured after `step`: a resumed run measures it again."""
        if self.path is None or not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                record = json.loads(line)
            except ValueError:  # the last line of a run that was killed while writing
                continue
            if record.get("step", 0) <= step:
                kept.append(line)
        write_bytes(self.path, "".join(kept).encode())


def event_writer(folder: Path) -> Any:
    """A writer of TensorBoard's event files.

    Raises:
        ModelError: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ModelError("--train.tensorboard needs tensorboard: pip install 'chainrule[track]'") from None
    return SummaryWriter(folder)
