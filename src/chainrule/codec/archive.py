"""Files to an archive and back, as streams: memory does not grow with the number of images."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from chainrule.atomic import as_path, replacing, temporary
from chainrule.codec.chunks import chunk_events, decode_chunk, encode_chunk, in_chunks, make_header, model_for
from chainrule.codec.container import Reader, Writer
from chainrule.codec.embedding import model_bytes
from chainrule.codec.members import Array, Images, files_of
from chainrule.codec.sinks import Folder, Standard
from chainrule.codec.sources import Source, open_sources, read_picture
from chainrule.data.reading import opened, read_npy
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
    overwrite: bool = False,
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
        verify: unpack the whole archive to files again and compare them, before it gets its name.
        overwrite: replace a file that is there already; never one that is compressed.
        chunk: images that are coded together.
        progress: told of each chunk.

    Returns:
        images, bytes, bits_per_dim, the model's fingerprint, and notes: sentences about what was left out.

    Raises:
        DataError: something cannot be read, or does not fit the model, or `out` is in use; nothing is left behind.
    """
    names = [given] if isinstance(given, str | Path) else list(given)
    _check_output(out, names, overwrite)
    twin = exact(model)
    size = chunk_events(twin, chunk)
    sources, notes = open_sources(names, twin)
    total = sum(source.member.count for source in sources)
    header = make_header(twin, [source.member for source in sources], embed_model)
    with _output(out, verify) as (stream, path):
        writer = Writer(stream, header, model_bytes(twin) if embed_model else None)
        blocks = (block for source in sources for block in source.blocks(twin))
        for block in in_chunks(blocks, size):
            writer.chunk(*encode_chunk(twin, torch.from_numpy(block)))
            if progress is not None:
                progress(writer.events, total)
        writer.end()
        if path is not None and verify:
            stream.flush()
            _verify(path, sources, twin, progress)
    bits = 8 * writer.size / (total * twin.dims) if total else 0.0
    found = {"images": total, "bytes": writer.size, "bits_per_dim": bits, "fingerprint": header.fingerprint}
    return {**found, "notes": notes}


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
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_input(archive))
        reader = Reader(stream)
        try:
            if str(out) == "-":
                sink: Standard | Folder = Standard(reader.header)
            else:
                folder = as_path(out)
                part = stack.enter_context(temporary(_nearest(folder)))  # on the same disk: files are renamed
                sink = stack.enter_context(contextlib.closing(Folder(part, folder, reader.header, overwrite)))
            twin = model_for(reader, model, place)
            while (chunk := reader.next()) is not None:
                sink.add(decode_chunk(twin, chunk).numpy())
                if progress is not None:
                    progress(reader.events, reader.header.count)
            return sink.finish()
        except OSError as error:
            raise DataError(f"{out} cannot be written ({error.strerror or error}): choose another place") from None


def info(archive: str | Path) -> dict[str, Any]:
    """What is in an archive, found without the model; all checksums are looked at.

    Raises:
        CodecError: the archive is damaged.
    """
    with _input(archive) as stream:
        reader = Reader(stream)
        payload = 0
        while (chunk := reader.next()) is not None:
            payload += len(chunk.payload)
    header = reader.header
    return {
        "images": header.count,
        "shape": tuple(header.shape),
        "levels": header.levels,
        "bytes": reader.size,
        "payload_bytes": payload,
        "bits_per_dim": 8 * reader.size / (header.count * header.dims) if header.count else 0.0,
        "chunks": reader.chunks,
        "model": header.model,
        "fingerprint": header.fingerprint,
        "embedded_model_bytes": sum(map(len, reader.model)) if reader.model else 0,
        "arithmetic": header.arithmetic,
        "files": [name or "(an array)" for name in files_of(header.members)],
    }


def _check_output(out: str | Path, given: Sequence[str | Path], overwrite: bool) -> None:
    """Refuse an archive that would take the place of what is compressed, or of another file."""
    path = as_path(out)
    if str(out) == "-" or not os.path.lexists(path):
        return
    if path.is_dir():
        raise DataError(f"{path} is a folder: name the archive itself")
    for name in given:
        if os.path.exists(as_path(name)) and os.path.exists(path) and os.path.samefile(as_path(name), path):
            raise DataError(f"{path} is what is to be compressed: give the archive another name")
    if path.is_file() and not overwrite:
        raise DataError(f"{path} is there already: move it away, or pass --overwrite")


def _verify(archive: Path, sources: list[Source], twin: AutoregressiveModel, progress: Progress | None) -> None:
    """Unpack an archive into files beside it, and compare each with what it was made of."""
    with temporary(archive.parent) as folder:
        decompress_file(archive, folder, twin, progress=progress)
        for source in sources:
            member, name = source.member, ""
            if isinstance(member, Images):
                pairs = zip(member.names, source.paths, strict=True)
                same = True
                for name, path in pairs:
                    same = same and np.array_equal(read_picture(folder / name, twin), read_picture(path, twin))
            else:
                name = member.name
                back = np.load(folder / name)[member.key] if member.key else read_npy(folder / name)
                array = source.array if isinstance(member, Array) else member.array()
                same = array is not None and back.dtype == array.dtype and np.array_equal(back, array)
            if not same:
                raise CodecError(f"{name} would not come back as it was: nothing was written")


@contextlib.contextmanager
def _output(out: str | Path, verify: bool) -> Iterator[tuple[BinaryIO, Path | None]]:
    """A stream to write the archive to, and the file that it is, if it is one."""
    if str(out) == "-":
        if not verify:
            yield sys.stdout.buffer, None
        else:
            with temporary(Path.cwd()) as part:
                with open(part, "wb") as file:
                    yield file, part
                with open(part, "rb") as file:
                    shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with replacing(out) as part, open(part, "wb") as file:
        yield file, part


@contextlib.contextmanager
def _input(archive: str | Path) -> Iterator[BinaryIO]:
    if str(archive) == "-":
        yield sys.stdin.buffer
        return
    path = as_path(archive)
    if path.is_dir():
        raise CodecError(f"{path} is a folder: name the archive")
    with opened(path) as file:
        yield file


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there.

    Raises:
        DataError: a file is in the way.
    """
    folder = folder.absolute()
    found = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not found.is_dir():
        raise DataError(f"{found} is no folder: choose another place")
    return found
