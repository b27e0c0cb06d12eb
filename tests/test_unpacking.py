"""What is packed comes back, within its bound; nothing more, nothing less, nothing behind it."""

from __future__ import annotations

import lzma
import zlib

import pytest

from chainrule.unpacking import inflate, unxz

USUAL = b"what is usually said"
CONTENT = USUAL + bytes(range(256)) * 4


def deflated(usual: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=usual)
    return packer.compress(CONTENT) + packer.flush()


WAYS = {
    "xz": (lzma.compress(CONTENT), unxz),
    "zlib": (zlib.compress(CONTENT), inflate),
    "bare": (deflated(b""), lambda stored, most: inflate(stored, most, b"")),
    "with a dictionary": (deflated(USUAL), lambda stored, most: inflate(stored, most, USUAL)),
}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def test_it_comes_back(way):
    stored, unpack = way
    assert unpack(stored, len(CONTENT)) == unpack(stored, 2**20) == CONTENT


@pytest.mark.parametrize("most", [0, 1, len(CONTENT) - 1])
def test_never_more_than_was_asked_for(way, most):
    stored, unpack = way
    with pytest.raises(ValueError, match="do not end"):
        unpack(stored, most)


def test_no_truncation_and_nothing_behind(way):
    stored, unpack = way
    for length in range(len(stored)):
        with pytest.raises(ValueError, match="packed bytes"):
            unpack(stored[:length], len(CONTENT))
    with pytest.raises(ValueError, match="do not end"):
        unpack(stored + b"\0", len(CONTENT))


def test_xz_that_asks_for_too_much_memory():
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**28}]
    with pytest.raises(ValueError, match="damaged"):
        unxz(lzma.compress(b"few", filters=filters), 10)


def test_other_bytes(way):
    with pytest.raises(ValueError, match="damaged"):
        way[1](b"\xff" * 40, 100)
