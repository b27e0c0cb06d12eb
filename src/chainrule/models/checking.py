"""What comes in from outside: events, labels and constructor arguments, checked in one place."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.errors import DataError


def events(x: Any, shape: tuple[int | None, ...], levels: int) -> Tensor:
    """`x` as a tensor, if it is a batch of events.

    Raises:
        DataError: it has another shape, is not of an integer type, or holds values outside [0, levels).
    """
    x = as_tensor(x)
    if not_whole(x):
        raise DataError(f"the events hold {x.dtype} values: pass integers in [0, {levels})")
    if x.ndim != len(shape) + 1 or any(side not in (None, has) for side, has in zip(shape, x.shape[1:], strict=True)):
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise DataError(f"the events have shape {tuple(x.shape)}: this model wants (batch, {wanted})")
    if 0 in x.shape[1:]:
        raise DataError(f"the events have shape {tuple(x.shape)}: a picture needs at least one pixel")
    if x.numel() and (int(x.min()) < 0 or int(x.max()) >= levels):
        raise DataError(
            f"the events hold values from {int(x.min())} to {int(x.max())}: "
            f"this model has {levels} levels, 0 to {levels - 1}"
        )
    return x


def labels(context: Any, classes: int, n: int) -> Tensor:
    """`context` as int64 labels of `n` events.

    Raises:
        DataError: it has another shape, is not of an integer type, or holds values outside [0, classes).
    """
    found = as_tensor(context)
    if not_whole(found):
        raise DataError(f"the labels are {found.dtype} values: pass integers in [0, {classes})")
    if tuple(found.shape) != (n,):
        raise DataError(f"the labels have shape {tuple(found.shape)}: {n} events want one each, shape ({n},)")
    if n and (int(found.min()) < 0 or int(found.max()) >= classes):
        raise DataError(
            f"the labels go from {int(found.min())} to {int(found.max())}: "
            f"this model has {classes} classes, 0 to {classes - 1}"
        )
    return found.long()


def not_whole(x: Tensor) -> bool:
    """Whether a tensor's type is none of integers."""
    return x.dtype.is_floating_point or x.dtype.is_complex or x.dtype == torch.bool


def plain(value: Any) -> Any:
    """A constructor's argument as JSON knows it: NumPy's and PyTorch's integers as int, sequences as lists."""
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, list | tuple) or np.ndim(value):
        return tuple(plain(item) for item in value)
    return operator.index(value)


def as_tensor(x: Any) -> Tensor:
    """Tensors as they are; arrays and nested lists of numbers as tensors.

    Raises:
        DataError: it is something else.
    """
    if isinstance(x, Tensor):
        return x.long() if x.dtype in (torch.uint16, torch.uint32, torch.uint64) else x
    try:
        array = np.asarray(x)
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int64)
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"the events are {type(x).__name__} values: pass a tensor or an array of integers") from None
