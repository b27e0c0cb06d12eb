"""The models of an archive: which ones code it while it is written, and where they come from when it is read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from chainrule import zoo
from chainrule.codec.container import CRC, MODEL, Known, Reader, Writer, account_of
from chainrule.codec.embedding import model_bytes, model_from
from chainrule.codec.values import Mapping
from chainrule.errors import CodecError
from chainrule.fixedpoint import ARITHMETIC_VERSION, exact, fingerprint, probe
from chainrule.models import AutoregressiveModel

Place = Callable[[AutoregressiveModel], AutoregressiveModel]

SHIPPED = {3: "photo", 1: "photo-gray"}
"""The shipped models that code pictures if none is named, by number of channels."""


@functools.cache
def usual_models() -> tuple[AutoregressiveModel, ...]:
    """The models that are tried if none is named, exact; made once."""
    there = zoo.shipped()
    return tuple(exact(zoo.load(name)) for name in SHIPPED.values() if name in there)


def as_list(models: Any) -> list[Any]:
    """One model, several, or None, as a list."""
    return [] if models is None else list(models) if isinstance(models, list | tuple) else [models]


def picture_mapping(model: AutoregressiveModel) -> Mapping:
    """How the bytes of pictures map to levels of a model."""
    return "scaled" if model.pixel_values is None else list(model.pixel_values)


def known_of(model: AutoregressiveModel) -> Known:
    """What an exact model is known by."""
    return Known(
        ARITHMETIC_VERSION,
        fingerprint(model).hex(),
        probe(model).hex(),
        type(model).__name__,
        list(model.shape),
        model.levels,
    )


class Packing:
    """The models that an archive may use while it is written; one enters it when it is first needed.

    Args:
        models: float or exact.
        writer: of the archive.
        embed: whether the models' files enter, too.
        named: whether somebody named them; the usual models must save more than it costs to name them.
    """

    def __init__(self, models: Iterable[AutoregressiveModel], writer: Writer, embed: bool, named: bool) -> None:
        self.models, self.writer, self.embed, self.named = [exact(model) for model in models], writer, embed, named
        self._numbers: dict[int, int] = {}
        self._known: dict[int, Known] = {}
        self.used: list[Known] = []

    def known(self, place: int) -> Known:
        """What the model at a place of the list is known by; its probe takes a while, and is made once an archive."""
        if place not in self._known:
            self._known[place] = known_of(self.models[place])
        return self._known[place]

    def price(self, place: int) -> int:
        """Bytes that the model at a place of the list must save before it is used."""
        if self.named or place in self._numbers:
            return 0
        inside = model_bytes(self.models[place]) if self.embed else (b"", b"")
        return MODEL.size + CRC.size + len(account_of(self.known(place))) + sum(map(len, inside))

    def number(self, place: int) -> int:
        """The number in the archive of the model at a place of the list."""
        if place not in self._numbers:
            model = self.models[place]
            inside = model_bytes(model) if self.embed else None
            self.used.append(self.known(place))
            self._numbers[place] = self.writer.model(self.used[-1], inside)
        return self._numbers[place]


class Unpacking:
    """The models of an archive while it is read: those given, those inside, and the shipped ones.

    Args:
        reader: of the archive.
        given: models, float or exact.
        place: moves an exact model to where it is to compute.
    """

    def __init__(self, reader: Reader, given: Sequence[Any], place: Place | None = None) -> None:
        self.reader, self.place = reader, place
        self.given = [exact(model) for model in given]
        self._found: dict[int, AutoregressiveModel] = {}

    def __getitem__(self, number: int) -> AutoregressiveModel:
        """The exact model with this number.

        Raises:
            CodecError: there is none, it is another one, or its arithmetic is not what it was.
        """
        if number not in self._found:
            if number >= len(self.reader.models):
                raise CodecError("the archive is damaged: it names a model that it does not have")
            self._found[number] = self._find(*self.reader.models[number])
        return self._found[number]

    def _find(self, known: Known, inside: tuple[bytes, bytes] | None) -> AutoregressiveModel:
        if known.arithmetic != ARITHMETIC_VERSION:
            raise CodecError(
                f"the archive was made with exact arithmetic {known.arithmetic}, this program has "
                f"{ARITHMETIC_VERSION}: use the version of chainrule that made it"
            )
        for model in self.given:
            if fits(model, known):
                return self._proved(model, known)
        if inside is not None and not self.given:
            model = exact(model_from(*inside, known))
            if fits(model, known):
                return self._proved(model, known)
        elif not self.given:
            for folder in set(zoo.shipped().values()):
                config = zoo.read_config(folder)
                if config.get("class") == known.model:
                    model = exact(zoo.load(folder))
                    if fits(model, known):
                        return self._proved(model, known)
            raise CodecError(f"the archive holds no model: give the {known.model} that packed it (-m MODEL)")
        raise CodecError(
            f"the archive was made with another model (a {known.model}, fingerprint {known.fingerprint[:12]}): "
            f"give that one"
        )

    def _proved(self, model: AutoregressiveModel, known: Known) -> AutoregressiveModel:
        model = model if self.place is None else self.place(model)
        if probe(model).hex() != known.probe:
            raise CodecError(
                "this machine's arithmetic gives other probabilities than the one that made the archive: stop"
            )
        return model


def fits(model: AutoregressiveModel, known: Known) -> bool:
    """Whether an exact model is the one that is known so."""
    same = (list(model.shape), model.levels) == (known.shape, known.levels)
    return same and fingerprint(model).hex() == known.fingerprint
