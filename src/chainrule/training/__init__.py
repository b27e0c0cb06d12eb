"""Fitting a model by its own loss: one loop, resumable bit for bit."""

from chainrule.training.allocator import keep_freed_memory
from chainrule.training.config import TrainConfig
from chainrule.training.devices import leave_processes
from chainrule.training.fitting import fit

__all__ = ["TrainConfig", "fit", "keep_freed_memory", "leave_processes"]
