"""What a person sees."""

from __future__ import annotations

import io

from rich.console import Console

from chainrule.training import progress
from chainrule.training.progress import Bar, Lines, Silent, progress_reporter


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


def test_a_resumed_run_that_begins_with_an_evaluation(monkeypatch, capsys):
    """It has taken no step: it knows no training loss and no pace."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines(total=100, first=20)
    now[0] = 110.0
    lines.validation(20, 2.0)
    assert capsys.readouterr().err == "step 20/100  validation 2.0000 bits/dim  10 s\n"


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
