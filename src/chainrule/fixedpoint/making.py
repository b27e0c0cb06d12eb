"""`exact(model)`: the same model in whole numbers, with the same bits on every machine."""

from __future__ import annotations

from typing import Any

from chainrule.errors import ModelError
from chainrule.fixedpoint.calibration import calibrate
from chainrule.fixedpoint.twin import convert, is_exact, refuse, weights_digest
from chainrule.models import AutoregressiveModel


def exact(model: AutoregressiveModel, scales: dict[str, Any] | None = None) -> AutoregressiveModel:
    """A model's twin in exact arithmetic: its probabilities have the same bits on every machine.

    The twin is a deep copy, of the same class and with the same methods, in which every sum is exact (see
    `chainrule.fixedpoint.arithmetic`), the probabilities are integers over 2^22, and samples of one seed are the same
    everywhere. Weights are those of the model, rounded; they are not trained any more.

    Args:
        model: a trained model with a categorical head or a mixture of logistics. An exact model is given back as it is.
        scales: input grids, as `calibrate` finds them. Without them the model's own are used (`model.scales`), if they
            were made for its present weights; else it is calibrated on its own samples, and `model.scales` is set.

    Raises:
        ModelError: the model has no exact form, its numbers are not finite, a layer cannot be certified, or the scales
            belong to another model.

    Example:
        >>> import chainrule as cr
        >>> twin = exact(cr.MADE((2,), levels=4))
        >>> import torch
        >>> x = torch.tensor([[1, 3]])
        >>> bool(twin.log_pmf(x).exp().sum(-1).allclose(torch.ones(1, 2, dtype=torch.float64)))
        True
    """
    if is_exact(model):
        return model
    refuse(model)
    if scales is None:
        kept = getattr(model, "scales", None)
        fresh = isinstance(kept, dict) and kept.get("weights") == weights_digest(model)
        scales = kept if fresh and kept is not None else calibrate(model)
        model.scales = scales
    if not isinstance(scales, dict) or scales.get("weights") != weights_digest(model):
        raise ModelError("these scales belong to other weights: calibrate the model, or leave `scales` out")
    return convert(model, scales)
