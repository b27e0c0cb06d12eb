"""A dataset by the name that a command line gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from chainrule.atomic import as_path
from chainrule.data.colored import hopper_mnist
from chainrule.data.dataset import Dataset
from chainrule.data.images import load_images
from chainrule.data.reading import read_npy, reading
from chainrule.data.scikit import digits, photos
from chainrule.data.toy import load_joint, two_dimensional, warmup
from chainrule.errors import DataError

MAKERS: dict[str, Callable[[int], Dataset]] = {
    "warmup": lambda seed: warmup(),
    "portrait-2d": lambda seed: two_dimensional(seed=seed),
    "hopper-mnist": lambda seed: hopper_mnist(),
    "photos": lambda seed: photos(),
    "digits": lambda seed: digits(),
}
NAMES = tuple(MAKERS)
COMMON_WORDS = ("photos", "digits")  # which a folder of one's own may well be called


def from_name(
    name_or_path: str,
    *,
    seed: int = 0,
    levels: int | None = None,
    pixel_values: Sequence[int] | None = None,
    any_size: bool = False,
) -> Dataset:
    """A dataset by name (`NAMES`) or path; write ./warmup for a file of that name.

    A .npy file that holds a two-dimensional array of floats is a joint distribution, to be drawn from; any other path
    goes to `load_images`. `seed` draws the points of a joint distribution and the splits of your own images; the other
    sets are always the same. `levels`, `pixel_values` and `any_size` are for your own images.

    Raises:
        DataError: it is neither, or cannot be read.

    >>> from_name("warmup").levels
    100
    >>> from_name("cifar")
    Traceback (most recent call last):
    chainrule.errors.DataError: "cifar" is no dataset's name (warmup, portrait-2d, ... and no path: ...
    """
    path = as_path(name_or_path)
    if name_or_path in COMMON_WORDS and _exists(path):
        raise DataError(
            f"{path} is a path here and a dataset's name: write ./{path} for the path, or go elsewhere for the dataset"
        )
    if name_or_path in MAKERS:
        data = MAKERS[name_or_path](seed)
    elif not _exists(path):
        raise DataError(f'"{name_or_path}" is no dataset\'s name ({", ".join(NAMES)}) and no path: check its spelling')
    elif path.suffix == ".npy" and path.is_file() and _is_joint(path):
        data = two_dimensional(load_joint(path), name=path.stem, seed=seed)
    else:
        return load_images(path, levels=levels, seed=seed, pixel_values=pixel_values, any_size=any_size)
    if levels not in (None, data.levels):
        raise DataError(
            f"{data.name} has {data.levels} levels, not {levels}: levels are chosen for your own images only"
        )
    return data


def _exists(path: Path) -> bool:
    with reading(path):
        return path.exists()


def _is_joint(path: Path) -> bool:
    array = read_npy(path)
    return array.ndim == 2 and array.dtype.kind == "f"
