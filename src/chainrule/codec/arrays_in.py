"""Arrays as members of an archive: of events of a model, or of pictures."""

from __future__ import annotations

import lzma

import numpy as np

from chainrule.codec.event_coding import too_large
from chainrule.codec.members import Array
from chainrule.codec.picture_coding import of_raster
from chainrule.codec.raster import MOST_PIXELS, of_array
from chainrule.codec.values import mapping_of
from chainrule.errors import DataError
from chainrule.models import AutoregressiveModel

TRIED = 64
"""Images of an array that are tried, to see whether it is better kept as one stream of bytes."""


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
        if array.ndim not in (3, 4) or min(array.shape[1:3]) < 1:
            raise DataError(f"{what} has shape {array.shape}: this model takes (N, H, W, {shape[0]})")
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
        raise DataError(f"{what} has shape {array.shape}: this model takes (N, {text})")
    values = mapping_of(what, array, model.levels, model.pixel_values)
    return Array(name, key, len(array), array.dtype.str, layouts[array.shape[1:]], list(shape), model.levels, values)


def pixels_member(array: np.ndarray, name: str = "", key: str = "") -> Array | None:
    """Describe an array of 8-bit images, (N, H, W, C) with C from 1 to 4 or (N, H, W); None if it is something else."""
    image = array.ndim == 3 or (array.ndim == 4 and 1 <= array.shape[3] <= 4)
    if array.dtype != np.uint8 or not image or 0 in array.shape or array.shape[1] * array.shape[2] > MOST_PIXELS:
        return None
    channels = array.shape[3] if array.ndim == 4 else 1
    layout = "NHWC" if array.ndim == 4 else "NHW"
    return Array(name, key, len(array), "|u1", layout, [channels, *array.shape[1:3]], 256, "pixels")


def kept_is_smaller(array: np.ndarray) -> bool:
    """Whether xz makes some of the images smaller than picture codecs do one by one."""
    some = np.asarray(array[:TRIED])
    if some.nbytes > 2**24:
        return False
    packed = len(lzma.compress(some.tobytes(), preset=6))
    return packed < sum(len(of_raster(of_array(image))[1]) for image in some)
