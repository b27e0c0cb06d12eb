"""Data: the assignment's toy sets, the coloured digits, and your own images, as integer tensors in three splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainrule import lazily

if TYPE_CHECKING:
    from chainrule.data.choosing import NAMES, from_name
    from chainrule.data.colored import color, hopper_mnist
    from chainrule.data.dataset import Dataset
    from chainrule.data.hopper import gray_portrait, portrait
    from chainrule.data.images import load_images
    from chainrule.data.levels import grid_of
    from chainrule.data.mnist import Mnist, load_mnist
    from chainrule.data.picture_set import Pictures
    from chainrule.data.pictures import (
        read_event,
        read_image,
        read_pixels,
        save_grid,
        sheet_note,
        to_nchw,
        to_nhwc,
        write_image,
    )
    from chainrule.data.reading import cache_folder
    from chainrule.data.scikit import digits, photos
    from chainrule.data.toy import load_joint, portrait_joint, two_dimensional, warmup
    from chainrule.data.unpickle import read_pickle, restricted_load

_HOMES = {
    "Dataset": "dataset",
    "Mnist": "mnist",
    "NAMES": "choosing",
    "Pictures": "picture_set",
    "cache_folder": "reading",
    "color": "colored",
    "digits": "scikit",
    "from_name": "choosing",
    "gray_portrait": "hopper",
    "grid_of": "levels",
    "hopper_mnist": "colored",
    "load_images": "images",
    "load_joint": "toy",
    "load_mnist": "mnist",
    "photos": "scikit",
    "portrait": "hopper",
    "portrait_joint": "toy",
    "read_event": "pictures",
    "read_image": "pictures",
    "read_pickle": "unpickle",
    "read_pixels": "pictures",
    "restricted_load": "unpickle",
    "save_grid": "pictures",
    "sheet_note": "pictures",
    "to_nchw": "pictures",
    "to_nhwc": "pictures",
    "two_dimensional": "toy",
    "warmup": "toy",
    "write_image": "pictures",
}
__getattr__ = lazily.names_of(__name__, _HOMES)

__all__ = [
    "NAMES",
    "Dataset",
    "Mnist",
    "Pictures",
    "cache_folder",
    "color",
    "digits",
    "from_name",
    "gray_portrait",
    "grid_of",
    "hopper_mnist",
    "load_images",
    "load_joint",
    "load_mnist",
    "photos",
    "portrait",
    "portrait_joint",
    "read_event",
    "read_image",
    "read_pickle",
    "read_pixels",
    "restricted_load",
    "save_grid",
    "sheet_note",
    "to_nchw",
    "to_nhwc",
    "two_dimensional",
    "warmup",
    "write_image",
]
