"""Numbers that Python and C share, and a library that does not fit."""

from __future__ import annotations

import pytest

from chainrule import compiled
from chainrule.compiled import constants, library
from chainrule.compiled.walk import records


@pytest.fixture
def anew():
    """The library is looked for again, and once more afterwards."""
    library.library.cache_clear()
    yield
    library.library.cache_clear()


def test_the_header_is_what_python_says():
    """After a change: `python -m chainrule.compiled.constants`."""
    assert constants.HEADER.read_text(encoding="utf-8") == constants.header()


@pytest.mark.skipif(not compiled.available(), reason="chainrule was installed without a C compiler")
@pytest.mark.parametrize("name", ["MOST_TAPS", "LANES", "ADD"])
def test_a_library_with_other_constants_is_not_used(name, anew, monkeypatch):
    monkeypatch.setattr(records, name, getattr(records, name) + 1)
    assert not library.available()
    assert "another version" in library.why_missing()
    assert library.again() in library.why_missing()


@pytest.mark.skipif(not compiled.available(), reason="chainrule was installed without a C compiler")
def test_why_it_is_missing(anew, monkeypatch, tmp_path):
    """Switched off, not built, or built for something else; and nothing where it is there."""
    assert library.why_missing() is None
    monkeypatch.setenv(library.SWITCH, "0")
    assert not library.available()
    assert "CHAINRULE_COMPILED=0: unset it" in library.why_missing()
    monkeypatch.delenv(library.SWITCH)
    library.library.cache_clear()
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    assert not library.available()
    assert "without a C compiler" in library.why_missing()
    library.library.cache_clear()
    library.place().write_bytes(b"\x7fELF")
    assert not library.available()
    assert "another system" in library.why_missing()
