"""What is in an archive, said without decoding it, and without PyTorch, which takes seconds to import."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from chainrule.atomic import as_path
from chainrule.codec.container import Reader
from chainrule.codec.members import files_of
from chainrule.codec.tally import Tally, images_of
from chainrule.data.reading import opened
from chainrule.errors import CodecError


def info(archive: str | Path) -> dict[str, Any]:
    """What is in an archive, found without a model; all checksums are looked at.

    Raises:
        CodecError: the archive is damaged.
    """
    tally = Tally()
    with archive_input(archive) as stream:
        reader = Reader(stream)
        while (chunk := reader.next()) is not None:
            tally.add(chunk.member, chunk.count, chunk.payload)
    return {
        "images": sum(map(images_of, reader.members)),
        "bytes": reader.size,
        "payload_bytes": tally.bytes,
        "bits_per_dim": 8 * reader.size / tally.entries if tally.entries else 0.0,
        "chunks": reader.chunks,
        "coders": tally.named([known for known, _ in reader.models]),
        "models": [
            {
                "model": known.model,
                "shape": known.shape,
                "levels": known.levels,
                "fingerprint": known.fingerprint,
                "arithmetic": known.arithmetic,
                "embedded_bytes": sum(map(len, inside)) if inside else 0,
            }
            for known, inside in reader.models
        ],
        "files": [name or "(an array)" for name in files_of(reader.members)],
    }


@contextlib.contextmanager
def archive_input(archive: str | Path) -> Iterator[BinaryIO]:
    """An archive, open for reading; "-" is standard input.

    Raises:
        CodecError: it is a folder.
        DataError: it cannot be opened.
    """
    if str(archive) == "-":
        yield sys.stdin.buffer
        return
    path = as_path(archive)
    if path.is_dir():
        raise CodecError(f"{path} is a folder: name the archive")
    with opened(path) as file:
        yield file
