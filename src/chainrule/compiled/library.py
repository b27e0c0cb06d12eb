"""Finding the compiled code, and saying why there is none."""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import sys
from pathlib import Path

from chainrule.compiled.walk.records import EntryRecord, OperationRecord, ProgramRecord

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
    "chainrule_advance": [P, P, P, P, N, N, N, N, P, P, P],
    "chainrule_pixels": [P, P, P, P, N, N, N, P, P, P, P, P],
    "chainrule_decode": [P, P, P, P, N, N, N, P, N, P, P, P],
    "chainrule_relu_pad": [N, N, N, N, N, N, N, P, P, P],
    "chainrule_draw": [P, P, P, P, N, N, N, P, P, P],
    "chainrule_score": [P, P, P, P, N, N, N, P, P, P],
    "chainrule_fronts_decode": [P, P, P, P, N, N, N, N, P, P, P, N, N, P, P, P],
    "chainrule_fronts_draw": [P, P, P, P, N, N, N, N, P, P, P, N, P, P, P],
    "chainrule_fronts_score": [P, P, P, P, N, N, N, N, P, P, P, N, P, N, P],
}
COUNTING = {
    "chainrule_layout": [],
    "chainrule_width": [],
    "chainrule_multiplies": [],
    "chainrule_encode": [N, N, P, P, P, P],
    "chainrule_squares": [N, N, N, N, N, N, N, N, P, P, P],
}
"""Functions that return a number."""
SWITCH = "CHAINRULE_COMPILED"
AGAIN = "pip install --no-cache-dir --force-reinstall --no-deps --no-binary chainrule chainrule"
"""Builds the compiled code: neither a wheel without it that pip has kept, nor one from an index, is taken."""


def place() -> Path:
    """Where the library lies if it was built."""
    return Path(__file__).parent / "_compiled.so"


def again() -> str:
    """The command that builds the compiled code, for what is run from a checkout or installed."""
    checkout = Path(__file__).parents[3]
    return f"pip install --no-deps -e {shlex.quote(str(checkout))}" if (checkout / "setup.py").exists() else AGAIN


def _load() -> tuple[ctypes.CDLL | None, str | None]:
    """The library, or why there is none."""
    from chainrule.compiled.constants import layout  # needs what needs this file

    path = place()
    if not path.exists() and sys.platform == "win32":
        return None, "there is no compiled code for Windows, so PyTorch takes every step, which is much slower: use WSL"
    if not path.exists():
        return None, (
            "chainrule was installed without a C compiler, or with one that failed, so PyTorch takes every step, "
            f"which is much slower: install gcc or clang, then `{again()}`"
        )
    try:
        found = ctypes.CDLL(str(path))
        for name, types in FUNCTIONS.items():
            getattr(found, name).argtypes, getattr(found, name).restype = types, None
        for name, types in COUNTING.items():
            getattr(found, name).argtypes, getattr(found, name).restype = types, N
    except (OSError, AttributeError) as error:
        return None, f"the compiled code is of another system or version ({error}): build it again, `{again()}`"
    if found.chainrule_layout() != layout(ProgramRecord, OperationRecord, EntryRecord):
        return None, f"the compiled code ({path.name}) is of another version of chainrule: build it again, `{again()}`"
    return found, None


@functools.cache
def library() -> ctypes.CDLL | None:
    """The shared library beside this file, if it was built; calls let other Python threads run meanwhile."""
    return _load()[0]


def available() -> bool:
    """Whether there is compiled code to use; CHAINRULE_COMPILED=0 switches it off."""
    return os.environ.get(SWITCH, "1") != "0" and library() is not None


def why_missing() -> str | None:
    """Why there is no compiled code to use, in a sentence that says what helps; None if there is.

    It was switched off, it was never built, or what was built belongs to another system or version.
    """
    if available():
        return None
    if library() is not None:
        return f"compiled code is switched off by {SWITCH}=0: unset it, and models run much faster"
    return _load()[1]
