"""Where content comes from: pictures, folders, .npy, .npz, IDX, pickles, a dataset's name, standard input."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule import data
from chainrule.atomic import as_path
from chainrule.codec import names
from chainrule.codec.arrays_in import array_member, events_are_smaller, kept_is_smaller, pixels_member
from chainrule.codec.chunks import Coded, encode_events, encode_piece, pieces_of
from chainrule.codec.event_coding import CHUNK, most_events
from chainrule.codec.members import Array, Kept, Member, Pictures, files_of
from chainrule.codec.model_blocks import Packing
from chainrule.codec.picture_chunks import encode_pictures, in_chunks, prepared
from chainrule.codec.picture_files import ARRAY, ARRAY_WITH_AXIS, PictureFile, read_file
from chainrule.codec.pool import Pool
from chainrule.codec.raster import of_array as raster_of
from chainrule.data.arrays import read_arrays
from chainrule.data.images import batches_of
from chainrule.data.listing import NAMED, SUFFIXES, list_folder
from chainrule.data.reading import mapped, reading
from chainrule.errors import DataError

KEPT_TYPES = "biufcSU"
"""NumPy's kinds of types that can be kept as they are."""


@dataclass
class Source:
    """One member of an archive to be, and what it holds: an array, perhaps on disk, arrays, or paths of pictures."""

    member: Member
    array: Any = None
    paths: Sequence[Path] = ()
    model: int = 0  # of an array of events, its place in the list

    def chunks(self, packing: Packing, pool: Pool, most: int | None) -> Iterator[Coded]:
        """Its chunks, of at most so many events or pictures.

        Raises:
            DataError: something cannot be read, or is not what it was a moment ago.
        """
        member = self.member
        if isinstance(member, Kept):
            yield from pool.ahead(encode_piece, pieces_of(self.array))
        elif isinstance(member, Array) and not member.pixels:
            model = packing.models[self.model]
            step = most_events(model.sized(*member.shape[1:]) if model.any_size else model, most)
            for start in range(0, member.count, step):
                block = member.events(np.asarray(self.array[start : start + step]))
                yield encode_events(packing, self.model, np.ascontiguousarray(block))
        else:
            models = packing.models
            items = pool.ahead(lambda thing: prepared(_picture(thing), models), self._things())
            for part in in_chunks(items, min(most or CHUNK, CHUNK)):
                yield encode_pictures(part, packing, pool.map)

    def _things(self) -> Iterator[Any]:
        """Paths, or arrays (H, W, C) or (H, W)."""
        if isinstance(self.member, Pictures):
            yield from self.paths
        elif isinstance(self.member, Array):
            for image in [self.array] if self.member.single else self.array:
                yield self.member.events(np.asarray(image)[None])[0].transpose(1, 2, 0)
        else:
            yield from self.array


def _picture(thing: Any) -> PictureFile:
    """A path or an array as a picture."""
    if isinstance(thing, Path):
        return read_file(thing)
    with_axis = thing.ndim == 3 and thing.shape[2] == 1
    return PictureFile(b"", raster_of(thing), ARRAY_WITH_AXIS if with_axis else ARRAY)


def open_sources(
    given: Sequence[str | Path], models: Sequence[Any], pool: Pool, skip: bool = False, named: bool = True
) -> tuple[list[Source], list[str]]:
    """All that was named, in order, and sentences about what was left out of it.

    Args:
        given: paths of pictures, of folders of pictures, of .npy, .npz, IDX or pickle files; a dataset's name, whose
            test split is meant; "-" for an .npy on standard input.
        models: exact models that may code it.
        pool: reads pictures.
        skip: leave out pictures that cannot be packed.
        named: whether somebody named the models: then every array that fits one is coded by it.

    Raises:
        DataError: something is missing, is not what it seems, or has a name that another system would not take.
    """
    sources: list[Source] = []
    notes: list[str] = []
    pictures: list[tuple[str, Path]] = []
    for name in given:
        path = as_path(name)
        with reading(path):
            is_folder = path.is_dir()
        if str(name) == "-":
            sources += of_array(_stdin(), models, "stdin.npy", "", "standard input", notes, named)
        elif str(name) in data.NAMES:
            x = data.from_name(str(name)).test
            array = data.to_nhwc(x) if x.ndim == 4 else x.numpy()
            sources += of_array(array, models, f"{name}-test.npy", "", str(name), notes, named)
        elif is_folder:
            prefix = "" if len(given) == 1 else f"{path.resolve().name}/"
            listing = list_folder(path)
            files = [] if listing.pictures else [file for split in batches_of(path).values() for file in split]
            if files:
                others = sorted({file.name for file in path.iterdir()} - {file.name for file in files})
                listing.left_out = {"no array of the set": others} if others else {}
            if listing.note:
                notes.append(f"{path}: {listing.note}")
            for file in files:
                sources += _arrays(file, models, notes, named)
            if not listing.pictures and not files:
                raise DataError(f"the folder {path} holds no pictures ({', '.join(SUFFIXES)}): name one that does")
            pictures += [(prefix + file.relative_to(path).as_posix(), file) for file in listing.pictures]
        elif path.suffix.lower() in SUFFIXES:
            with reading(path):
                path.stat()
            pictures.append((path.name, path))
        else:
            sources += _arrays(path, models, notes, named)
    if pictures:
        kept = _packable(pictures, pool, skip, notes)
        sources.append(Source(Pictures([name for name, _ in kept]), None, [path for _, path in kept]))
    if problem := names.problem(files_of([source.member for source in sources])):
        raise DataError(f"an archive cannot hold these files: the name {problem}: rename a file")
    return sources, notes


