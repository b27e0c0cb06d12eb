"""Arrays in memory to bytes and back."""

from __future__ import annotations

import io
from os import PathLike
from typing import Any

import numpy as np
from torch import Tensor, nn

from chainrule.codec.arrays_in import array_member
from chainrule.codec.chunks import decode_chunk
from chainrule.codec.container import Reader, Writer
from chainrule.codec.members import Array, Kept, Loose, Member
from chainrule.codec.model_blocks import Packing, Unpacking, as_list, picture_mapping, usual_models
from chainrule.codec.pool import Pool
from chainrule.codec.raster import MOST_PIXELS
from chainrule.codec.sources import Source, of_array
from chainrule.codec.values import distinct, stored_values
from chainrule.data.levels import listed
from chainrule.errors import CodecError, DataError
from chainrule.fixedpoint import exact

BYTES = (bytes, bytearray, memoryview)
FEW_LEVELS = 16
"""Pictures whose values all lie below the levels of such a model seem to be levels."""


def compress(first: Any, second: Any = None, *, embed_model: bool = False, chunk: int | None = None) -> bytes:
    """Compress images, losslessly, into a `.crz` archive: `compress(images)` or `compress(model, images)`.

    Args:
        first, second: images, and perhaps a model (or several, in a list), in either order. Images are an array of
            integers (N, H, W, C), or (N, H, W) for one channel, or a list of uint8 arrays (H, W, C) or (H, W) of mixed
            sizes. For a model an array holds levels, or 8-bit pixels on the levels' grid, v · 255 // (levels - 1), or
            the model's `pixel_values`; other events are (N, *shape). A list holds pixels, and a picture of it that
            has values off the grid, or another shape, is left to a usual codec.
        embed_model: put the model in, so that the archive explains itself.
        chunk: images that are coded together, at most 2,000.

    Returns:
        The archive. What no model codes is left to a usual codec (lossless WebP, PNG's, or xz).

    Raises:
        DataError: an array does not fit the model, or holds values that it has no level for, or a list holds a model's
            levels in the place of pixels; nothing is ever rounded.
        ModelError: the model has no exact form.

    Example:
        >>> import chainrule as cr, numpy as np
        >>> images = np.random.default_rng(0).integers(0, 4, (10, 5, 5, 1), dtype=np.uint8)
        >>> model = cr.PixelCNN((1, 5, 5), 4, filters=8, blocks=1)
        >>> bool((decompress(model, compress(model, images)) == images).all())
        True
        >>> back = decompress(compress([images[0], images[1, :3]]))
        >>> [picture.shape for picture in back]
        [(5, 5, 1), (3, 5, 1)]
    """
    images, given = (second, first) if _is_model(first) else (first, second)
    if images is None:
        raise DataError("there is nothing to compress: give an array, or a list of arrays")
    if isinstance(images, (*BYTES, str, PathLike)):
        raise DataError(
            f"compress takes arrays, not a {type(images).__name__}: files are for chainrule.codec.compress_files, "
            "and a model is given as cr.load(name)"
        )
    if chunk is not None and chunk < 1:
        raise CodecError(f"chunks of {chunk} images hold nothing: use at least 1")
    if not all(isinstance(model, nn.Module) for model in as_list(given)):
        raise DataError(f"the model is a {type(given).__name__}: load it first, by cr.load(name)")
    models = [exact(model) for model in (usual_models() if given is None else as_list(given))]
    loose = isinstance(images, list | tuple)
    if loose:
        pictures = [_checked(image) for image in images]
        if given is not None:
            _refuse_levels(pictures, models)
        source = Source(Loose(len(images)), pictures)
    else:
        array = np.asarray(images.cpu() if isinstance(images, Tensor) else images)
        if given is None:
            (source,) = of_array(array, models, "", "", "the array", [], named=False)
        else:
            source = _of_models(array, models)
    stream = io.BytesIO()
    members: list[Member] = [source.member]
    writer = Writer(stream, members)
    with Pool() as pool:
        for part in source.chunks(Packing(models, writer, embed_model, given is not None), pool, chunk):
            writer.chunk(*part)
    writer.end()
    return stream.getvalue()


