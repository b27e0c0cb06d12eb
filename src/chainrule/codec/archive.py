"""Files to an archive and back, as streams: memory does not grow with the number of images."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch

from chainrule.atomic import as_path, replacing
from chainrule.codec import pixels
from chainrule.codec.chunks import chunk_events, decode_chunk, encode_chunk, in_chunks, make_header, model_for
from chainrule.codec.container import Chunk, Reader, Writer
from chainrule.codec.embedding import model_bytes
from chainrule.codec.sinks import Folder, Standard
from chainrule.codec.sources import open_sources
from chainrule.data.reading import reading
from chainrule.errors import CodecError, DataError
from chainrule.fixedpoint import exact
from chainrule.models import AutoregressiveModel

Progress = Callable[[int, int], None]
"""Called as `progress(images done, images in all)` after each chunk."""


def compress_files(
    given: str | Path | Sequence[str | Path],
    model: AutoregressiveModel,
    out: str | Path,
    *,
    embed_model: bool = False,
    verify: bool = False,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compress files into a `.crz` archive, written under a temporary name and renamed.

    Args:
        given: pictures, folders of pictures, .npy, .npz, IDX or pickle files, a dataset's name (its test split), "-"
            for an .npy on standard input, or several of them. Pictures of a folder keep their path below it; those of
            a lossy format come back as .png, IDX files as .npy, pickles as .npy or .npz.
        model: float or exact.
        out: the archive; "-" for standard output.
        embed_model: put the exact model in.
        verify: decode every chunk and compare, before the archive gets its name.
        chunk: images that are coded together.
        progress: told of each chunk.

    Returns:
        images, bytes, bits_per_dim, and the model's fingerprint.

    Raises:
        DataError: something cannot be read, or does not fit the model; nothing is left behind.
    """
    twin = exact(model)
    size = chunk_events(twin, chunk)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chainrule-")))
        sources = open_sources(given, twin, scratch)
        total = sum(source.count for source in sources)
        header = make_header(twin, [source.member for source in sources], total, embed_model)
        pixels.checked_members(header)  # what we write, we must be able to read
        stream = stack.enter_context(_output(out))
        writer = Writer(stream, header, model_bytes(twin) if embed_model else None)
        blocks = (block for source in sources for block in source.blocks(twin))
        for block in in_chunks(blocks, size):
            count, digest, payload = encode_chunk(twin, torch.from_numpy(block))
            if verify:
                decode_chunk(twin, Chunk(count, digest, payload))
            writer.chunk(count, digest, payload)
            if progress is not None:
                progress(writer.events, total)
        writer.end()
    bits = 8 * writer.size / (total * twin.dims) if total else 0.0
    return {"images": total, "bytes": writer.size, "bits_per_dim": bits, "fingerprint": header.fingerprint.hex()}


def decompress_file(
    archive: str | Path,
    out: str | Path,
    model: AutoregressiveModel | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    place: Callable[[AutoregressiveModel], AutoregressiveModel] | None = None,
) -> list[Path]:
    """Unpack a `.crz` archive into a folder; files appear only when all of it has been decoded and verified.

    Args:
        archive: its path; "-" for standard input.
        out: the folder; "-" writes the .npy of an archive of one array to standard output, chunk by verified chunk.
        model: the model that compressed it, float or exact; None for an archive that holds its model.
        overwrite: replace files that are there already.
        progress: told of each chunk.
        place: moves the exact model to where it shall compute; by default it stays where it is.

    Returns:
        The files written.

    Raises:
        CodecError: the archive is damaged, of another model or version, or names files outside of the folder.
        DataError: a file is in the way, or cannot be written.
    """
    with _input(archive) as stream:
        reader = Reader(stream)
        members = pixels.checked_members(reader.header)
        if str(out) == "-":
            sink: Standard | Folder = Standard(members, reader.header.levels)
            folder = None
        else:
            folder = as_path(out)
            sink = Folder(_beside(folder), folder, members, reader.header, overwrite)
        try:
            twin = model_for(reader, model, place)
            while (chunk := reader.next()) is not None:
                sink.add(decode_chunk(twin, chunk).numpy())
                if progress is not None:
                    progress(reader.events, reader.header.count)
            return sink.finish()
        except OSError as error:
            raise DataError(f"{out} cannot be written ({error.strerror or error}): choose another place") from None
        finally:
            sink.close()


def info(archive: str | Path) -> dict[str, Any]:
    """What is in an archive, found without the model; all checksums are looked at.

    Raises:
        CodecError: the archive is damaged.
    """
    with _input(archive) as stream:
        reader = Reader(stream)
        members = pixels.checked_members(reader.header)
        payload = 0
        while (chunk := reader.next()) is not None:
            payload += len(chunk.payload)
    header = reader.header
    files = [name for m in members for name in (m["names"] if m["kind"] == "images" else [m["name"] or "(an array)"])]
    return {
        "images": header.count,
        "shape": header.shape,
        "levels": header.levels,
        "bytes": reader.size,
        "payload_bytes": payload,
        "bits_per_dim": 8 * reader.size / (header.count * header.dims) if header.count else 0.0,
        "chunks": reader.chunks,
        "model": header.model,
        "fingerprint": header.fingerprint.hex(),
        "embedded_model_bytes": sum(map(len, reader.model)) if reader.model else 0,
        "arithmetic": header.arithmetic,
        "files": list(dict.fromkeys(files)),
    }


@contextlib.contextmanager
def _output(out: str | Path) -> Iterator[BinaryIO]:
    if str(out) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with replacing(out) as temporary, open(temporary, "wb") as file:
        yield file


@contextlib.contextmanager
def _input(archive: str | Path) -> Iterator[BinaryIO]:
    if str(archive) == "-":
        yield sys.stdin.buffer
        return
    path = as_path(archive)
    with reading(path):
        file = path.open("rb")
    try:
        with file:
            yield file
    except IsADirectoryError:
        raise CodecError(f"{path} is a folder: name the archive") from None


def _beside(folder: Path) -> Path:
    """A new folder beside `folder` (on the same disk, so that files can be renamed into it)."""
    name = f".{folder.resolve().name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    temporary = folder.resolve().parent / name
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror or error}): choose another place") from None
    return temporary
