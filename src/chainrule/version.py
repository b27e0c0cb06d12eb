"""The version that is installed, and the commit that it runs from."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parent

try:
    __version__ = metadata.version("chainrule")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"


def commit() -> str | None:
    """The commit that chainrule runs from, "+" behind it if files differ; None if it was installed otherwise."""
    git = ["git", "-C", str(PACKAGE)]
    try:
        _, head, changes = (
            subprocess.run([*git, *args.split()], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for args in ("ls-files --error-unmatch __init__.py", "rev-parse HEAD", "diff --name-only HEAD .")
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head + "+" * bool(changes)


def version_line() -> str:
    """The version, with the commit where there is one."""
    at = commit()
    return __version__ if at is None else f"{__version__}, commit {at[:12]}{'+' * at.endswith('+')}"