def decompress(first: Any, second: Any = None) -> Any:
    """The array, or the list of arrays, that `compress` was given: `decompress(blob)` or `decompress(model, blob)`.

    Args:
        first, second: an archive of one array or list, and perhaps the model that compressed it (or several, in a
            list), in either order. What holds files is for `decompress_file`.

    Returns:
        Arrays of the same shapes and types.

    Raises:
        CodecError: the archive is damaged, of another model or version, or there is none; nothing is returned then.
    """
    blob, models = (first, second) if isinstance(first, BYTES) else (second, first)
    if not isinstance(blob, BYTES):
        kind = type(first if blob is None else blob).__name__
        raise CodecError(
            f"decompress takes an archive's bytes, not a {kind}: files are for chainrule.codec.decompress_file"
        )
    if not all(isinstance(model, nn.Module) for model in as_list(models)):
        raise CodecError(f"the model is a {type(models).__name__}: load it first, by cr.load(name)")
    reader = Reader(io.BytesIO(bytes(blob)))
    (member,) = reader.members if len(reader.members) == 1 else [None]
    if not isinstance(member, Array | Loose | Kept) or (not isinstance(member, Loose) and member.key):
        raise CodecError("the archive holds files, not one array: use chainrule.codec.decompress_file")
    unpacking, parts = Unpacking(reader, as_list(models)), []
    with Pool() as pool:
        while (chunk := reader.next()) is not None:
            parts.append(decode_chunk(chunk, unpacking, pool.map))
    if isinstance(member, Loose):
        return [picture.array() for part in parts for picture in part if not isinstance(picture, int)]
    raw = b"".join(part for part in parts if isinstance(part, bytes))
    return np.frombuffer(bytearray(raw), member.dtype).reshape(member.whole_shape)


def _is_model(thing: Any) -> bool:
    several = isinstance(thing, list | tuple)
    return isinstance(thing, nn.Module) or (several and bool(thing) and all(isinstance(m, nn.Module) for m in thing))


def _of_models(array: np.ndarray, models: list[Any]) -> Source:
    """An array as events of the first model that it fits.

    Raises:
        DataError: it fits none; the first one's reason.
    """
    reasons = []
    for place, model in enumerate(models):
        try:
            return Source(array_member(array, model), array, model=place)
        except DataError as error:
            reasons.append(error)
    raise reasons[0]


def _refuse_levels(pictures: list[np.ndarray], models: list[Any]) -> None:
    """Raise `DataError` for pictures that seem to be levels: of a model's shape and values, and not those of pixels.

    Models of many levels are not asked, since dark pictures have values below these.
    """
    seen = np.unique(np.concatenate([distinct(picture) for picture in pictures])) if pictures else np.zeros(1, int)
    for model in models:
        stored = stored_values(picture_mapping(model), model.levels)
        same = all(
            model.takes((1, *p.shape) if p.ndim == 2 else (p.shape[2], *p.shape[:2]), model.levels) for p in pictures
        )
        if not same or model.levels > FEW_LEVELS or int(seen[-1]) >= model.levels or np.isin(seen, stored).all():
            return
    raise DataError(
        f"the list holds levels from {seen[0]} to {seen[-1]}, but a list holds pixels, for this model "
        f"{listed(stored.tolist())}: give levels as one array (N, H, W, C)"
    )


def _checked(image: Any) -> np.ndarray:
    """A picture of a list.

    Raises:
        DataError: it is not one.
    """
    try:
        array = np.asarray(image.cpu() if isinstance(image, Tensor) else image)
    except ValueError:
        raise DataError("a picture of the list has rows of unequal length: give uint8 arrays (H, W, C)") from None
    fine = array.ndim == 2 or (array.ndim == 3 and 1 <= array.shape[2] <= 4)
    if array.dtype != np.uint8 or not fine or not 0 < array.shape[0] * array.shape[1] <= MOST_PIXELS:
        raise DataError(
            f"a picture of the list has shape {array.shape} and type {array.dtype}: give uint8 arrays (H, W) or "
            f"(H, W, C) with up to 4 channels"
        )
    return array
