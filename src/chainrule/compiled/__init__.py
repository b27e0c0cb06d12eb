"""A plug-in: walks over images, and passes of layers while training on a CPU, in compiled code.

It is optional. Where no C compiler was at hand when chainrule was installed, or without this folder, PyTorch computes
everything, with the same results: bit for bit in exact mode, up to rounding otherwise. README.md has the map.
"""

from chainrule.compiled.library import available


def install() -> None:
    """Register the engine and the passes; `chainrule.plugins` calls this once."""
    from chainrule.compiled.training import known_passes
    from chainrule.compiled.walk.compiled_walk import Compiled
    from chainrule.sampling import engines

    engines.register(Compiled())
    known_passes.register()


__all__ = ["available", "install"]
