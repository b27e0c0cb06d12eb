"""Arrays as members of an archive: of events of a model, or of pictures."""

from __future__ import annotations

import lzma
import math
from collections.abc import Sequence

import numpy as np
import torch

from chainrule.codec.event_coding import Encoding, too_large
from chainrule.codec.members import Array
from chainrule.codec.picture_coding import of_raster
from chainrule.codec.raster import MOST_PIXELS, of_array
from chainrule.codec.values import mapping_of, stored_values
from chainrule.errors import DataError
from chainrule.models import AutoregressiveModel

TRIED, TRIED_ENTRIES, PACKED_BYTES = 64, 2**20, 2**22
"""Events of an array that are tried, their entries, and bytes of them and others that xz has at once, which repeat."""
TRIED_SIDE = 512
"""Rows and columns of a picture that are tried."""
LEAST_PIXELS, MANY, LONGEST = 2**10, 256, 16
"""An array of many smaller pictures is none here, as each takes its time; nor is one 16 times as long as it is wide."""


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
    if model.any_size:
        if array.ndim not in (3, 4) or min(array.shape[1:3]) < 1 or (array.ndim == 3 and shape[0] > 1):
            alone = ": give one picture as array[None]" if array.shape[2:] == (shape[0],) else ""
            raise DataError(f"{what} has shape {array.shape}: this model takes (N, H, W, {shape[0]}){alone}")
        shape = (shape[0], *array.shape[1:3])
        if too_large(model.sized(*shape[1:])):
            raise DataError(
                f"{what} holds images of {shape[2]}×{shape[1]} pixels, too large for the model: cut them up"
            )
    layouts = {(*shape[1:], shape[0]): "NHWC", (int(np.prod(shape)),): "flat"} if len(shape) == 3 else {shape: "events"}
    if len(shape) == 3 and shape[0] == 1:
        layouts[shape[1:]] = "NHW"
    if array.ndim < 1 or array.shape[1:] not in layouts:
        text = ", ".join(map(str, next(iter(layouts))))
        alone = ": give one event as array[None]" if array.shape in layouts else ""
        raise DataError(f"{what} has shape {array.shape}: this model takes (N, {text}){alone}")
    values = mapping_of(what, array, model.levels, model.pixel_values)
    most = int(stored_values(values, model.levels)[-1])
    if most > np.iinfo(array.dtype).max:
        raise DataError(f"{what} holds {array.dtype} values, which cannot be as large as {most}: convert it to uint8")
    return Array(name, key, len(array), array.dtype.str, layouts[array.shape[1:]], list(shape), model.levels, values)


def pixels_member(array: np.ndarray, name: str = "", key: str = "") -> Array | None:
    """Describe an array of 8-bit images, (N, H, W, C) with C from 1 to 4 or (N, H, W); None if it is something else.

    One picture may be (H, W, C) or (H, W). Tables and many tiny pictures are something else, too.
    """
    if array.dtype != np.uint8 or 0 in array.shape or array.ndim not in (2, 3, 4):
        return None
    single = array.ndim == 2 or (array.ndim == 3 and array.shape[2] <= 4)
    layout = {2: "HW", 3: "HWC" if single else "NHW", 4: "NHWC"}[array.ndim]
    count, *sides = (1, *array.shape) if single else array.shape
    height, width, channels = (*sides, 1)[:3]
    if channels > 4 or height * width > MOST_PIXELS:
        return None
    is_table = single and max(height, width) > LONGEST * min(height, width)
    are_tiny = count > MANY and height * width < LEAST_PIXELS
    if is_table or are_tiny:
        return None
    return Array(name, key, count, "|u1", layout, [channels, height, width], 256, "pixels")


def kept_is_smaller(array: np.ndarray, pixels: Array, models: Sequence[AutoregressiveModel]) -> bool:
    """Whether xz makes less of some of the images than picture codecs, one by one, and these models."""
    some, packed = _some(array[None] if pixels.single else array)
    if packed >= sum(len(of_raster(of_array(image))[1]) for image in some):
        return False
    return all(packed < _cost(some, model) for model in models)


def events_are_smaller(array: np.ndarray, model: AutoregressiveModel) -> bool:
    """Whether a model makes less of some of the events than xz does."""
    some, packed = _some(array)
    return _cost(some, model) < packed


def _some(array: np.ndarray) -> tuple[np.ndarray, float]:
    """A few events, of large pictures a part, and the bytes that xz takes for them among others."""
    array = array[:, :TRIED_SIDE, :TRIED_SIDE] if array.ndim in (3, 4) else array
    size = max(array[:1].size, 1)
    some = np.ascontiguousarray(array[: max(1, min(TRIED, TRIED_ENTRIES // size))])
    among = np.ascontiguousarray(array[: max(len(some), PACKED_BYTES // (size * array.itemsize))])
    return some, len(lzma.compress(among.tobytes(), preset=6)) * len(some) / len(among)


def _cost(some: np.ndarray, model: AutoregressiveModel) -> float:
    """The bytes that a model takes for events; infinite if it does not take them."""
    try:
        member = array_member(some, model)
    except DataError:
        return math.inf
    sized = model.sized(*member.shape[1:]) if model.any_size else model
    return float(Encoding(sized, torch.from_numpy(np.ascontiguousarray(member.events(some)))).bits().sum()) / 8
