"""Numbers that Python and C must agree on: C takes them from a header that this file writes.

`python -m chainrule.compiled.constants` writes `constants.h` anew, from the Python files that own the numbers. The
header is kept in the repository, so that building needs no Python package; a library that was built with other numbers
is not used.
"""

from __future__ import annotations

import ctypes
import zlib
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

from chainrule.nn.least_squares import ALONE
from chainrule.nn.surroundings import FAR, NEAR

BRACES = str.maketrans("[()]", "{{}}")
HEADER = Path(__file__).parent / "constants.h"

OWNERS = {
    "chainrule.fixedpoint.exact_softmax": {
        "TOTAL_BITS": "TOTAL_BITS",
        "LOGIT_BITS": "LOGIT_BITS",
        "LARGEST_LOGIT": "LARGEST",
        "CODER_BITS": "CODER_BITS",
        "WEIGHT_BITS": "WEIGHT_BITS",
    },
    "chainrule.fixedpoint.exact_logistic": {
        name: name
        for name in (
            "REACH",
            "STEP_BITS",
            "ARGUMENT_BITS",
            "VALUE_BITS",
            "LENGTH_BITS",
            "SHARE_BITS",
            "SCALED_BITS",
            "CHOICE_BITS",
        )
    },
    "chainrule.fixedpoint.exact_attention": {
        "QUERY_BITS": "QUERY_BITS",
        "KEY_BITS": "KEY_BITS",
        "ATTENDED_BITS": "VALUE_BITS",
        "LARGEST_KEY": "LARGEST",
    },
    "chainrule.heads.mixture": {
        "SHARPEST": "SHARPEST",
        "FLATTEST": "FLATTEST",
        "FARTHEST": "FARTHEST",
        "COPIED": "COPIED",
        "MIXTURE_LARGEST": "LARGEST",
    },
    "chainrule.nn.fronts": {"SKEW": "LAG"},
    "chainrule.nn.prediction": {"SOFTNESS": "SOFTNESS", "SPREAD_SOFTNESS": "SPREAD_SOFTNESS"},
    "chainrule.nn.least_squares": {
        "SQUARES_BITS": "WEIGHT_BITS",
        **{
            name: name
            for name in ("FARTHEST_RIGHT", "LARGEST_WEIGHT", "PREDICTION_BITS", "PREDICTIONS", "MOST_PREDICTED")
        },
    },
    "chainrule.nn.surroundings": {
        f"{kind}_{name.upper()}": f"{kind}.{name}"
        for kind in ("NEAR", "FAR")
        for name in (
            "own",
            "lent",
            "cell",
            "rows",
            "before",
            "after",
            "up",
            "left",
            "right",
            "ridge",
            "running",
            "powers",
        )
    },
    "chainrule.compiled.walk.records": {
        name: name
        for name in (
            *("NORM", "ACTIVATE", "PRODUCT", "WIDE_PRODUCT", "ADD", "GATE", "SQUARES", "SPREAD"),
            *("ATTEND", "PLACE", "RECALL"),
            *("LOGITS", "MADE", "MIXTURE", "LANES", "WIDE_LANES", "MOST_TAPS", "GROUP", "MOST_KEYS", "MOST_DEPTH"),
            *("SQUARES_RING", "SQUARES_COLUMNS", "SQUARES_WINDOWS", "SQUARES_BLOCK", "MOST_SQUARES_WEIGHTS"),
        )
    },
    "chainrule.compiled.training.layer_passes": {name: name for name in ("MOST_CHANNELS", "MOST_ROWS")},
    "chainrule.compiled.training.block": {"COLUMNS": "COLUMNS"},
}
"""Of each file, the names in C and in Python."""


def constants() -> dict[str, int]:
    """Every constant by its name in C; the last stands for the tables."""
    found = {c: int(attrgetter(python)(import_module(file))) for file, of in OWNERS.items() for c, python in of.items()}
    return found | {"TABLES": zlib.crc32(repr(tables()).encode()) >> 1}


def header() -> str:
    """The text of `constants.h`."""
    lines = [
        "/* Made by `python -m chainrule.compiled.constants` from the Python files that own these numbers. */",
        "",
        "#ifndef CHAINRULE_CONSTANTS_H",
        "#define CHAINRULE_CONSTANTS_H",
        "",
    ]
    values = constants()
    for file, of in OWNERS.items():
        lines += [f"/* {'/'.join(file.split('.')[1:])}.py */", *(f"#define {name} {values[name]}" for name in of), ""]
    for name, values_of in tables().items():
        lines.append(f"#define {name} {str(values_of).translate(BRACES)}")
    lines.append(f"#define TABLES {values['TABLES']} /* tells those above from others */")
    lines += ["", "/* all of them, in this order */", f"#define CONSTANTS {', '.join(values)}", "", "#endif", ""]
    return "\n".join(lines)


def tables() -> dict[str, list[Any]]:
    """What the header has beside single numbers, by its name in C."""
    found: dict[str, list[Any]] = {"PLACES_OF_ALONE": list(ALONE)}
    for name, by in (("NEAR", NEAR), ("FAR", FAR)):
        cells = range(-by.before, by.after + 1)
        found |= {
            f"{name}_OTHERS": list(by.others),
            f"{name}_COLUMNS": list(by.columns) or [0],
            f"{name}_NEAREST": [by.nearest(cell) for cell in cells],
        }
    return found


def layout(*records: type[ctypes.Structure]) -> int:
    """The sizes of records and all constants, mixed into one number as library.c does."""
    mixed = 0
    for number in (*map(ctypes.sizeof, records), *constants().values()):
        mixed = (mixed ^ number) * 1099511628211 % 2**64
    return mixed >> 1


if __name__ == "__main__":
    HEADER.write_text(header(), encoding="utf-8")
