"""List the pictures that tools/photos.py takes, with author and licence: python tools/photo_credits.py SET PACKAGES

SET is the folder that it made, PACKAGES where it unpacked the packages: their copyright files and KDE's metadata.json
beside a picture say who made it. Prints a Markdown table for the model cards, or whose author it does not find.
"""

from __future__ import annotations

import json
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

from photos import TEST, VALIDATION, pictures

WITH_PARAGRAPHS = ("mate-backgrounds", "lomiri-wallpapers-16.04")
"""Packages whose copyright files name every picture; a paragraph is `Files:`, `Copyright:`, `License:`."""

GNOME = ("gnome-backgrounds", "Jakub Steiner and other authors named in the package", "CC-BY-SA-3.0")

NO_NAME = r"\s*<[^>]*>|´|\*No copyright\*|\b(19|20)\d\d(-\d+)?[,.]? |, 20\d\d$"
"""What stands around an author's name: an address, a year."""


def field(paragraph: str, name: str) -> list[str]:
    """The lines of one field of a paragraph."""
    found = re.search(rf"^{name}:(.*(?:\n[ \t].*)*)", paragraph, re.MULTILINE)
    return [line.strip() for line in found[1].splitlines() if line.strip()] if found else []


def from_paragraphs(unpacked: Path) -> list[tuple[str, str, str, str]]:
    """Package, pattern of the file's name, authors, licence."""
    rows = []
    for package in WITH_PARAGRAPHS:
        for paragraph in (unpacked / "usr/share/doc" / package / "copyright").read_text().split("\n\n"):
            authors = "; ".join(field(paragraph, "Copyright"))
            for pattern in field(paragraph, "Files"):
                if not pattern.startswith("debian/"):
                    rows.append((package, pattern.rpartition("/")[2], authors, " ".join(field(paragraph, "License"))))
    return rows


def credit(path: Path, rows: list[tuple[str, str, str, str]]) -> tuple[str, str, str]:
    """Package, authors and licence of a picture."""
    if "wallpapers" in path.parts and "backgrounds" not in path.parts:
        about = path.parents[2] / "metadata.json"
        if about.is_file():
            plugin = json.loads(about.read_text())["KPlugin"]
            authors = "; ".join(author["Name"] for author in plugin["Authors"])
            return "plasma-workspace-wallpapers", authors, plugin["License"]
        if "contents" in path.parts:
            return "plasma-workspace-wallpapers", "KDE Visual Design Group", "GPL-2+"
    if path.parent.name == "gnome":
        return GNOME
    for package, pattern, authors, licence in rows:
        if fnmatch(path.name, pattern):
            return package, authors, licence
    raise SystemExit(f"{path}: its author is not found")


def main(made: Path, packages: Path) -> None:
    """Print the table."""
    unpacked = packages / "unpacked"
    rows = from_paragraphs(unpacked)
    taken = {Path(key).stem.rpartition("-")[0] for key in json.loads((made / "hashes.json").read_text())}
    print("| picture | split | author | licence | Debian package |\n|---|---|---|---|---|")
    for name, path in sorted(pictures(unpacked).items(), key=lambda item: item[0].lower()):
        if name not in taken:
            continue
        package, authors, licence = credit(path, rows)
        authors = (
            re.sub(r"\s*<[^>]*>|´|\*No copyright\*|\b(19|20)\d\d(-\d+)?[,.]? |, 20\d\d$", "", authors) or "not named"
        )
        split = "validation" if name in VALIDATION else "test" if name in TEST else "training"
        print(f"| {name} | {split} | {authors} | {licence} | {package} |")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
