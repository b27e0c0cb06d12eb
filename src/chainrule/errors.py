"""The errors that chainrule raises on purpose.

Each message is one sentence that names what was wrong and what to do about it. The command line prints that sentence on
standard error and exits with status 2; any other exception is a bug.
"""

from __future__ import annotations


class ChainruleError(Exception):
    """Base of every error that chainrule raises on purpose."""


class DataError(ChainruleError):
    """Data that cannot be read or fetched, or that does not fit what was asked of it."""


class ModelError(ChainruleError):
    """A model, a run or a recipe that is missing, broken, or used for what it cannot do."""


class CodecError(ChainruleError):
    """An archive that is damaged, foreign, or belongs to another model."""


def escaped(text: str) -> str:
    r"""Text that is safe on a terminal: whatever would not print, such as a stranger's escape codes, is spelled out.

    >>> print(escaped("a\x1b[31m.png"))
    a\x1b[31m.png
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, the computer's or a GPU's: PyTorch says so with a RuntimeError.

    >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("shapes differ"))
    (True, False)
    """
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "tried to allocate" in str(error)
