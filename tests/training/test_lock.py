"""One run at a time holds a folder, and whatever happens the folder is free again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from chainrule.errors import ChainruleError
from chainrule.training.lock import holding

HOLD = """
import sys, time
from chainrule.training.lock import holding
with holding(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def refused(folder):
    """Whether another thread is kept out, which an open file of this process would not be by itself."""
    found = []

    def attempt():
        try:
            with holding(folder):
                found.append(False)
        except ChainruleError as error:
            found.append(f"another run is writing into {folder}: wait" in str(error))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return found[0]


def test_a_folder_has_one_holder(tmp_path):
    """Another is refused as long as the first holds it, and all that is left behind is an empty file."""
    assert not refused(tmp_path)
    with holding(tmp_path):
        assert refused(tmp_path)
        assert not refused(tmp_path / "other")
    assert not refused(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "other"]
    assert (tmp_path / ".lock").read_bytes() == b""


def test_the_holder_may_hold_it_again(tmp_path):
    """An experiment holds the folder that its training takes; under another spelling, too."""
    with holding(tmp_path):
        with holding(str(tmp_path / "x" / "..")):
            pass
        assert refused(tmp_path)


def test_it_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), holding(tmp_path):
        raise ZeroDivisionError
    assert not refused(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ChainruleError, match=r"cannot write into .*file/run: Not a directory"),
        holding(tmp_path / "file" / "run"),
    ):
        pass


def test_no_folder_no_lock():
    with holding(None), holding(None):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_dies_gives_it_back(tmp_path, number):
    """Held by another process, free once it is gone, however it went."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ChainruleError, match="another run is writing into"), holding(tmp_path):
            pass
        os.kill(process.pid, number)
        process.wait(timeout=60)
        with holding(tmp_path):
            assert refused(tmp_path)
    finally:
        process.kill()
        process.communicate()


def test_many_at_once(tmp_path):
    """Of all that want it, one at a time has it."""
    inside, worst = [], []

    def work():
        for _ in range(200):
            try:
                with holding(tmp_path):
                    inside.append(1)
                    worst.append(len(inside))
                    inside.pop()
            except ChainruleError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(worst) == {1}
