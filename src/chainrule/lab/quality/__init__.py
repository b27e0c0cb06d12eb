"""Sample quality: measures of drawn images against real ones, for models with and without a likelihood."""

from chainrule.lab.quality.classifier import (
    LEVELS,
    SHAPE,
    DigitClassifier,
    accuracy,
    load_classifier,
    train_classifier,
)
from chainrule.lab.quality.measures import (
    Quality,
    class_entropy_bits,
    compare,
    frechet_distance,
    marginal_error,
    measure,
)
from chainrule.lab.quality.quantile_calibration import Calibration, calibration

__all__ = [
    "LEVELS",
    "SHAPE",
    "Calibration",
    "DigitClassifier",
    "Quality",
    "accuracy",
    "calibration",
    "class_entropy_bits",
    "compare",
    "frechet_distance",
    "load_classifier",
    "marginal_error",
    "measure",
    "train_classifier",
]
