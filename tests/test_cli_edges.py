"""Where the command line meets consoles, signals, full disks and files that are not what they were."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainrule.cli import main
from chainrule.models import PixelCNN

COMMAND = [sys.executable, "-m", "chainrule"]


@pytest.fixture
def gray(tmp_path) -> Path:
    """A model of 6×5 gray pictures with 4 levels, and 8-bit pictures beside it."""
    PixelCNN((1, 6, 5), 4, filters=4, blocks=0).save_pretrained(tmp_path / "model")
    (tmp_path / "p").mkdir()
    draw = np.random.RandomState(0).randint
    for number in range(12):
        Image.fromarray(draw(0, 256, (6, 5), np.uint8)).save(tmp_path / "p" / f"{number}.png")
    for number in range(3):
        (tmp_path / "q").mkdir(exist_ok=True)
        Image.fromarray(draw(0, 4, (6, 5), np.uint8) * 85).save(tmp_path / "q" / f"{number}.png")
    return tmp_path


def run(*words: object) -> int:
    return main([str(word) for word in words])


def sentence(capsys, *words: object) -> str:
    """The one sentence that a command is refused with."""
    assert run(*words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("chainrule:")]
    return line


def test_every_command_says_that_it_quantises(gray, capsys) -> None:
    """Not only training: the notes belong to the data."""
    assert run("evaluate", gray / "model", "--data", gray / "p") == 0
    assert "quantised to 4 levels" in capsys.readouterr().err
    assert run("evaluate", gray / "model", "--data", gray / "p", "--json") == 0
    captured = capsys.readouterr()
    assert any("quantised to 4 levels" in note for note in json.loads(captured.out)["notes"])
    (gray / "p" / "words.txt").write_text("")
    assert run("evaluate", gray / "model", "--data", gray / "p") == 0
    assert "1 × no picture (words.txt)" in capsys.readouterr().err


@pytest.mark.parametrize("n", [1, 3])
def test_what_is_kept_is_kept(gray, capsys, n: int) -> None:
    """Byte for byte, also where the model has no level for it; and it says that it looked at something coarser."""
    given, out = np.asarray(Image.open(gray / "p" / "0.png")), gray / "c.png"
    assert run("complete", gray / "model", gray / "p" / "0.png", "--keep-rows", 4, "-n", n, "-o", out) == 0
    assert "quantised" in capsys.readouterr().err
    whole = np.asarray(Image.open(out))
    if n == 1:
        assert (whole[:4] == given[:4]).all()
        assert set(np.unique(whole[4:]).tolist()) <= {0, 85, 170, 255}
    else:
        assert (whole[: 4 * 3 : 3, : 5 * 3 : 3] == given[:4]).all()
    assert run("complete", gray / "model", gray / "q" / "0.png", "--keep-rows", 6, "-o", out) == 0
    assert capsys.readouterr().err == ""
    assert (np.asarray(Image.open(out)) == np.asarray(Image.open(gray / "q" / "0.png"))).all()


def test_a_picture_is_not_replaced_by_its_completion(gray, capsys) -> None:
    picture = gray / "q" / "0.png"
    before = picture.read_bytes()
    command = ["complete", gray / "model", picture, "--keep-rows", 2, "-o"]
    assert "give the result another name" in sentence(capsys, *command, picture)
    assert picture.read_bytes() == before
    assert run(*command, gray / "x.npy") == 0
    assert np.load(gray / "x.npy").shape == (1, 6, 5, 1)


def test_an_archive_takes_the_place_of_nothing(gray, capsys) -> None:
    """Neither of what it is made of, nor of another file, unless that is asked for."""
    array = np.zeros((2, 6, 5), np.uint8)
    np.save(gray / "a.npy", array)
    (gray / "b.crz").write_text("mine")
    (gray / "link.npy").symlink_to(gray / "a.npy")
    model = ["-m", gray / "model"]
    for words in ([], ["--overwrite"]):
        for out in ("a.npy", "link.npy"):
            said = sentence(capsys, "compress", gray / "a.npy", *model, "-o", gray / out, *words)
            assert "what is to be compressed" in said
    assert "there already" in sentence(capsys, "compress", gray / "a.npy", *model, "-o", gray / "b.crz")
    assert "is a folder" in sentence(capsys, "compress", gray / "a.npy", *model, "-o", gray / "p", "--overwrite")
    assert (np.load(gray / "a.npy") == array).all()
    assert (gray / "b.crz").read_text() == "mine"
    assert run("compress", gray / "a.npy", *model, "-o", gray / "b.crz", "--overwrite") == 0


def test_compress_says_what_it_left_out(gray, capsys) -> None:
    (gray / "q" / "x.avif").write_text("")
    (gray / "q" / "gone").symlink_to(gray / "nothing")
    words = ["compress", gray / "q", "-m", gray / "model", "--verify", "-o"]
    assert run(*words, gray / "a.crz") == 0
    said = capsys.readouterr().err
    assert "1 × broken link (gone); 1 × no picture (x.avif)" in said
    assert run(*words, gray / "b.crz", "--json") == 0
    assert "x.avif" in json.loads(capsys.readouterr().out)["notes"][0]


@pytest.mark.parametrize("encoding", ["cp437", "ascii", "latin-1", "cp1252", "utf-8"])
def test_help_on_every_console(encoding: str) -> None:
    """And the help of a verb, which has boxes around it."""
    environment = os.environ | {"PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    for words in (["--help"], ["info", "--help"]):
        done = subprocess.run([*COMMAND, *words], capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
        assert b"\\u" not in done.stdout


def test_info_shows_no_escape_codes(gray, capsys) -> None:
    """Of a stranger's names, in figures and in errors; on an old console, too."""
    path = gray / "q" / "\u202e\u65e5.png"
    (gray / "q" / "0.png").rename(path)
    assert run("compress", gray / "q", "-m", gray / "model", "-o", gray / "a.crz") == 0
    capsys.readouterr()
    assert run("info", gray / "a.crz") == 0
    out = capsys.readouterr().out
    assert "\\u202e\u65e5.png" in out
    environment = os.environ | {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*COMMAND, "info", gray / "a.crz"], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "\x1b" not in sentence(capsys, "info", gray / "\x1b[31mred.crz")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [["--help"], ["info", "--help"], ["info", "a.crz"], ["info", "a.crz", "--json"]])
