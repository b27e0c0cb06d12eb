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
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from chainrule import codec
from chainrule.data import Dataset, to_nhwc
from chainrule.errors import CodecError, DataError, ModelError
from chainrule.evaluation import bits_per_dim
from chainrule.fixedpoint import exact, fingerprint
from chainrule.lab.bench.measuring import clocked
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
    images, exact_model = to_nhwc(x), exact(model)
    seconds: dict[str, list[float]] = {}
    sizes = {"": 0, "single_image_": 0}
    for _ in range(repeats):
        for name, part in (("", images), ("single_image_", images[:1])):
            packing, blob = clocked(partial(codec.compress, exact_model, part))
            unpacking, back = clocked(partial(codec.decompress, exact_model, blob))
            if not np.array_equal(back, part):
                raise CodecError("the decompressed images differ from what went in: please report this")
            seconds.setdefault(f"{name}compress_seconds", []).append(packing)
            seconds.setdefault(f"{name}decompress_seconds", []).append(unpacking)
            sizes[name] = len(blob)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    figures: dict[str, Any] = {
        "benchmark": "codec",
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "fingerprint": fingerprint(exact_model).hex(),
        "repeats": repeats,
        "data": dataset.name,
        "levels": dataset.levels,
        "images": len(x),
        "raw_bytes": images.nbytes,
        "threads": torch.get_num_threads(),
        "device": str(model.device),
        "model_bits_per_dim": None if model is exact_model else bits_per_dim(model, x),
        "exact_bits_per_dim": bits_per_dim(exact_model, x),
        "file_bytes": sizes[""],
        "file_bits_per_dim": 8 * sizes[""] / x.numel(),
        "single_image_bytes": sizes["single_image_"],
        **median,
        **{f"{way}_images_per_second": len(x) / median[f"{way}_seconds"] for way in ("compress", "decompress")},
        **{
            f"{way}_megabytes_per_second": images.nbytes / median[f"{way}_seconds"] / 1e6
            for way in ("compress", "decompress")
        },
        "others": list(usual_codecs(images)),
    }
    if figures["others"]:
        best = min(figures["others"], key=lambda row: row["bytes"])
        figures["best_other"] = best["codec"]
        figures["times_smaller_than_best_other"] = best["bytes"] / sizes[""]
    shown = x[:PICTURES]
    with torch.no_grad():
        bits = -exact_model.site_log_probs(shown).sum(1).double().cpu().numpy() / math.log(2)
    return figures, {"heat_images": shown.numpy(), "heat_bits": bits}


def usual_codecs(images: np.ndarray) -> Iterator[dict[str, Any]]:
    """PNG, WebP, JPEG XL on one mosaic; xz, zstd, brotli on one stream of bytes; images (N, H, W, C), uint8 or int16.

    Values above 255 take two bytes each, and WebP does not know them; the image codecs are for 1 and 3 channels.
    Without imagecodecs only xz, which Python has, is left.

    Raises:
        CodecError: one of them did not give back what it was given.
    """
    stream = np.ascontiguousarray(images, np.uint8 if images.dtype == np.uint8 else np.uint16)
    raw, xz = stream.tobytes(), lzma.PRESET_EXTREME | 9
    tries: list[tuple[str, Any, Code, Code]] = [("xz -9e", raw, lambda v: lzma.compress(v, preset=xz), lzma.decompress)]
    with contextlib.suppress(ImportError):
        ic: Any = importlib.import_module("imagecodecs")
        tries.append(("zstd -19", raw, lambda v: ic.zstd_encode(v, level=19), ic.zstd_decode))
        tries.append(("brotli -11", raw, lambda v: ic.brotli_encode(v, level=11), ic.brotli_decode))
        if (channels := stream.shape[-1]) in (1, 3):
            sheet = mosaic(stream) if channels == 3 else mosaic(stream)[..., 0]
            tries.append(("PNG", sheet, lambda v: ic.png_encode(v, level=9), ic.png_decode))
            if channels == 3 and stream.itemsize == 1 and max(sheet.shape) <= 16383:
                tries.append(("WebP", sheet, lambda v: ic.webp_encode(v, lossless=True), ic.webp_decode))
            tries.append(("JPEG XL", sheet, lambda v: ic.jpegxl_encode(v, lossless=True, effort=7), ic.jpegxl_decode))
    for name, content, encode, decode in tries:
        encoding, packed = clocked(partial(encode, content))
        decoding, back = clocked(partial(decode, packed))
        same = back == content if isinstance(content, bytes) else np.array_equal(back, content)
        if not same:
            raise CodecError(f"{name} did not give back what it was given: it cannot be compared")
        yield {
            "codec": name,
            "bytes": len(packed),
            "bits_per_dim": 8 * len(packed) / stream.size,
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
