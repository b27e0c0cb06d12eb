"""A model inside an archive: its config.json and its safetensors, read with the suspicion that any file deserves."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from chainrule import zoo
from chainrule.codec.container import Header
from chainrule.errors import ChainruleError, CodecError
from chainrule.models import AutoregressiveModel

MOST_ENTRIES, MOST_TABLE = 2**20, 2**26
"""Entries of an event, and frequencies of one, that an embedded model may have: it may be a stranger's."""


def model_bytes(model: AutoregressiveModel) -> tuple[bytes, bytes]:
    """An exact model as the two files of its folder."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return json.dumps(model.config, sort_keys=True).encode(), safetensors.torch.save(tensors)


def model_from(config_bytes: bytes, weights_bytes: bytes, header: Header) -> AutoregressiveModel:
    """The exact model inside an archive.

    Raises:
        CodecError: it is damaged, or claims sizes that its weights do not have.
    """
    try:
        config: dict[str, Any] = json.loads(config_bytes)
        weights = safetensors.torch.load(weights_bytes)
        held = sum(tensor.numel() for tensor in weights.values())
        sizes = header.dims <= MOST_ENTRIES and header.dims * header.levels <= MOST_TABLE
        if not sizes or not config.get("exact") or least_weights(config, header) > held:
            raise CodecError("the archive's embedded model claims sizes that it does not have: the file is damaged")
        return zoo.assemble(config, weights, "the archive's embedded model", "the archive's embedded model")
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise CodecError("the archive's embedded model cannot be read: the file is damaged") from None
    except CodecError:
        raise
    except ChainruleError as error:
        raise CodecError(str(error)) from None


def least_weights(config: dict[str, Any], header: Header) -> int:
    """A lower bound, up to a small factor, of the weights that a model of this configuration allocates."""
    numbers = {
        key: value for key, value in config.items() if key in ("filters", "blocks", "classes", "hidden", "embedding")
    }
    flat = [n for value in numbers.values() for n in (value if isinstance(value, list | tuple) else [value])]
    if any(type(number) is not int or number < 0 for number in flat):
        raise CodecError("the archive's embedded model claims sizes that it does not have: the file is damaged")
    shape = tuple(config.get("shape", header.shape))
    if (shape, config.get("levels")) != (header.shape, header.levels):
        raise CodecError("the archive's embedded model is for other images than the archive's")
    if str(config.get("class")).startswith("GatedPixelCNN"):
        filters, blocks = config.get("filters", 128), config.get("blocks", 12)
        return blocks * filters * (21 * filters + 4 * config.get("classes", 0)) // 2 + filters**2
    if "filters" in config or str(config.get("class")).startswith("PixelCNN"):
        filters, blocks = config.get("filters", 128), config.get("blocks", 12)
        return filters**2 + blocks * filters * (filters // 2)
    hidden = list(config.get("hidden", ()))
    widest = sum(below * above for below, above in pairwise(hidden))
    ends = header.levels * math.prod(header.shape) if config.get("class") == "MADE" else header.levels
    return widest + ((hidden[0] + hidden[-1]) * ends // 2 if hidden else ends)
