"""Let the documentation site show a docstring's examples as code: Markdown would take `>>>` for a quotation."""

from __future__ import annotations

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"(?m)(^[ ]*>>> .*(?:\n(?![ ]*$).+)*)")
"""From a line with a prompt to the next empty line."""


def fenced(text: str) -> str:
    """A docstring with its doctests in fences, indented as they are.

    >>> print(fenced("Add.\\n\\n>>> 1 + 1\\n2").replace("`", "~"))
    Add.
    <BLANKLINE>
    ~~~pycon
    >>> 1 + 1
    2
    ~~~
    """

    def fence(found: re.Match[str]) -> str:
        indent = " " * (len(found[0]) - len(found[0].lstrip(" ")))
        return f"{indent}```pycon\n{found[0]}\n{indent}```"

    return DOCTEST.sub(fence, text)


class Doctests(griffe.Extension):
    """Puts doctests into fences as the docstrings are read."""

    def on_instance(self, *, obj: Any, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
