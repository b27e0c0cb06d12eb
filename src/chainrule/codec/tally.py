"""What became of the content of an archive: how much each coder has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.codec import varints
from chainrule.codec.container import Known
from chainrule.codec.members import Array, Kept, Member
from chainrule.codec.picture_coding import MODEL, NAMES
from chainrule.codec.picture_table import read_table
from chainrule.errors import CodecError


def images_of(member: Member) -> int:
    """Events or pictures of a member."""
    return 0 if isinstance(member, Kept) else member.count


class Tally:
    """Counts and bytes by coder."""

    def __init__(self) -> None:
        self._rows: dict[str | int, list[int]] = {}
        self.entries = self.bytes = 0
        self.with_model = self.without_model = 0

    def add(self, member: Member, count: int, payload: bytes) -> None:
        """A chunk."""
        self.bytes += len(payload)
        if isinstance(member, Kept):
            self._row("as they are", count, len(payload))
        elif isinstance(member, Array) and not member.pixels:
            try:
                (number,), _ = varints.take(payload, 1, 0)
            except ValueError:
                raise CodecError("the archive is damaged: it names no model") from None
            self._row(number, count, len(payload))
            self.entries += count * member.dims
            self.with_model += count
        else:
            records, _, batches = read_table(payload, count)
            for record in records:
                by_model = record.coder >= MODEL
                name = record.coder - MODEL if by_model else NAMES.get(record.coder, "?")
                self._row(name, 1, len(record.payload))
                self.entries += record.raster.pixels * record.raster.channels if record.raster else 0
                self.with_model += by_model
                self.without_model += not by_model
            for number, batch in enumerate(batches, 1):
                coder = next(record.coder for record in records if record.batch == number)
                self._row(coder - MODEL, 0, len(batch.words))

    def _row(self, name: str | int, count: int, size: int) -> None:
        row = self._rows.setdefault(name, [0, 0])
        row[0] += count
        row[1] += size

    def named(self, models: Sequence[Known]) -> dict[str, dict[str, Any]]:
        """By coder: how many, and their bytes; a model is called by its class and the start of its fingerprint."""
        found = {}
        for name, (count, size) in sorted(self._rows.items(), key=lambda row: -row[1][1]):
            if isinstance(name, int):
                if name >= len(models):
                    raise CodecError("the archive is damaged: it names a model that it does not have")
                label = f"{models[name].model} {models[name].fingerprint[:8]}"
            else:
                label = name
            found[label] = {"count": count, "bytes": size}
        return found
