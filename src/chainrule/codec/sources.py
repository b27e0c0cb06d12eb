"""Where events come from: pictures, folders of them, .npy, .npz, IDX, pickles, a dataset's name, standard input."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from chainrule import data
from chainrule.atomic import as_path
from chainrule.codec import names
from chainrule.codec.members import (
    MOST_KEPT,
    Array,
    Images,
    Kept,
    Mapping,
    Member,
    distinct,
    files_of,
    stored_values,
    to_levels,
)
from chainrule.data.arrays import read_arrays
from chainrule.data.levels import listed
from chainrule.data.listing import SUFFIXES, list_folder
from chainrule.data.pictures import is_lossless
from chainrule.data.reading import mapped, reading
from chainrule.errors import DataError
from chainrule.models import AutoregressiveModel

BLOCK = 64


@dataclass
class Source:
    """One member of an archive to be, and what it holds: an array, perhaps on disk, or paths of pictures."""

    member: Member
    array: np.ndarray | None = None
    paths: Sequence[Path] = ()

    def blocks(self, model: AutoregressiveModel) -> Iterator[np.ndarray]:
        """Its events, levels (n, *shape), few at a time.

        Raises:
            DataError: something does not fit the model.
        """
        if isinstance(self.member, Array):
            assert self.array is not None
            yield from array_blocks(self.array, self.member, model, BLOCK)
        for start in range(0, len(self.paths), BLOCK):
            yield np.stack([read_picture(path, model) for path in self.paths[start : start + BLOCK]])


def open_sources(given: Sequence[str | Path], model: AutoregressiveModel) -> tuple[list[Source], list[str]]:
    """All that was named, in order, and sentences about what was left out of it.

    Args:
        given: paths of pictures, of folders of pictures, of .npy, .npz, IDX or pickle files; a dataset's name, whose
            test split is meant; "-" for an .npy on standard input.
        model: what the events are for.

    Raises:
        DataError: something is missing, is not what it seems, does not fit the model, or has a name that another
            system would not take.
    """
    sources: list[Source] = []
    notes: list[str] = []
    named: list[tuple[str, Path]] = []
    for name in given:
        path = as_path(name)
        with reading(path):
            is_folder = path.is_dir()
        if str(name) == "-":
            array = _stdin()
            sources.append(Source(array_member(array, model, "stdin.npy"), array))
        elif str(name) in data.NAMES:
            x = data.from_name(str(name)).test
            array = data.to_nhwc(x) if x.ndim == 4 else x.numpy()
            sources.append(Source(array_member(array, model, f"{name}-test.npy"), array))
        elif is_folder:
            prefix = "" if len(given) == 1 else f"{path.resolve().name}/"
            listing = list_folder(path)
            if listing.note:
                notes.append(f"{path}: {listing.note}")
            if not listing.pictures:
                raise DataError(f"the folder {path} holds no pictures ({', '.join(SUFFIXES)}): name one that does")
            named += [(prefix + file.relative_to(path).as_posix(), file) for file in listing.pictures]
        elif path.suffix.lower() in SUFFIXES:
            with reading(path):
                path.stat()
            named.append((path.name, path))
        else:
            sources += _arrays(path, model)
    if named:
        if len(model.shape) != 3 or model.shape[0] not in (1, 3) or model.levels > 256:
            raise DataError("this model is not for pictures: give it arrays")
        kept = _kept_names([name for name, _ in named])
        sources.append(Source(Images(kept, picture_mapping(model)), None, [path for _, path in named]))
    if problem := names.problem(files_of([source.member for source in sources])):
        raise DataError(f"an archive cannot hold these files: the name {problem}: rename a file")
    return sources, notes


def _arrays(path: Path, model: AutoregressiveModel) -> list[Source]:
    """The arrays of a file: those that are events, and small ones beside them, such as labels, as they are.

    IDX files come back as .npy, pickles as .npy or .npz.
    """
    kind, arrays = read_arrays(path)
    name = {"idx": f"{path.name}.npy", "pickle": f"{path.name}.{'npy' if '' in arrays else 'npz'}"}.get(kind, path.name)
    sources, odd = [], None
    for key, array in arrays.items():
        if key and not names.is_safe(key):
            raise DataError(f"{path} holds an array called {key!r}: rename it")
        try:
            sources.append(Source(array_member(array, model, name, key, str(path)), array))
        except DataError as error:
            if not key or array.ndim > 1 or array.dtype.kind not in "biufSU" or array.nbytes > MOST_KEPT:
                raise
            odd = error
            sources.append(Source(Kept.of(name, key, array)))
    if odd is not None and all(isinstance(source.member, Kept) for source in sources):
        raise odd
    return sources


def _kept_names(given: list[str]) -> list[str]:
    """The names that pictures come back under: those of a lossy format as .png, since their pixels could not."""
    wanted = [name if is_lossless(name) else str(PurePosixPath(name).with_suffix(".png")) for name in given]
    often = Counter(map(names.folded, wanted))
    return [
        name if is_lossless(name) else want if often[names.folded(want)] == 1 else f"{name}.png"
        for name, want in zip(given, wanted, strict=True)
    ]


def _stdin() -> np.ndarray:
    """The array on standard input, by way of a file without a name, so that it need not be in memory."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(sys.stdin.buffer, file)
    file.seek(0)
    return mapped(file, "standard input")


