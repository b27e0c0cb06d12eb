"""Processes that are forked from one that has computed."""

from __future__ import annotations

import functools
import os


@functools.cache
def let_children_compute() -> None:
    """Let forked children of this process compute on one thread, as PyTorch's own DataLoader workers do.

    A child inherits the record of OpenMP's threads, but none of the threads: without this it waits for them for ever.
    """
    import torch

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
