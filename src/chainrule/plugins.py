"""Plug-ins: packages that add faster ways to do what the library does anyway.

A plug-in has a function `install()` that registers engines (`chainrule.sampling.engines`) and layers' passes
(`chainrule.nn.passes`). It is looked for by name when the first model is made, and left out where it is missing:
nothing in the library depends on it.
"""

from __future__ import annotations

import functools
import importlib

NAMES = ("chainrule.compiled",)


@functools.cache
def load() -> None:
    """Let every plug-in that is there register what it offers, once."""
    for name in NAMES:
        try:
            plug_in = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:  # the plug-in is there, but something that it needs is not
                raise
            continue
        plug_in.install()
