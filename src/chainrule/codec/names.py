"""Names that a file may have in an archive: those that mean the same on every system, and all different there."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MOST_BYTES, MOST_PART, MOST_PARTS = 1024, 255, 64
"""Bytes of a name and of each of its parts, in UTF-8, and parts. (Temporary names are shorter than any of these.)"""
DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    "CONIN$",
    "CONOUT$",
    *(f"{d}{n}" for d in ("COM", "LPT") for n in "0123456789¹²³"),
}
"""Names that mean a device on Windows, whatever suffix they have."""


def problem(names: Iterable[str]) -> str | None:
    """What is wrong with the names of an archive, as the rest of a sentence that begins "the file name …".

    >>> problem(["digits/7.png", "digits/8.png"])
    >>> problem(["../7.png"])
    "'../7.png' leads elsewhere, or does not mean the same on every system"
    >>> problem(["a/7.png", "A/7.png"])
    "'A' is the same as 'a' on some systems"
    """
    taken: dict[str, tuple[str, bool]] = {}  # as a system may see it: as it is written, and whether it is a file
    for name in names:
        if not is_safe(name):
            return f"{name[:80]!r} leads elsewhere, or does not mean the same on every system"
        ends = [i for i, character in enumerate(name) if character == "/"] + [len(name)]
        for end in ends:
            part, is_file = name[:end], end == len(name)
            known = taken.get(folded(part))
            if known is not None and known[0] != part:
                return f"{part[:80]!r} is the same as {known[0][:80]!r} on some systems"
            if known is not None and (is_file or known[1]):
                return f"{part[:80]!r} is there twice"
            taken[folded(part)] = part, is_file
    return None


def folded(name: str) -> str:
    """What a system that ignores case and ways of writing accents takes a name for."""
    return (
        name.lower() if name.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    )


def is_safe(name: str) -> bool:
    """Whether a file name is relative, stays below its folder, and means the same on every system.

    >>> is_safe("digits/7.png"), is_safe("../7.png"), is_safe("/etc/passwd"), is_safe("C:7.png"), is_safe("nul.png")
    (True, False, False, False, False)
    """
    if not 0 < len(name) <= MOST_BYTES or any(
        c in '\\:*?"<>|' or unicodedata.category(c) in ("Cc", "Cs") for c in name
    ):
        return False
    parts = name.split("/")
    return (
        len(name.encode()) <= MOST_BYTES
        and len(parts) <= MOST_PARTS
        and all(
            part == part.rstrip(" .") != ""
            and len(part.encode()) <= MOST_PART
            and part.partition(".")[0].rstrip().upper() not in DEVICES
            for part in parts
        )
    )
