"""A model inside an archive: its config.json and its safetensors, read with the suspicion that any file deserves."""

from __future__ import annotations

import json
import math
from typing import Any

import safetensors.torch

from chainrule import zoo
from chainrule.codec.container import Known
from chainrule.errors import ChainruleError, CodecError
from chainrule.models import AutoregressiveModel

MOST_ENTRIES, MOST_TABLE = 2**20, 2**26
"""Entries of an event, and frequencies of one, that an embedded model may have: it may be a stranger's."""


def model_bytes(model: AutoregressiveModel) -> tuple[bytes, bytes]:
    """An exact model as the two files of its folder."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return json.dumps(model.config, sort_keys=True).encode(), safetensors.torch.save(tensors)


def model_from(config_bytes: bytes, weights_bytes: bytes, known: Known) -> AutoregressiveModel:
    """The exact model inside an archive.

    Raises:
        CodecError: it is damaged, or claims sizes that its weights do not have.
    """
    what = "the archive's embedded model"
    try:
        config: dict[str, Any] = json.loads(config_bytes)
        weights = safetensors.torch.load(weights_bytes)
        dims = math.prod(side for side in known.shape if side is not None)
        sizes = dims <= MOST_ENTRIES and dims * known.levels <= MOST_TABLE
        if not sizes or not config.get("exact") or config.get("class") != known.model:
            raise CodecError(f"{what} is not one that the archive can be of: the file is damaged")
        model = zoo.assemble(config, weights, what, what)
        if (model.shape, model.levels) != (tuple(known.shape), known.levels):
            raise CodecError(f"{what} is for other images than the archive's")
        return model
    except CodecError:
        raise
    except ChainruleError as error:
        raise CodecError(str(error)) from None
    # a stranger's configuration can fail in any way that the constructors of models can
    except Exception as error:
        raise CodecError(f"{what} cannot be read ({type(error).__name__}): the file is damaged") from None
