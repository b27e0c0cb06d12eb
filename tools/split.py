"""Split a folder of pictures into two: python tools/split.py FOLDER DEST [SHARE]

DEST then holds train/ and test/, with links to the pictures, or copies where there can be no links. Files with the same
content are all in one of them; which one, their SHA-256 says, so that the split is the same for everybody. SHARE of the
files (0.2), about, are for tests. What training would refuse (16 bits a channel, animations) is left out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

from chainrule.data.listing import list_folder
from chainrule.data.pictures import read_pixels
from chainrule.errors import DataError


def main(folder: Path, dest: Path, share: float) -> None:
    """Split it."""
    counts = {"train": 0, "test": 0, "left out": 0}
    for path in list_folder(folder).pictures:
        try:
            read_pixels(path, alpha=True)
        except DataError:
            counts["left out"] += 1
            continue
        place = int.from_bytes(hashlib.sha256(path.read_bytes()).digest()[:4], "little") / 2**32
        split = "test" if place < share else "train"
        target = dest / split / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.resolve(), target)
        except OSError:
            shutil.copyfile(path, target)
        counts[split] += 1
    print(*(f"{split}: {count:,}" for split, count in counts.items()), sep=", ")


if __name__ == "__main__":
    where, to, *rest = sys.argv[1:]
    main(Path(where), Path(to), float(rest[0]) if rest else 0.2)
