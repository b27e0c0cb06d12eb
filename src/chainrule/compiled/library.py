"""Finding the compiled code."""

from __future__ import annotations

import ctypes
import functools
import importlib.machinery
import os
from pathlib import Path

from chainrule.compiled.walk.program import OperationRecord, ProgramRecord

P, N, R = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
FUNCTIONS = {
    "chainrule_block": [*[N] * 6, R, *[P] * 14],
    "chainrule_block_back": [*[N] * 6, R, *[P] * 16],
    "chainrule_block_room": [N, N, N, N, P],
    "chainrule_block_float": [*[N] * 6, R, *[P] * 14],
    "chainrule_block_float_back": [*[N] * 6, R, *[P] * 16],
    "chainrule_block_float_room": [N, N, N, N, P],
    "chainrule_gate": [N, N, N, N, P, P, P],
    "chainrule_lookup": [N, N, N, N, N, N, P, P, P, P, P],
    "chainrule_lookup_back": [N, N, N, N, N, N, P, P, P, P, P],
    "chainrule_norm": [N, N, N, N, N, R, P, P, P, P, P],
    "chainrule_norm_back": [N, N, N, N, N, P, P, P, P, P, P, P],
    "chainrule_limit": [N],
    "chainrule_advance": [P, P, P, P, N, N, N, N, P, P],
    "chainrule_decode": [P, P, P, P, *[N] * 6, P, N, P, P, P, P],
    "chainrule_relu_pad": [N, N, N, N, N, N, N, P, P, P],
    "chainrule_draw": [P, P, P, P, N, N, N, P, P, P],
    "chainrule_score": [P, P, P, P, N, N, N, P, P],
}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The shared library beside this file, if it was built; calls let other Python threads run meanwhile."""
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(__file__).parent / f"_compiled{suffix}"
        if path.exists():
            try:
                found = ctypes.CDLL(str(path))
                for name, types in FUNCTIONS.items():
                    getattr(found, name).argtypes, getattr(found, name).restype = types, None
                for name in ("chainrule_layout", "chainrule_multiplies"):
                    getattr(found, name).argtypes, getattr(found, name).restype = [], N
            except (OSError, AttributeError):  # built for another system, or of another version
                return None
            layout = ctypes.sizeof(ProgramRecord) * 65536 + ctypes.sizeof(OperationRecord)
            return found if found.chainrule_layout() == layout else None
    return None


def available() -> bool:
    """Whether there is compiled code to walk with; CHAINRULE_COMPILED=0 switches it off."""
    return os.environ.get("CHAINRULE_COMPILED", "1") != "0" and library() is not None
