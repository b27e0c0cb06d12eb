"""How a model is kept: its class's name, the arguments that made it, and its weights."""

from __future__ import annotations

import functools
import inspect
import json
from pathlib import Path
from typing import Any

import safetensors.torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from chainrule.atomic import write_bytes
from chainrule.models import checking


class StoredModel(nn.Module, PyTorchModelHubMixin, library_name="chainrule"):
    """A module that remembers the arguments of its constructor."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let every model remember the arguments that made it, for `config`."""
        super().__init_subclass__(**kwargs)
        if (init := cls.__dict__.get("__init__")) is None:
            return

        @functools.wraps(init)
        def remembering(self: Any, *args: Any, **named: Any) -> None:
            if "_arguments" not in self.__dict__:
                bound = inspect.signature(init).bind(self, *args, **named)
                bound.apply_defaults()
                given = list(bound.arguments.items())[1:]
                self.__dict__["_arguments"] = {name: checking.plain(value) for name, value in given}
            init(self, *args, **named)

        cls.__init__ = remembering  # type: ignore[method-assign]

    @property
    def config(self) -> dict[str, Any]:
        """The class's name and the arguments that made this model."""
        arguments: dict[str, Any] = self.__dict__["_arguments"]
        return {"class": type(self).__name__, **arguments}

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:  # type: ignore[override]
        """Write model.safetensors and config.json into a folder that `cr.load` reads, each whole or not at all.

        Raises:
            DataError: the folder cannot be written.
        """
        folder = Path(save_directory)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        write_bytes(folder / "model.safetensors", safetensors.torch.save(weights))
        write_bytes(folder / "config.json", (json.dumps(self.config, indent=2) + "\n").encode())
