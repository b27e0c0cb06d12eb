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

from chainrule.atomic import as_path, replacing, temporary
from chainrule.codec.chunks import decode_chunk, pieces_of
from chainrule.codec.container import Reader, Writer
from chainrule.codec.inspection import archive_input
from chainrule.codec.members import Array, Kept, Pictures
from chainrule.codec.model_blocks import Packing, Unpacking, as_list, usual_models
from chainrule.codec.picture_files import read_file
from chainrule.codec.pool import Pool
from chainrule.codec.sinks import Folder, Standard
from chainrule.codec.sources import Source, open_sources
from chainrule.codec.tally import Tally, images_of
from chainrule.data.reading import read_npy
from chainrule.errors import CodecError, DataError
from chainrule.fixedpoint import exact
from chainrule.models import AutoregressiveModel

Progress = Callable[[int, int], None]
"""Called as `progress(images done, images in all)` after each chunk."""


def compress_files(
    given: str | Path | Sequence[str | Path],
    models: Any = None,
    out: str | Path = "-",
    *,
    embed_model: bool = False,
    verify: bool = False,
    skip: bool = False,
    overwrite: bool = False,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compress files into a `.crz` archive, written under a temporary name and renamed.

    Every picture is coded by the first of the models that suits it, unless a usual codec makes less of it. It comes
    back under its name, in its format, with the same pixels and the same palette; what cannot be written back so (a
    JPEG's pixels, say) is stored as the file's bytes.

    Args:
        given: pictures, folders of pictures, .npy, .npz, IDX or pickle files, a dataset's name (its test split), "-"
            for an .npy on standard input, or several of them. Pictures of a folder keep their path below it; IDX files
            come back as .npy, pickles as .npy or .npz.
        models: float or exact; one, several, or None for those that ship with the package.
        out: the archive; "-" for standard output.
        embed_model: put the exact models in.
        verify: unpack the whole archive to files again and compare them, before it gets its name.
        skip: leave out pictures that cannot be packed (damaged ones), rather than refuse them all.
        overwrite: replace a file that is there already; never one that is compressed.
        chunk: events or pictures that are coded together.
        progress: told of each chunk.

    Returns:
        A dictionary of `images`, `bytes`, `coders` (what became of pictures and arrays, each {count, bytes}),
        `bits_per_dim` of all that models could code, `models` (fingerprints of those used) and `notes` (sentences about
        what was left out).

    Raises:
        DataError: something cannot be read, or `out` is in use; nothing is left behind.
    """
    names = [given] if isinstance(given, str | Path) else list(given)
    _check_output(out, names, overwrite)
    if chunk is not None and chunk < 1:
        raise CodecError(f"chunks of {chunk} images hold nothing: use at least 1")
    chosen = [exact(model) for model in (usual_models() if models is None else as_list(models))]
    with Pool() as pool:
        sources, notes = open_sources(names, chosen, pool, skip, named=models is not None)
        members = [source.member for source in sources]
        total, tally = sum(map(images_of, members)), Tally()
        with _output(out, verify) as (stream, path):
            writer = Writer(stream, members)
            packing = Packing(chosen, writer, embed_model, models is not None)
            done = 0
            for source in sources:
                for count, digest, payload in source.chunks(packing, pool, chunk):
                    writer.chunk(count, digest, payload)
                    tally.add(source.member, count, payload)
                    done += count if images_of(source.member) else 0
                    if progress is not None:
                        progress(done, total)
            writer.end()
            if path is not None and verify:
                stream.flush()
                _verify(path, sources, chosen, progress)
    if models is not None and tally.without_model and not tally.with_model:
        notes.append("The models coded none of the pictures: they suit none, or usual codecs make less of them.")
    return {
        "images": total,
        "bytes": writer.size,
        "bits_per_dim": 8 * writer.size / tally.entries if tally.entries else 0.0,
        "coders": tally.named(packing.used),
        "models": [known.fingerprint for known in packing.used],
        "notes": notes,
    }


def decompress_file(
    archive: str | Path,
    out: str | Path,
    models: Any = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    place: Callable[[AutoregressiveModel], AutoregressiveModel] | None = None,
) -> list[Path]:
    """Unpack a `.crz` archive into a folder; files appear only when all of it has been decoded and verified.

    Args:
        archive: its path; "-" for standard input.
        out: the folder; "-" writes the .npy of an archive of one array to standard output, chunk by verified chunk.
        models: those that compressed it, float or exact, one or several; None for an archive that holds its models, or
            needs none or shipped ones.
        overwrite: replace files that are there already.
        progress: told of each chunk.
        place: moves an exact model to where it is to compute; by default it stays where it is.

    Returns:
        The files written.

    Raises:
        CodecError: the archive is damaged, of another model or version, or names files outside of the folder.
        DataError: a file is in the way, or cannot be written.
    """
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(archive_input(archive))
        pool = stack.enter_context(Pool())
        reader = Reader(stream)
        try:
            if str(out) == "-":
                sink: Standard | Folder = Standard(reader.members)
            else:
                folder = as_path(out)
                part = stack.enter_context(temporary(_nearest(folder)))  # on the same disk: files are renamed
                sink = Folder(part, folder, reader.members, overwrite, pool.map)
            unpacking = Unpacking(reader, as_list(models), place)
            done, total = 0, sum(map(images_of, reader.members))
            while (chunk := reader.next()) is not None:
                sink.add(chunk, decode_chunk(chunk, unpacking, pool.map))
                done += chunk.count if images_of(chunk.member) else 0
                if progress is not None:
                    progress(done, total)
            return sink.finish()
        except OSError as error:
            raise DataError(f"{out} cannot be written ({error.strerror or error}): choose another place") from None


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


def _verify(archive: Path, sources: list[Source], models: list[Any], progress: Progress | None) -> None:
    """Unpack an archive into files beside it, and compare each with what it was made of."""
    with temporary(archive.parent) as folder:
        decompress_file(archive, folder, models, progress=progress)
        for source in sources:
            member, name = source.member, ""
            if isinstance(member, Pictures):
                same = True
                for name, path in zip(member.names, source.paths, strict=True):
                    same = same and read_file(folder / name).same(read_file(path))
            elif isinstance(member, Array | Kept):
                name = member.name
                back = np.load(folder / name)[member.key] if member.key else read_npy(folder / name)
                array = source.array
                same = back.dtype.str == array.dtype.str and back.shape == array.shape and _equal(back, array)
            if not same:
                raise CodecError(f"{name} would not come back as it was: nothing was written")


def _equal(back: np.ndarray, array: np.ndarray) -> bool:
    """Whether two arrays hold the same bits (a NaN does not equal itself)."""
    return all(a == b for a, b in zip(pieces_of(back), pieces_of(array), strict=True))


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
