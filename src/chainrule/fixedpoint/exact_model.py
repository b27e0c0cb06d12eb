"""`exact(model)`: the same model in whole numbers, with the same bits on every machine."""

from __future__ import annotations

from typing import Any

from chainrule.errors import ModelError
from chainrule.fixedpoint.calibration import calibrate
from chainrule.fixedpoint.conversion import convert, refuse, weights_digest
from chainrule.models import AutoregressiveModel


def is_exact(model: Any) -> bool:
    """Whether a model is in exact form."""
    return isinstance(model, AutoregressiveModel) and model.softmax.exact


def exact(model: AutoregressiveModel, scales: dict[str, Any] | None = None) -> AutoregressiveModel:
    """A model's exact form: its probabilities have the same bits on every machine.

    It is a deep copy, of the same class and with the same methods, in which every sum is exact (see
    `chainrule.fixedpoint.arithmetic`), the probabilities are integers over 2^22, and samples of one seed are the same
    everywhere. Weights are those of the model, rounded; they are not trained any more.

    Args:
        model: a trained model with a likelihood. An exact model is given back as it is.
        scales: input grids, as `calibrate` finds them. Without them the model's own are used (`model.scales`), if they
            were made for its present weights; else it is calibrated on its own samples, and `model.scales` is set.

    Raises:
        ModelError: the model has no exact form, its numbers are not finite, a layer cannot be certified, or the scales
            belong to another model.

    Example:
        >>> import chainrule as cr
        >>> model = exact(cr.MADE((2,), levels=4))
        >>> import torch
        >>> x = torch.tensor([[1, 3]])
        >>> bool(model.log_pmf(x).exp().sum(-1).allclose(torch.ones(1, 2, dtype=torch.float64)))
        True
    """
    if is_exact(model):
        return model
    refuse(model)
    if scales is None:
        kept = model.scales
        fresh = isinstance(kept, dict) and kept.get("weights") == weights_digest(model)
        scales = model.scales = kept if fresh and kept is not None else calibrate(model)
    if not isinstance(scales, dict) or scales.get("weights") != weights_digest(model):
        raise ModelError("these scales belong to other weights: calibrate the model, or leave `scales` out")
    return convert(model, scales)
