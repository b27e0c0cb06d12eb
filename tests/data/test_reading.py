"""What is said while data is read."""

from __future__ import annotations

from chainrule.data.reading import say


def test_say_goes_to_standard_error(capsys):
    """One line, and none when quiet."""
    say("hello")
    say("nothing", quiet=True)
    assert capsys.readouterr() == ("", "hello\n")
