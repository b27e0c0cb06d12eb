"""What lossless compression with a model costs and saves, beside the usual codecs on the same pixels.

The usual codecs get every advantage: all images in one mosaic (image codecs) or one stream of bytes (byte compressors),
so that no header is counted twice, and high effort. They are timed once, ours by the median of a few runs.
"""

from __future__ import annotations

import contextlib
import importlib
import lzma
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from chainrule import codec
from chainrule.data import Dataset, to_nhwc
from chainrule.errors import CodecError, DataError, ModelError
from chainrule.evaluation import bits_per_dim
from chainrule.fixedpoint import exact, fingerprint
from chainrule.models import AutoregressiveModel

PICTURES = 8
"""Images whose bits are shown pixel by pixel."""

Code = Callable[[Any], Any]


def bench_codec(
    model: AutoregressiveModel, dataset: Dataset, n: int = 300, repeats: int = 1
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Compress the first `n` test images with a model and with the usual codecs, and back.

    Args:
        model: an image model, float or exact.
        dataset: of the model's shape and levels.
        n: images; all there are, if there are fewer.
        repeats: timed runs of our own codec, of which the median counts.

    Returns:
        (figures, arrays): bits/dim of the float model, the exact model and the file; seconds and images a second both
        ways; the cost of a single image; the same of the usual codecs in `others`. The arrays hold a few images and the
        bits that each of their pixels costs.

    Raises:
        ModelError: the model is not one of images.
        DataError: the data do not fit the model.
        CodecError: what came back differs from what went in, which would be a bug.
    """
    if len(model.shape) != 3:
        raise ModelError(f"the codec's benchmark is for images, this model has events of shape {model.shape}")
    if (tuple(dataset.shape), dataset.levels) != (model.shape, model.levels):
        raise DataError(f"{dataset.name} does not fit the model: choose data of shape {model.shape}")
    x = dataset.test[:n]
    images = to_nhwc(x)
    dims = x.numel()
    twin = exact(model)
    packing, unpacking, alone_packing, alone_unpacking = [], [], [], []
    blob, single = b"", b""
    for _ in range(repeats):
        seconds, blob = timed(codec.compress, twin, images)
        packing.append(seconds)
        seconds, back = timed(codec.decompress, twin, blob)
        unpacking.append(seconds)
        if not np.array_equal(back, images):
            raise CodecError("the decompressed images differ from what went in: please report this")
        seconds, single = timed(codec.compress, twin, images[:1])
        alone_packing.append(seconds)
        alone_unpacking.append(timed(codec.decompress, twin, single)[0])
    pack, unpack = statistics.median(packing), statistics.median(unpacking)
    figures: dict[str, Any] = {
        "benchmark": "codec",
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "fingerprint": fingerprint(twin).hex(),
        "repeats": repeats,
        "data": dataset.name,
        "levels": dataset.levels,
        "images": len(x),
        "raw_bytes": images.nbytes,
        "threads": torch.get_num_threads(),
        "device": str(model.device),
        "model_bits_per_dim": None if model is twin else bits_per_dim(model, x),
        "exact_bits_per_dim": bits_per_dim(twin, x),
        "file_bytes": len(blob),
        "file_bits_per_dim": 8 * len(blob) / dims,
        "compress_seconds": pack,
        "decompress_seconds": unpack,
        "compress_images_per_second": len(x) / pack,
        "decompress_images_per_second": len(x) / unpack,
        "compress_megabytes_per_second": images.nbytes / pack / 1e6,
        "decompress_megabytes_per_second": images.nbytes / unpack / 1e6,
        "single_image_bytes": len(single),
        "single_image_compress_seconds": statistics.median(alone_packing),
        "single_image_decompress_seconds": statistics.median(alone_unpacking),
        "others": list(usual_codecs(images)),
    }
    if figures["others"]:
        best = min(figures["others"], key=lambda row: row["bytes"])
        figures["best_other"] = best["codec"]
        figures["times_smaller_than_best_other"] = best["bytes"] / len(blob)
    shown = x[:PICTURES]
    with torch.no_grad():
        bits = -twin.site_log_probs(shown).sum(1).double().cpu().numpy() / math.log(2)
    return figures, {"heat_images": shown.numpy(), "heat_bits": bits}


def usual_codecs(images: np.ndarray) -> Iterator[dict[str, Any]]:
    """PNG, WebP, JPEG XL on one mosaic; xz, zstd, brotli on one stream of bytes; images (N, H, W, C), uint8 or int16.

    Values above 255 take two bytes each, and WebP does not know them; the image codecs are for 1 and 3 channels.
    Without imagecodecs only xz, which Python has, is left.
    """
    stream = np.ascontiguousarray(images, np.uint8 if images.dtype == np.uint8 else np.uint16)
    dims = stream.size
    tries: list[tuple[str, Any, Code, Code]] = []
    xz = lzma.PRESET_EXTREME | 9
    tries.append(("xz -9e", stream.tobytes(), lambda v: lzma.compress(v, preset=xz), lzma.decompress))
    ic: Any = None
    with contextlib.suppress(ImportError):
        ic = importlib.import_module("imagecodecs")
    if ic is not None:
        raw = stream.tobytes()
        tries.append(("zstd -19", raw, lambda v: ic.zstd_encode(v, level=19), ic.zstd_decode))
        tries.append(("brotli -11", raw, lambda v: ic.brotli_encode(v, level=11), ic.brotli_decode))
    if ic is not None and stream.shape[-1] in (1, 3):
        sheet = mosaic(stream)
        if sheet.shape[-1] == 1:
            sheet = sheet[..., 0]
        tries.append(("PNG", sheet, lambda v: ic.png_encode(v, level=9), ic.png_decode))
        if stream.shape[-1] == 3 and stream.itemsize == 1 and max(sheet.shape) <= 16383:
            tries.append(("WebP", sheet, lambda v: ic.webp_encode(v, lossless=True), ic.webp_decode))
        tries.append(("JPEG XL", sheet, lambda v: ic.jpegxl_encode(v, lossless=True, effort=7), ic.jpegxl_decode))
    for name, content, encode, decode in tries:
        encoding, packed = timed(encode, content)
        decoding, back = timed(decode, packed)
        same = back == content if isinstance(content, bytes) else np.array_equal(back, content)
        if not same:
            raise CodecError(f"{name} did not give back what it was given: it cannot be compared")
        yield {
            "codec": name,
            "bytes": len(packed),
            "bits_per_dim": 8 * len(packed) / dims,
            "compress_seconds": encoding,
            "decompress_seconds": decoding,
        }


def mosaic(images: np.ndarray) -> np.ndarray:
    """(N, H, W, C) → one nearly square picture of them all, its last places filled with zeros.

    >>> mosaic(np.ones((3, 2, 2, 1), np.uint8)).shape
    (4, 4, 1)
    """
    n, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    padded = np.zeros((rows * columns, height, width, channels), images.dtype)
    padded[:n] = images
    grid = padded.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, channels)


def timed(action: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    """(seconds, result) of `action(*args)`."""
    began = time.perf_counter()
    result = action(*args)
    return time.perf_counter() - began, result
