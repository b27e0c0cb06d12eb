"""Pickles of arrays are read, and nothing else is, let alone run."""

from __future__ import annotations

import collections
import contextlib
import gzip
import io
import os
import pickle

import numpy as np
import pytest

from chainrule.data import read_pickle, restricted_load
from chainrule.errors import DataError

ARRAYS = {
    "bytes": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(5, dtype=">i4"),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
    "strided": np.arange(10)[::2],
    "zero-d": np.array(3.5),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_from_every_protocol(name: str, protocol: int) -> None:
    array = ARRAYS[name]
    found = restricted_load(io.BytesIO(pickle.dumps({"x": array, "n": [1, (2.5, "a", None, b"")]}, protocol)))
    np.testing.assert_array_equal(found["x"], array)
    assert found["x"].dtype == array.dtype
    assert found["n"] == [1, (2.5, "a", None, b"")]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_numpy_scalars_come_back(protocol: int) -> None:
    assert restricted_load(io.BytesIO(pickle.dumps(np.float32(0.25), protocol))) == np.float32(0.25)


def test_a_pickle_of_python_2_is_read() -> None:
    # protocol 2 as Python 2 wrote it: the array's bytes are a str, the module is numpy.core
    raw = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x03\x85cnumpy\n"
        b"dtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x03\x00\x80\xfftb."
    )
    assert restricted_load(io.BytesIO(raw)).tolist() == [0, 128, 255]


class Command:
    """Runs a command when an ordinary unpickler reads it."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_command_is_refused_and_not_run(tmp_path, protocol: int) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps({"train": Command(os.system, f"touch {marker}")}, protocol))
    with pytest.raises(DataError, match=r"bad\.pkl asks for (posix|nt)\.system"):
        read_pickle(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # the ordinary unpickler would have run it
    assert marker.exists()


@pytest.mark.parametrize(
    "value",
    [
        Command(eval, "1"),
        Command(getattr, 1, "real"),
        collections.OrderedDict(a=1),
        np.random.RandomState(0),
        np.ma.masked_array([1]),
        print,
        Command(np.lib.format.open_memmap, "x"),
    ],
    ids=["eval", "getattr", "OrderedDict", "RandomState", "masked", "print", "open_memmap"],
)
def test_everything_but_arrays_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="which is no NumPy array"):
        restricted_load(io.BytesIO(pickle.dumps(value)))


def test_arrays_of_objects_are_refused() -> None:
    with pytest.raises(DataError, match="Python objects"):
        restricted_load(io.BytesIO(pickle.dumps(np.array([{}, None], dtype=object))))
    with pytest.raises(DataError, match="only integers, floats and booleans"):
        restricted_load(io.BytesIO(pickle.dumps(np.array(["a"]))))


def test_functions_and_types_are_neither_returned_nor_changed() -> None:
    with pytest.raises(DataError, match="function or a type"):
        restricted_load(io.BytesIO(b"\x80\x02cnumpy\nndarray\n."))
    with pytest.raises(DataError, match="tries to change a function"):
        restricted_load(io.BytesIO(b"\x80\x02c_codecs\nencode\n}U\x01aK\x01sb."))
    for name in ("ndarray", "dtype"):  # BUILD on the class itself
        with pytest.raises(DataError):
            restricted_load(io.BytesIO(b"\x80\x02cnumpy\n" + name.encode() + b"\n}U\x01aK\x01sb."))


def test_an_array_whose_length_lies_is_refused() -> None:
    data = pickle.dumps(np.zeros((3, 5), np.uint8), 2).replace(b"K\x03K\x05\x86", b"K\x03K\x06\x86")
    with pytest.raises(DataError, match="damaged"):
        restricted_load(io.BytesIO(data))


def test_truncated_pickles_end_in_a_sentence(tmp_path) -> None:
    data = pickle.dumps({"train": np.arange(100, dtype=np.uint8), "test": np.arange(5)})
    for n in range(len(data)):
        with pytest.raises(DataError):
            restricted_load(io.BytesIO(data[:n]), "cut.pkl")
    packed = tmp_path / "cut.pkl.gz"
    packed.write_bytes(gzip.compress(data)[:-12])
    with pytest.raises(DataError, match="truncated gzip"):
        read_pickle(packed)


def test_garbage_ends_in_a_sentence_or_in_plain_data() -> None:
    rand = np.random.RandomState(0)
    good = pickle.dumps({"train": np.arange(100, dtype=np.uint8)})
    for _ in range(2_000):
        data = bytearray(good)
        for i in rand.randint(0, 140, 3):
            data[i] = rand.randint(256)
        with contextlib.suppress(DataError):
            restricted_load(io.BytesIO(bytes(data)))


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no .*nothing\.pkl"):
        read_pickle(tmp_path / "nothing.pkl")
