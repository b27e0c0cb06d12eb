"""Pickles that hold NumPy arrays and nothing else.

A pickle is a program. The reader here lets it build numbers, strings, lists, tuples, dictionaries and plain numeric
arrays; whatever else it names is refused before it is even imported. Its calls to NumPy go to stand-ins that only note
what was asked, and the arrays are made afterwards, by us, from bytes whose length was checked.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import pickle
import re
from typing import Any, BinaryIO

import numpy as np

from chainrule.atomic import as_path
from chainrule.data.reading import read_bytes
from chainrule.errors import DataError


def read_pickle(path: str | os.PathLike) -> Any:
    """The content of a pickle file (plain or gzip); its arrays may be read-only.

    Raises:
        DataError: it is missing, truncated or foreign, or names anything but NumPy's arrays.
    """
    return restricted_load(io.BytesIO(read_bytes(as_path(path))), str(path))


def restricted_load(file: BinaryIO | gzip.GzipFile, name: str = "the pickle") -> Any:
    """Read one pickle from an open file. `name` begins the sentence of an error.

    Raises:
        DataError: it is damaged, or names anything but NumPy's arrays.

    >>> restricted_load(io.BytesIO(pickle.dumps({"train": np.arange(3)})))
    {'train': array([0, 1, 2])}
    >>> restricted_load(io.BytesIO(pickle.dumps(print)), "bad.pkl")
    Traceback (most recent call last):
    chainrule.errors.DataError: bad.pkl asks for builtins.print, which is no NumPy array: it was not read, ...
    """
    try:
        return _finished(_Unpickler(file).load())
    except _Refused as refusal:
        raise DataError(f"{name} {refusal}") from None
    # a damaged pickle can fail in any way that its instructions can: type errors, index errors, huge allocations
    except Exception as error:
        raise DataError(
            f"{name} is not a pickle that can be read ({type(error).__name__}): it is truncated, damaged or of "
            f"another kind: copy it again"
        ) from None


class _Refused(Exception):
    """What a pickle asked for and does not get: the rest of a sentence that begins with the file's name."""


class _Dtype:
    """Stands in for numpy.dtype."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def numpy(self) -> np.dtype:
        if str(self.code).startswith("O"):
            raise _Refused("holds an array of Python objects: save arrays of numbers instead")
        if not re.fullmatch(r"b1|[ui][1248]|f[248]", self.code) or self.order not in ("<", ">", "|", "="):
            raise _Refused(f"holds an array of type {self.code!r}: only integers, floats and booleans are read")
        return np.dtype(self.order.replace("|", "=") + self.code)


class _Array:
    """Stands in for numpy.ndarray."""

    def __setstate__(self, state: tuple) -> None:
        self.shape, self.dtype, self.fortran, self.raw = state[-4:]

    def numpy(self) -> np.ndarray:
        dtype = self.dtype.numpy()
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw  # Python 2 wrote bytes as text
        if len(raw) != math.prod(self.shape) * dtype.itemsize:
            raise _Refused(f"holds an array of shape {self.shape} with {len(raw)} bytes: the file is damaged")
        return np.frombuffer(raw, dtype).reshape(self.shape, order="F" if self.fortran else "C")


class _Call:
    """Stands in for a function; a pickle can call it but not alter it."""

    __slots__ = ("function",)

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("tries to change a function: it was not read")


def _reconstruct(kind: type, *_: Any) -> _Array:
    if kind is not _Array:
        raise _Refused("reconstructs something other than an array: it was not read")
    return _Array()


def _from_parts(raw: bytes | str, dtype: _Dtype, shape: tuple, order: str = "C") -> _Array:
    array = _Array()
    array.__setstate__((shape, dtype, order == "F", raw))
    return array


def _scalar(dtype: _Dtype, raw: bytes | str = b"") -> Any:
    return _from_parts(raw, dtype, ()).numpy()[()]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode({"latin1": "latin1", "latin-1": "latin1"}[encoding])


def _bytes() -> bytes:
    return b""  # Python 2 protocols spell the empty bytes as a call


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Call(_encode),
    ("__builtin__", "bytes"): _Call(_bytes),
    ("builtins", "bytes"): _Call(_bytes),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Call(_reconstruct) for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Call(_scalar) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Call(_from_parts) for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO | gzip.GzipFile) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _Refused(
                f"asks for {module}.{name}, which is no NumPy array: it was not read, since a pickle may hold "
                f"arrays of numbers and nothing else"
            ) from None


def _finished(value: Any) -> Any:
    """The same tree with arrays in place of their stand-ins."""
    if isinstance(value, dict):
        return {_finished(k): _finished(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_finished(v) for v in value)
    if isinstance(value, _Array):
        return value.numpy()
    if isinstance(value, (_Call, _Dtype, type)):
        raise _Refused("holds a function or a type: a pickle may hold arrays of numbers and nothing else")
    return value
