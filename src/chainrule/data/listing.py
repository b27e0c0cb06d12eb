"""The one listing of a folder of pictures: what training reads and what an archive takes.

Nothing is left out in silence. What cannot be looked at (a folder or a picture that may not be read, a picture that is
a broken link or no regular file) is an error; what is no picture is counted and named.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from chainrule.data.reading import reading
from chainrule.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
NAMED = 10
"""What a sentence names at most."""
AGAIN = "listed already"
"""What is left out, since another way leads to the same folder."""
SPLIT = re.compile(r"(?:(train|training)|(val|valid|validation|dev)|(test|testing))(?:[-_ ]?(?:set|images|data))?")
SPLITS = ("train", "validation", "test")


def split_of(name: str) -> str | None:
    """The split that a folder or an array is named after, in any case.

    >>> split_of("Training"), split_of("val"), split_of("TEST_images"), split_of("testimony")
    ('train', 'validation', 'test', None)
    """
    match = SPLIT.fullmatch(name.casefold())
    return SPLITS[(match.lastindex or 1) - 1] if match else None


@dataclass
class Listing:
    """What is below a folder: pictures in the order of their paths, and what was left out, by kind."""

    folder: Path
    pictures: list[Path] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)  # those directly in it

    @property
    def note(self) -> str | None:
        """A sentence about what was left out; None if nothing was."""
        if not self.left_out:
            return None
        kinds = (f"{len(names):,} × {kind} ({named(names)})" for kind, names in sorted(self.left_out.items()))
        return f"Left out: {'; '.join(kinds)}."

    def by_split(self) -> dict[str, list[Path]]:
        """The pictures by split: those of the folders that are named so, or all of them as "train".

        Raises:
            DataError: there are no pictures, or what the splits are is not clear.
        """
        folder = self.folder
        if not self.pictures:
            besides = f" ({self.note.rstrip('.')})" if self.note else ""
            raise DataError(f"the folder {folder} holds no pictures{besides}: name one of {', '.join(SUFFIXES)} files")
        tops = {name: split for name in self.folders if (split := split_of(name))}
        if not tops:
            deeper = {part for path in self.pictures for part in path.relative_to(folder).parts[1:-1] if split_of(part)}
            if len({split_of(name) for name in deeper}) > 1:
                raise DataError(
                    f"the folder {folder} has splits deeper down ({', '.join(sorted(deeper))}), which would be mixed: "
                    f"name the folder that holds them, or move them to its top"
                )
            return {"train": self.pictures}
        if len(set(tops.values())) < len(tops):
            raise DataError(
                f"the folder {folder} has two subfolders for one split ({', '.join(sorted(tops))}): keep one of each"
            )
        if "train" not in tops.values():
            raise DataError(
                f"the folder {folder} has a {min(tops)}/ subfolder and no train/: add one, or name a folder without"
            )
        found: dict[str, list[Path]] = {split: [] for split in tops.values()}
        loose = []
        for path in self.pictures:
            name = path.relative_to(folder).parts[0]
            if name in tops:
                found[tops[name]].append(path)
            else:
                loose.append(str(path.relative_to(folder)))
        if loose:
            raise DataError(
                f"the folder {folder} holds {len(loose):,} × pictures beside its splits {', '.join(tops)} "
                f"({named(loose)}): move them into a split, or elsewhere"
            )
        for name, split in tops.items():
            again = [part for part in self.left_out.get(AGAIN, []) if Path(part).parts[0] == name]
            if again and not found[split]:
                raise DataError(
                    f"the folder {folder / name} holds no pictures of its own, as others lead to the same folder "
                    f"({named(again)}): give each split its own"
                )
            if not found[split]:
                raise DataError(f"the folder {folder / name} holds no pictures: fill or remove it")
        return found


def list_folder(folder: Path) -> Listing:
    """All that is below a folder; a folder that links lead to is entered, each once.

    Raises:
        DataError: something in it cannot be looked at.
    """
    listing = Listing(folder)
    seen: set[str] = set()
    waiting, links = [folder], list[Path]()
    while waiting or links:
        here = waiting.pop() if waiting else links.pop(0)
        name = str(here.relative_to(folder))
        if (real := os.path.realpath(here)) in seen:
            listing.left_out.setdefault(AGAIN, []).append(name)
            continue
        seen.add(real)
        with reading(here):
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        for entry in entries:
            path = here / entry.name
            with reading(path):
                kind = _kind(path, entry)
            if here == folder and kind in ("folder", "link to a folder"):
                listing.folders.append(entry.name)
            if kind == "folder":
                waiting.append(path)
            elif kind == "link to a folder":
                links.append(path)
            elif kind == "picture":
                listing.pictures.append(path)
            else:
                listing.left_out.setdefault(kind, []).append(str(path.relative_to(folder)))
    listing.pictures.sort()
    return listing


def _kind(path: Path, entry: os.DirEntry) -> str:
    """What an entry of a folder is."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    if entry.is_dir():
        return "link to a folder"
    if entry.is_file() and path.suffix.lower() in SUFFIXES:
        return "picture"
    broken = entry.is_symlink() and not path.exists()
    if not entry.is_file() and path.suffix.lower() in SUFFIXES:
        what = "a broken link" if broken else "no regular file"
        raise DataError(f"{path} is {what} where a picture was expected: repair or remove it")
    return "broken link" if broken else "no picture" if entry.is_file() else "special file"


def named(names: list[str]) -> str:
    """The first of some names, and how many more there are.

    >>> named(["a", "b"])
    'a, b'
    """
    more = f", and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(sorted(names)[:NAMED]) + more
