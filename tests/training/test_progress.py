"""What a person sees and how Ctrl-C is heard."""

from __future__ import annotations

import io
import os
import signal
import threading

import pytest
from rich.console import Console

from chainrule.training import progress
from chainrule.training.progress import Bar, Interrupt, Lines, Silent, progress_reporter


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_request_first(number):
    """Within the block Ctrl-C or SIGTERM sets a flag, a second one interrupts; afterwards all is as before."""
    before = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    with Interrupt() as listening:
        assert not listening.requested
        os.kill(os.getpid(), number)
        assert listening.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == before


def test_the_handler_is_given_back_after_an_error():
    """An exception inside the block leaves no handler behind."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError), Interrupt():
        raise RuntimeError
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_do_not_listen():
    """Outside the main thread signals cannot be had, and that is no error."""
    found = []

    def inside():
        with Interrupt() as listening:
            found.append(listening.requested)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [False]


def test_lines_come_at_most_every_five_seconds_and_at_the_end(monkeypatch, capsys):
    """Evaluations in quick succession print nothing; the last one always does; the time left is the pace's."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines(total=100, first=20)
    lines.step(30, 1.5)
    now[0] = 104.0
    lines.validation(30, 2.0)
    assert capsys.readouterr().err == ""
    now[0] = 110.0
    lines.validation(40, 2.0)
    assert capsys.readouterr().err == "step 40/100  train 1.5000  validation 2.0000 bits/dim  10 s, 30 s to go\n"
    now[0] = 110.5
    lines.validation(100, 1.9)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("step 100/100")
    assert err.endswith(" 0 s to go\n")


def test_the_bar_shows_both_losses():
    """On a terminal: a bar with the newest training and validation loss."""
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    with Bar(10, 2, console) as bar:
        bar.step(5, 1.25)
        bar.validation(5, 1.5)
        assert bar.progress.tasks[0].completed == 5
    shown = console.file.getvalue()
    assert "1.2500" in shown
    assert "1.5000" in shown
    assert "5/10" in shown


def test_the_reporter_that_fits(monkeypatch):
    """Quiet: nothing; not a terminal: lines; a terminal: a bar."""
    assert type(progress_reporter(10, quiet=True)) is Silent
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=io.StringIO()))
    assert type(progress_reporter(10)) is Lines
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=io.StringIO(), force_terminal=True))
    assert type(progress_reporter(10)) is Bar
