"""The walk over an image's pixels as compiled code: the one loop's inner part, for stacks of masked convolutions.

It is optional. Where no C compiler was at hand when chainrule was installed, PyTorch takes every step, with the same
results: bit for bit in exact mode, up to rounding otherwise.
"""

from chainrule.compiled.library import available
from chainrule.compiled.training import block
from chainrule.compiled.training import passes as layers
from chainrule.compiled.walk.compiled_walk import CompiledWalk, score
from chainrule.compiled.walk.program import Program, Window, all_known, known

__all__ = ["CompiledWalk", "Program", "Window", "all_known", "available", "block", "known", "layers", "score"]
