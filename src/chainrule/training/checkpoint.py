"""What a training run leaves on disk while it lasts: a journal of metrics and a checkpoint to resume from."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
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

    def exists(self) -> bool:
        """Whether there is one to go on from."""
        return self.path is not None and self.path.exists()

    def damaged(self, place: str) -> ModelError:
        """What to say when it cannot be used."""
        version = "is damaged or of another version"
        return ModelError(f"the checkpoint {self.path} {version} ({place} does not fit): remove it to start over")

    def read(self, device: torch.device, like: dict[str, Any]) -> dict[str, Any]:
        """The saved state.

        Args:
            like: a state that is built as this one must be; see `misfit`.

        Raises:
            ModelError: the file is damaged, or belongs to a run with other settings.
        """
        try:
            state = torch.load(self.path, map_location=device, weights_only=True)  # type: ignore[arg-type]
            found = state.pop("settings")
        except Exception:
            raise self.damaged("its format") from None
        if found != self.settings:
            raise ModelError(
                f"the checkpoint {self.path} belongs to a run with other settings "
                f"({', '.join(differences(found, self.settings))}): give the same ones, or another --out"
            )
        if (place := misfit(state, like)) is not None:
            raise self.damaged(place or "its content")
        return state


def misfit(found: Any, like: Any, name: str = "") -> str | None:
    """The first place where a state is built differently from another: keys, types, lengths, shapes; None if it fits.

    A list that ends in `...` stands for any number of such entries, and numbered entries may be missing, as an
    optimiser's are for parameters that never had a gradient.

    >>> misfit({"step": 3, "losses": [0.5, "0.25"]}, {"step": 0, "losses": [0.0, ...]})
    'losses.1'
    """
    pairs: list[tuple[Any, Any, Any]] = []
    if isinstance(like, torch.Tensor):
        fits = isinstance(found, torch.Tensor) and (found.shape, found.dtype) == (like.shape, like.dtype)
    elif type(found) is not type(like) and not (isinstance(found, dict) and isinstance(like, dict)):
        fits = False
    elif isinstance(like, dict):
        fits = found.keys() <= like.keys() and all(isinstance(key, int) for key in like.keys() - found.keys())
        pairs = [(key, found[key], like[key]) for key in like if fits and key in found]
    elif isinstance(like, list | tuple):
        wanted = like[:1] * len(found) if like[-1:] in ([...], (...,)) else like
        fits = len(found) == len(wanted)
        pairs = [(number, *pair) for number, pair in enumerate(zip(found, wanted, strict=False))]
    else:
        fits = True
    places = (misfit(a, b, f"{name}.{key}".lstrip(".")) for key, a, b in pairs)
    return next((place for place in places if place is not None), None) if fits else name


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

    def begin(self, train: Sequence[float] = (), validation: Sequence[tuple[int, float]] = ()) -> None:
        """Start the file over with what was measured so far, which the checkpoint knows better than an older file.

        Args:
            train: the losses of steps 1, 2, …
            validation: steps, and losses after them.
        """
        records: list[dict[str, Any]] = [{"step": step, "train": loss} for step, loss in enumerate(train, 1)]
        records += [{"step": step, "validation": loss} for step, loss in validation]
        records.sort(key=lambda record: record["step"])
        if self.path is not None and (records or self.path.exists()):
            write_bytes(self.path, "".join(json.dumps(record) + "\n" for record in records).encode())


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
