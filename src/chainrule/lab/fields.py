"""What there is to choose about a model: its constructor's arguments, as a dataclass that a command line can read."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, make_dataclass
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import docstring_parser

from chainrule.errors import ModelError
from chainrule.models import REGISTRY

SETTLED = ("shape", "levels")
"""Arguments that the data settle."""


@dataclass(frozen=True)
class ModelFields:
    """The chosen arguments of one model class; `fields_of` makes a subclass for each."""

    of: ClassVar[str]
    """The model's class, a name in `REGISTRY`."""

    def build(self, shape: tuple[int, ...], levels: int) -> Any:
        """The model for events of this shape, with random weights.

        Raises:
            ModelError: the model is not one of such events, or the arguments make none.

        Example:
            >>> fields_of("MADE")(hidden=(8,)).build((3,), 4).shape
            (3,)
        """
        cls, given, shape = REGISTRY[self.of], asdict(self), tuple(shape)
        hint = get_type_hints(cls.__init__).get("shape")
        if hint is not None:
            given["shape"] = shape
            if get_origin(hint) is tuple and Ellipsis not in get_args(hint) and len(get_args(hint)) != len(shape):
                raise ModelError(f"{self.of} models images, this data has events of shape {shape}: use recipe 2d-made")
        model: Any = cls(levels=levels, **given)
        if model.shape != shape:
            raise ModelError(
                f"{self.of} models events of shape {model.shape}, this data has {shape}: choose another recipe"
            )
        return model


@functools.cache
def fields_of(name: str) -> type[ModelFields]:
    """The dataclass of a model class's arguments, with their types, defaults and descriptions.

    Example:
        >>> fields_of("PixelCNN")(filters=64)
        PixelCNNFields(filters=64, blocks=12, layer_norm=True)
    """
    cls = REGISTRY[name]
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    hints, texts = get_type_hints(cls.__init__), argument_texts(cls)
    chosen = [parameter for parameter in parameters if parameter.name not in SETTLED]
    members = [(p.name, as_tuple(hints[p.name]), field(default=p.default)) for p in chosen]
    told = "".join(f"\n    {p.name}: {texts.get(p.name, '')}" for p in chosen)
    namespace = {"of": name, "__doc__": f"Arguments of {name}.\n\nArgs:{told}\n", "__module__": __name__}
    return make_dataclass(f"{name}Fields", members, bases=(ModelFields,), namespace=namespace, frozen=True)


def as_tuple(hint: Any) -> Any:
    """A sequence as a tuple of any length: arguments must be hashable and stay what they are."""
    return tuple[get_args(hint)[0], ...] if get_origin(hint) is Sequence else hint  # type: ignore[misc]


def argument_texts(cls: type) -> dict[str, str]:
    """What the Args sections of a class and of its own bases say of each argument.

    >>> argument_texts(REGISTRY["GatedPixelCNN"])["blocks"].startswith("Gated blocks")
    True
    """
    texts = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("chainrule.") and base.__doc__:
            for parameter in docstring_parser.parse(base.__doc__).params:
                text = " ".join((parameter.description or "").split())
                for name in parameter.arg_name.split(", "):
                    if not (text.startswith("as for") and name in texts):
                        texts[name] = text[:1].upper() + text[1:]
    return texts
