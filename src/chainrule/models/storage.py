"""How a model is kept: its class's name, the arguments that made it, and its weights."""

from __future__ import annotations

import functools
import inspect
import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from chainrule import hub, model_card
from chainrule.atomic import write_bytes
from chainrule.models import checking


class StoredModel(nn.Module):
    """A module that remembers the arguments of its constructor, and how it was trained, if that is known."""

    record: model_card.Record | None = None
    """Of the run that trained it: `cr.load` finds it."""

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

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model.safetensors and config.json into a folder that `cr.load` reads, each whole or not at all.

        A model that was loaded from a run, or from a folder with a record, writes that as well: a model card
        (README.md), the figures and settings of its training (training.json) and the picture of its samples, if there
        is one. A model whose weights have changed since writes none of these.

        Raises:
            DataError: the folder cannot be written.
        """
        folder = Path(folder)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        write_bytes(folder / "model.safetensors", safetensors.torch.save(weights))
        write_bytes(folder / "config.json", (json.dumps(self.config, indent=2) + "\n").encode())
        if (record := model_card.record_of(self)) is not None:
            for name, content in record.files().items():
                write_bytes(folder / name, content)
            write_bytes(folder / model_card.CARD, model_card.card_of(self, folder.name).encode())

    def push_to_hub(self, name: str, card: str | None = None, private: bool = False, licence: str | None = None) -> str:
        """Publish the model on the Hugging Face Hub, where `cr.load(name)` finds it; needs `hf auth login` once.

        Args:
            name: the repository, `user/name`; it is made if it does not exist.
            card: the model card, in Markdown; without one, it is made from the record of the run that the model was
                loaded from: figures, data, training, samples, limits.
            private: whether only its owner sees a repository that is made.
            licence: its identifier on the Hub, such as "mit" or "cc-by-4.0", for the card.

        Returns:
            The repository's address.

        Raises:
            ModelError: the Hub refuses it, or cannot be reached.
        """
        return hub.push(self, name, card, private, licence)