# ---------------------------------------------------------------------------------------------------------- the values


def picture_mapping(model: AutoregressiveModel) -> Mapping:
    """How the pictures of a model are stored."""
    return "scaled" if model.pixel_values is None else list(model.pixel_values)


def read_picture(path: Path, model: AutoregressiveModel) -> np.ndarray:
    """One picture as an event, exactly.

    Raises:
        DataError: it has another size, or a value that no level has.
    """
    picture, shape = data.read_pixels(path), model.shape
    values = picture.pixels[..., :1] if shape[0] == 1 and picture.shows_gray else picture.pixels
    wanted = (*shape[1:], shape[0])
    if values.shape != wanted:
        found, fits = f"{values.shape[1]}×{values.shape[0]}×{values.shape[2]}", f"{shape[2]}×{shape[1]}×{shape[0]}"
        raise DataError(f"{path} is {found} (width × height × channels): the model takes {fits}, so convert it")
    try:
        return to_levels(values.transpose(2, 0, 1), picture_mapping(model), model.levels)
    except DataError as error:
        raise DataError(f"{path} cannot be stored losslessly: {error}") from None


def array_member(
    array: np.ndarray, model: AutoregressiveModel, name: str = "", key: str = "", what: str = "the array"
) -> Array:
    """Describe an array for a model: (N, H, W, C), (N, H, W) or (N, C·H·W) of images, or (N, *shape).

    Args:
        name: its file's in the archive; "" for none.
        key: its name inside of an .npz file.
        what: it is, as the subject of an error's sentence.

    Raises:
        DataError: it does not fit the model.
    """
    what, shape = f"{what} ({key})" if key else what, tuple(model.shape)
    if array.dtype.kind not in "ui":
        raise DataError(f"{what} holds {array.dtype} values: convert it to integers")
    layouts = {(*shape[1:], shape[0]): "NHWC", (int(np.prod(shape)),): "flat"} if len(shape) == 3 else {shape: "events"}
    if len(shape) == 3 and shape[0] == 1:
        layouts[shape[1:]] = "NHW"
    if array.ndim < 1 or array.shape[1:] not in layouts:
        text = ", ".join(map(str, next(iter(layouts))))
        raise DataError(f"{what} has shape {array.shape}: this model takes (N, {text})")
    values = _mapping(what, array, model.levels, model.pixel_values)
    return Array(name, key, len(array), array.dtype.str, layouts[array.shape[1:]], values)


def _mapping(what: str, array: np.ndarray, levels: int, pixel_values: Sequence[int] | None) -> Mapping:
    """Which mapping all values of an array fit, piece by piece, so that it need not be in memory."""
    possible: list[Mapping] = ["levels", "scaled"] if levels <= 256 else ["levels"]
    if pixel_values is not None:
        possible.append(list(pixel_values))
    step = max(1, 2**24 // max(array[:1].size, 1))
    for start in range(0, len(array), step):
        values = distinct(array[start : start + step])
        for mapping in list(possible):
            unknown = np.setdiff1d(values, stored_values(mapping, levels))
            if len(unknown):
                possible.remove(mapping)
                odd = unknown[0]
        if not possible:
            grid = " or on the grid v · 255 // (levels - 1)" if levels <= 256 else ""
            grid += f" or its pixel values ({listed(pixel_values)})" if pixel_values is not None else ""
            raise DataError(
                f"{what} holds the value {odd}, for which the model has no level: values must be levels from 0 to "
                f"{levels - 1}{grid}; nothing is rounded"
            )
    return possible[0]


def array_blocks(array: np.ndarray, member: Array, model: AutoregressiveModel, size: int) -> Iterator[np.ndarray]:
    """An array's events in blocks of up to `size`: levels (n, *shape), uint8 or int32."""
    for start in range(0, len(array), size):
        yield member.events(np.asarray(array[start : start + size]), model.shape, model.levels)
