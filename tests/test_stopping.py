"""How Ctrl-C, SIGTERM and SIGHUP are heard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from chainrule.stopping import Interrupt


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


@pytest.mark.parametrize("early", [True, False])
def test_within_what_can_be_given_up_the_first_signal_interrupts(early):
    """Also one that came just before it; behind it, signals are requests again."""
    with Interrupt() as listening:
        if early:
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), listening.at_once():
            os.kill(os.getpid(), pytest.fail("it is too late") if early else signal.SIGINT)
        assert listening.requested
    with Interrupt() as listening:
        with listening.at_once():
            pass
        os.kill(os.getpid(), signal.SIGINT)
        assert listening.requested


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


WAITING = """
import sys, time
from chainrule.stopping import Interrupt, at_once
with at_once(lambda: "so far"):
    with Interrupt() as interrupt:
        print("request", flush=True)
        while not interrupt.requested:
            time.sleep(0.01)
    print("at once", flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_request_within_what_leaves_at_once(name):
    """The request is heard alone; after it, nothing that runs can swallow the signal."""
    number = getattr(signal, name)
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("these tests were told to outlive their terminal, and so is what they start")
    process = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for line in (b"request\n", b"at once\n"):
        assert process.stdout.readline() == line
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, b"so far\n")


def test_it_leaves_although_nobody_reads_its_last_sentence():
    """A terminal that is gone, or a farewell that fails, holds nobody back."""
    process = subprocess.Popen([sys.executable, "-c", WAITING.replace('"so far"', "1 / 0")], stdout=subprocess.PIPE)
    for _ in range(2):
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM


def test_a_program_that_outlives_its_terminal():
    """What nohup starts is not stopped by SIGHUP."""
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WAITING
    process = subprocess.Popen([sys.executable, "-c", ignoring], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for number in (signal.SIGTERM, signal.SIGTERM):
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.send_signal(number)
    assert process.communicate(timeout=60) == (b"", b"so far\n")
    assert process.returncode == 128 + signal.SIGTERM
