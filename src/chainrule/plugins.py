"""Plug-ins: packages that add faster ways to do what the library does anyway.

A plug-in is an entry point of the group "chainrule.plugins": a function without arguments that registers engines
(`chainrule.sampling.engines`) and layers' passes (`chainrule.nn.passes`). chainrule's own, `chainrule.compiled`, is
found in the same way, so that the library works without it.
"""

from __future__ import annotations

import functools
import warnings
from importlib import metadata

GROUP = "chainrule.plugins"


@functools.cache
def load() -> None:
    """Let every installed plug-in register what it offers, once. One whose module is missing is left out."""
    for entry in metadata.entry_points(group=GROUP):
        try:
            entry.load()()
        except ModuleNotFoundError as error:
            if not entry.module.startswith(error.name or "\0"):  # the plug-in is there, but something it needs is not
                warnings.warn(f"the plug-in {entry.name} is left out: {error}", stacklevel=2)
