"""Finding and loading models: folders of `save_pretrained`, run folders, and the models that ship with the package."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import load_file
from torch import Tensor

from chainrule import hub, model_card
from chainrule.claims import Bounded
from chainrule.data.levels import checked_values
from chainrule.data.reading import opened, reading
from chainrule.errors import ChainruleError, ModelError
from chainrule.fixedpoint import exact
from chainrule.models import REGISTRY
from chainrule.unpacking import unxz

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PACKED = WEIGHTS + ".xz"
"""What stands in for the weights of a shipped model, since a wheel has at most 4 MB."""
MOST_UNPACKED = 2**27
"""Bytes that packed weights may have once unpacked."""


def load(name_or_folder: str | Path, device: str | torch.device = "cpu") -> Any:
    """Load a model, ready to evaluate and sample.

    Args:
        name_or_folder: a folder written by `save_pretrained`, a run folder (its `model` folder is taken), the name of a
            model shipped with the package, or a repository on the Hugging Face Hub, `user/name`. A folder that exists
            wins over a name.
        device: where to put it.

    Raises:
        ModelError: there is no such model or device, its files are missing or damaged, or the Hub cannot be reached.
        DataError: its files are not readable.

    Example:
        >>> import tempfile, chainrule as cr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = cr.Histogram(4).save_pretrained(folder)
        ...     cr.load(folder).levels
        4
    """
    folder = find(name_or_folder)
    config = read_config(folder)
    stored = folder / (PACKED if is_packed(folder) else WEIGHTS)
    model = assemble(config, weights_in(stored), f"{folder / CONFIG}", f"{stored}")
    model.record = model_card.read(folder, model)
    try:
        return model.to(device)
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"the model cannot be moved to {str(device)!r} ({reason}): choose another device") from None


def weights_in(path: Path) -> dict[str, Tensor]:
    """The weights in a model's file, packed or not, by name.

    Raises:
        ModelError: the file is missing or damaged.
        DataError: it may not be read.
    """
    if not is_there(path):
        raise ModelError(f"{path.parent} has no {WEIGHTS}: the model was not saved whole; train it again")
    if not path.is_dir():
        with opened(path):  # see that it may be read, and is no pipe
            pass
    try:
        return load_bytes(unxz(path.read_bytes(), MOST_UNPACKED)) if path.name == PACKED else load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise damaged(f"{path}", error) from None


def stored_weights(folder: Path) -> bytes:
    """The bytes of a model's weights in the format of safetensors, whether they are packed or not."""
    return unxz((folder / PACKED).read_bytes(), MOST_UNPACKED) if is_packed(folder) else (folder / WEIGHTS).read_bytes()


def is_packed(folder: Path) -> bool:
    """Whether a model's weights are there in their packed form alone."""
    return is_there(folder / PACKED) and not is_there(folder / WEIGHTS)


def assemble(config: dict[str, Any], weights: dict[str, Tensor], described: str, stored: str) -> Any:
    """A model from what its two files hold; `described` and `stored` say in errors where that came from.

    Raises:
        ModelError: the configuration describes no model of this version, or the weights are not its own.
    """
    config = dict(config)
    name, scales, made_exact = config.pop("class", None), config.pop("scales", None), config.pop("exact", False)
    shown = config.pop("pixel_values", None)
    if not isinstance(name, str) or name not in REGISTRY:
        raise ModelError(
            f"{described} names the class {name!r}, which is none of this version's: update chainrule, or, "
            "if the class is your own, make the model and give it the weights"
        )
    config = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    try:
        with Bounded(weights):
            model: Any = REGISTRY[name](**config)
        model.pixel_values = None if shown is None else checked_values(shown, model.levels)
    except (TypeError, ValueError, RuntimeError, IndexError, OverflowError, MemoryError, ChainruleError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{described} does not describe a {name}: {reason}") from None
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise damaged(stored, error) from None
    model.scales = scales
    return exact(model, scales) if made_exact else model.eval()


def damaged(stored: str, error: Exception) -> ModelError:
    """The error that says which file is damaged."""
    return ModelError(f"{stored} is damaged or belongs to another model: {str(error).splitlines()[0]}")


def find(name_or_folder: str | Path) -> Path:
    """The folder that holds a model's config.json.

    Raises:
        ModelError: there is no such model.
    """
    folder = Path(name_or_folder)
    if is_folder(folder):
        for candidate in (folder / "model", folder):
            if is_there(candidate / CONFIG) and is_model_config(candidate / CONFIG):
                return candidate
        raise ModelError(f"{folder} holds no model: it has neither model/{CONFIG} nor a model's {CONFIG}")
    shipped_models = shipped()
    if str(name_or_folder) in shipped_models:
        return shipped_models[str(name_or_folder)]
    if hub.is_repository(str(name_or_folder)):
        return hub.fetch(str(name_or_folder))
    known = ", ".join(sorted(shipped_models)) or "none yet"
    raise ModelError(
        f"there is no model {str(name_or_folder)!r}: give a folder, or the name of a shipped model ({known})"
    )


def is_folder(path: Path) -> bool:
    """Whether a folder of this name exists; False for names that no path can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_there(path: Path) -> bool:
    """Whether there is a file of this name. Raises `DataError` where this cannot be told."""
    with reading(path):
        return path.exists()


def shipped() -> dict[str, Path]:
    """Names of the models inside the package, versioned and bare (the newest version), with their folders."""
    root = Path(str(resources.files("chainrule"))) / "shipped"
    names: dict[str, Path] = {}
    if root.is_dir():
        for folder in sorted(root.iterdir(), key=lambda path: (path.name.rpartition("-")[0], version(path))):
            if (folder / CONFIG).is_file():
                names[folder.name] = folder
                names[folder.name.rpartition("-")[0]] = folder
    return names


def version(folder: Path) -> int:
    """The number behind the last hyphen of a shipped model's name."""
    digits = folder.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0


def is_model_config(path: Path) -> bool:
    """Whether a config.json is a model's (and not, say, a run's)."""
    try:
        with reading(path):
            return "class" in json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError, RecursionError):
        return True  # damaged: let `read_config` say so


def read_config(folder: Path) -> dict:
    """The content of a model's config.json.

    Raises:
        ModelError: it cannot be read, or is no JSON object.
    """
    path = folder / CONFIG
    try:
        with reading(path):
            config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ModelError(f"{path} cannot be read as JSON: the model was not saved whole; train it again") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path} does not hold a JSON object: the model was not saved whole; train it again")
    return config