def _packable(named: list[tuple[str, Path]], pool: Pool, skip: bool, notes: list[str]) -> list[tuple[str, Path]]:
    """The pictures that can be packed; one sentence about all others, an error or a note."""
    reasons = list(pool.ahead(_refusal, (path for _, path in named)))
    refused = [(name, reason) for (name, _), reason in zip(named, reasons, strict=True) if reason]
    if not refused:
        return named
    if len(refused) == 1 and not skip:
        raise DataError(refused[0][1])
    paths = dict(named)
    short = [f"{name} {reason.removeprefix(f'{paths[name]} ').rpartition(': ')[0]}" for name, reason in refused[:NAMED]]
    more = f", and {len(refused) - NAMED:,} more" if len(refused) > NAMED else ""
    listed = f"({', '.join(short)}{more})"
    kept = [pair for pair, reason in zip(named, reasons, strict=True) if not reason]
    if not skip or not kept:
        raise DataError(
            f"{len(refused):,} of {len(named):,} pictures cannot be packed {listed}: convert or remove them"
            + ", or pass --skip" * bool(kept)
        )
    notes.append(f"Left out: {len(refused):,} of {len(named):,} pictures {listed}.")
    return kept


def _refusal(path: Path) -> str:
    """Why a picture cannot be packed; nothing if it can."""
    try:
        read_file(path)
    except DataError as error:
        return str(error)
    return ""


def _arrays(path: Path, models: Sequence[Any], notes: list[str], named: bool) -> list[Source]:
    """The arrays of a file; IDX files come back as .npy, pickles as .npy or .npz."""
    kind, arrays = read_arrays(path)
    name = {"idx": f"{path.name}.npy", "pickle": f"{path.name}.{'npy' if '' in arrays else 'npz'}"}.get(kind, path.name)
    sources = []
    for key, array in arrays.items():
        if key and not names.is_safe(key):
            raise DataError(f"{path} holds an array called {key!r}: rename it")
        sources += of_array(array, models, name, key, str(path), notes, named)
    return sources


def of_array(
    array: np.ndarray, models: Sequence[Any], name: str, key: str, what: str, notes: list[str], named: bool
) -> list[Source]:
    """An array as what codes it best: pictures, events of a model, or as it is; a model that was named comes first."""
    pixels, reason = pixels_member(array, name, key), ""
    for place, model in enumerate(models):
        if not named and (pixels is not None or not array.size):
            break
        try:
            member = array_member(array, model, name, key, what)
        except DataError as error:
            reason = reason or str(error)
            continue
        if named or events_are_smaller(array, model):
            return [Source(member, array, model=place)]
    what = f"{what} ({key})" if key else what
    if array.dtype.kind not in KEPT_TYPES:
        raise DataError(f"{what} holds {array.dtype} values: convert it to an array of numbers or words")
    if reason and named and array.ndim > 1:
        notes.append(f"{what} was packed without a model ({reason}).")
    if pixels is not None and not kept_is_smaller(array, pixels, models):
        return [Source(pixels, array)]
    return [Source(Kept(name, key, array.dtype.str, list(array.shape)), array)]


def _stdin() -> np.ndarray:
    """The array on standard input, by way of a file without a name, so that it need not be in memory."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(sys.stdin.buffer, file)
    file.seek(0)
    return mapped(file, "standard input")
