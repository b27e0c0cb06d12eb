"""Sample quality: measures of drawn images against real ones, for models with and without a likelihood."""

from chainrule.quality.calibration import Calibration, calibration
from chainrule.quality.classifier import (
    LEVELS,
    SHAPE,
    DigitClassifier,
    accuracy,
    load_classifier,
    train_classifier,
)
from chainrule.quality.measures import Quality, class_entropy_bits, compare, frechet_distance, marginal_error, measure

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