def test_a_full_disk_behind_the_output(gray, words: list[str]) -> None:
    assert run("compress", gray / "q", "-m", gray / "model", "-o", gray / "a.crz") == 0
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True, cwd=gray)
    assert done.returncode == 2
    assert done.stderr.startswith("chainrule: ")
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "delays"), [(signal.SIGINT, (0.4, 1.5, 4)), (signal.SIGTERM, (0.8, 2.5, 6))], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_is_never_swallowed(gray, which: signal.Signals, delays: tuple[float, ...]) -> None:
    """Whenever it comes, the process is gone within a second or so, and nothing half-written is left."""
    np.save(gray / "big.npy", np.random.RandomState(0).randint(0, 4, (200_000, 6, 5), np.uint8))
    words = [*COMMAND, "compress", gray / "big.npy", "-m", gray / "model", "-o", gray / "a.crz", "--verify"]
    before = sorted(gray.rglob("*"))
    for delay in delays:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(delay)
        if process.poll() is not None:
            continue
        process.send_signal(which)
        began = time.monotonic()
        _, err = process.communicate(timeout=60)
        assert time.monotonic() - began < 5  # a second on a quiet machine
        done = (gray / "a.crz").exists()  # the signal came when all was written, perhaps while Python was leaving
        assert process.returncode in (128 + which, -which, 130, *[0] * done), err
        if done:  # then the archive is whole
            assert run("decompress", gray / "a.crz", "-m", gray / "model", "-o", gray / "back") == 0
            (gray / "a.crz").unlink()
            shutil.rmtree(gray / "back")
        assert sorted(gray.rglob("*")) == before


@pytest.mark.parametrize(
    "config",
    [
        '{"recipe": {"data": 5}}',
        '{"recipe": {"data": "warmup", "train": 7}}',
        '{"recipe": {"data": "warmup", "train": {"seed": "x"}}}',
        '{"recipe": {"data": "warmup", "levels": [4]}}',
        '{"recipe": 5}',
        '{"recipe": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "[1]",
        "\x00\udcff",
    ],
)
def test_a_runs_config_is_not_trusted(gray, capsys, config: str) -> None:
    run_folder = gray / "run"
    run_folder.mkdir()
    (gray / "model").rename(run_folder / "model")
    (run_folder / "config.json").write_bytes(config.encode("utf-8", "surrogateescape"))
    assert "config.json" in sentence(capsys, "evaluate", run_folder)


@pytest.mark.parametrize(
    "config", ["[" * 100_000 + "]" * 100_000, '{"class": ' + '{"a":' * 50_000 + "1" + "}" * 50_001, "[]"]
)
def test_a_models_config_is_not_trusted(gray, capsys, config: str) -> None:
    (gray / "model" / "config.json").write_text(config)
    assert "config.json" in sentence(capsys, "doctor", gray / "model")
