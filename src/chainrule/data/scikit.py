"""Two sets of real images that scikit-learn ships, so that nothing is downloaded: photographs in colour, and digits.

Sources: china.jpg and flower.jpg, 640 × 427 photographs under the Creative Commons Attribution 2.0 licence, by the
people named in scikit-learn's datasets/images/README.txt; E. Alpaydin and C. Kaynak, "Optical Recognition of
Handwritten Digits", UCI Machine Learning Repository, 1998 (the test part, which scikit-learn has).
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from chainrule.data.dataset import Dataset
from chainrule.data.pictures import to_nchw
from chainrule.data.reading import sha256
from chainrule.errors import DataError

SIDE = 16
BLOCK = 64
"""The photographs are cut into blocks of this side, and each block belongs to one split."""
BLOCKS = {"train": 42, "validation": 6, "test": 12}
"""Blocks of each photograph; its lowest 43 rows are left out."""

# of the decoded (427, 640, 3) uint8 bytes; another JPEG decoder may give others
PHOTOS = {
    "china.jpg": "e701459344fd69797154c91add3bb5d70e5ed1a61d8bed889bab3a796104698d",
    "flower.jpg": "3202904ed246795bf616c66d7859cd7c6080eff736c6e38dc5cc62779742033f",
}
DIGITS_SHA256 = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"  # of (1797, 8, 8) uint8


def photos(count: int = 20_000, seed: int = 0) -> Dataset:
    """8-bit colour crops of two photographs: train (20,000, 3, 16, 16), validation (192, …), test (384, …), 256 levels.

    Training crops are drawn by `seed` and overlap each other; validation and test crops tile their blocks. Blocks are
    drawn by `seed` too, and no pixel of one split's crops is in a crop of another (see `corners`). A difference from
    the published bytes is said in `notes`. Raises `DataError` where scikit-learn or its pictures are missing.
    """
    places = corners(count, seed)
    sources, notes = [], []
    for name, expected in PHOTOS.items():
        try:
            source = np.asarray(_datasets().load_sample_image(name))
        except (OSError, AttributeError, ImportError):
            raise DataError(f"scikit-learn's sample image {name} cannot be read: install scikit-learn anew") from None
        if source.shape != (427, 640, 3) or source.dtype != np.uint8:
            raise DataError(f"scikit-learn's {name} is {source.shape} {source.dtype}: another version has the 640×427")
        if (found := sha256(source)) != expected:
            notes.append(
                f"The pixels of {name} differ from the published ones (SHA-256 {found[:12]}… instead of "
                f"{expected[:12]}…), probably by another JPEG decoder: figures are near the published ones, not equal."
            )
        sources.append(source)
    train, validation, test = (
        to_nchw(np.stack([sources[p][row : row + SIDE, left : left + SIDE] for p, row, left in places[split]]))
        for split in ("train", "validation", "test")
    )
    return Dataset("photos", 256, train, validation, test, notes=tuple(notes))


def corners(count: int = 20_000, seed: int = 0) -> dict[str, list[tuple[int, int, int]]]:
    """The crops of `photos`, by split: (photograph, top row, left column).

    `RandomState(seed)` permutes the 60 blocks of each photograph (the first 42 train, 6 validate, 12 test), then draws
    `count` training crops: all blocks, all rows, all columns. Raises `DataError` for a count below 1.

    >>> {split: len(places) for split, places in corners(count=100).items()}
    {'train': 100, 'validation': 192, 'test': 384}
    """
    if count < 1:
        raise DataError(f"{count} training crops leave nothing to train on: ask for at least 1")
    rand = np.random.RandomState(seed)
    grid = [(row * BLOCK, column * BLOCK) for row in range(427 // BLOCK) for column in range(640 // BLOCK)]
    blocks: dict[str, list[tuple[int, int, int]]] = {split: [] for split in BLOCKS}
    for photo in range(len(PHOTOS)):
        order = rand.permutation(len(grid)).tolist()
        for split, n in BLOCKS.items():
            blocks[split] += [(photo, *grid[i]) for i in order[:n]]
            order = order[n:]
    steps = range(0, BLOCK, SIDE)
    out = {
        split: [(photo, top + row, left + column) for photo, top, left in chosen for row in steps for column in steps]
        for split, chosen in blocks.items()
    }
    which, rows, columns = (
        rand.randint(0, most, count).tolist() for most in (len(blocks["train"]), *[BLOCK - SIDE + 1] * 2)
    )
    out["train"] = [
        (photo, top + row, left + column)
        for (photo, top, left), row, column in zip((blocks["train"][i] for i in which), rows, columns, strict=True)
    ]
    return out


def digits(seed: int = 0) -> Dataset:
    """Scikit-learn's 8×8 digits: train (1,257, 1, 8, 8), validation (180, …), test (360, …), uint8 with 17 levels.

    `RandomState(seed)` permutes the 1,797 images; the first train, the last test. Raises `DataError` where scikit-learn
    is missing or has other digits.
    """
    images = np.asarray(_datasets().load_digits().images).astype(np.uint8)
    if sha256(images) != DIGITS_SHA256:
        raise DataError("scikit-learn's digits are not the 1,797 that they were: use another version of scikit-learn")
    x = to_nchw(images[np.random.RandomState(seed).permutation(len(images))])
    return Dataset("digits", 17, x[:1257], x[1257:1437], x[1437:])


def _datasets() -> ModuleType:
    try:
        import sklearn.datasets
    except ImportError:
        raise DataError("photos and digits need scikit-learn: pip install 'chainrule[bench]'") from None
    return sklearn.datasets
