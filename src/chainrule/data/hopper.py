"""The portrait: one picture that serves the two-dimensional data and the backgrounds of the coloured digits.

Grace Hopper, public domain (U.S. Navy), shipped inside matplotlib's sample data, so that nothing is downloaded.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from chainrule.errors import DataError

BOX = (0, 0, 512, 512)  # left, top, right, bottom: the square above the lower edge of the 512 × 600 photograph
SIDE = 200


def _picture() -> Image.Image:
    from matplotlib import cbook

    try:
        with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as photograph:
            return photograph.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX, box=BOX)
    except OSError:
        raise DataError(
            "matplotlib's sample data lacks the portrait grace_hopper.jpg: install matplotlib from its wheel"
        ) from None


def portrait() -> np.ndarray:
    """The portrait in colour: (200, 200, 3) uint8.

    >>> portrait().shape, portrait().dtype
    ((200, 200, 3), dtype('uint8'))
    """
    return np.array(_picture())


def gray_portrait() -> np.ndarray:
    """The portrait in gray (ITU-R 601 luma, as Pillow's mode L): (200, 200) uint8."""
    return np.array(_picture().convert("L"))
