"""The walk over an image's pixels as compiled code: the one loop's inner part, for stacks of masked convolutions.

It is optional. Where no C compiler was at hand when chainrule was installed, PyTorch takes every step, with the same
results: bit for bit in exact mode, up to rounding otherwise.
"""

from chainrule.native import block, layers
from chainrule.native.library import available
from chainrule.native.program import Program, Window, all_known, known
from chainrule.native.walking import CompiledWalk, score

__all__ = ["CompiledWalk", "Program", "Window", "all_known", "available", "block", "known", "layers", "score"]
