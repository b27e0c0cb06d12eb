"""Fitting a model by its own loss: one loop, resumable bit for bit."""

from chainrule.training.config import TrainConfig
from chainrule.training.fitting import fit

__all__ = ["TrainConfig", "fit"]
