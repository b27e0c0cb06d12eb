"""What an installation is made of, what is slow about it, and why."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from chainrule.errors import escaped

WITHOUT_PLUG_IN = "chainrule.compiled is not part of this installation, so PyTorch takes every step: install it anew"


def engines() -> str:
    """What can run walks here, told without PyTorch: whether the compiled code fits is seen when it is loaded."""
    try:
        from chainrule.compiled.library import SWITCH, place
    except ModuleNotFoundError:
        return "steps"
    return "compiled, steps" if place().exists() and os.environ.get(SWITCH, "1") != "0" else "steps"


def say_once_without_compiled_code() -> None:
    """Say in one sentence that there is no compiled code and what helps: once for each installation."""
    try:
        from chainrule.compiled.library import SWITCH, library, place, why_missing
    except ModuleNotFoundError:
        return
    if os.environ.get(SWITCH) == "0" or library() is not None:
        return
    from chainrule.data.reading import cache_folder, say

    note = cache_folder() / "said-without-compiled-code"
    with contextlib.suppress(OSError):  # where nothing can be kept, it is said again
        if note.is_file() and note.read_text(encoding="utf-8") == str(place()):
            return
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(str(place()), encoding="utf-8")
    say(f"{why_missing()} (said once)")


def look_over() -> dict[str, Any]:
    """The installation, for `chainrule doctor`; "slow" is a list of sentences on what is slow and why."""
    import torch

    from chainrule.data.reading import cache_folder
    from chainrule.version import version_line

    missing, width = compiled_code()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, gpu = torch.get_num_threads(), torch.cuda.is_available()
    return {
        "chainrule": f"{version_line()}, {Path(__file__).parents[1]}",
        "python": f"{platform.python_version()}, {sys.executable}",
        "pytorch": f"{torch.__version__}, {torch.cuda.get_device_name() if gpu else 'no GPU'}",
        "system": f"{platform.system()} {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "compiled_code": missing or f"ready, vectors of {width} numbers",
        "compiler": compiler(),
        "threads": f"{threads} of {cores} cores",
        "data_cache": contents(cache_folder()),
        "hub_cache": contents(hub_cache()),
        "slow": what_is_slow(missing, width, threads, cores, busy_cores(), gpu),
    }


def compiled_code() -> tuple[str | None, int]:
    """Why there is no compiled code, or None; and how many float32 its vectors hold."""
    try:
        from chainrule.compiled.library import library, why_missing
    except ModuleNotFoundError:
        return WITHOUT_PLUG_IN, 0
    code, missing = library(), why_missing()
    return missing, code.chainrule_width() if code is not None and missing is None else 0


def what_is_slow(missing: str | None, width: int, threads: int, cores: int, busy: float, gpu: bool) -> list[str]:
    """Sentences on what is slow here and why, the worst first.

    Args:
        missing: why there is no compiled code; None if there is.
        width: numbers in a vector of the compiled code.
        threads: threads that PyTorch and the compiled code use.
        cores: processors that this process may use.
        busy: how many of them others want.
        gpu: whether there is a GPU.
    """
    from chainrule.training.devices import native_bfloat16

    slow = [] if missing is None else [missing]
    if missing is None and width == 4 and platform.machine() in ("x86_64", "AMD64"):
        slow.append("this processor has neither AVX2 nor AVX-512, so compiled walks take but four numbers at a time")
    if threads < cores:
        slow.append(f"{threads} of {cores} cores are used: set OMP_NUM_THREADS={cores}, or unset it, to use them all")
    if threads > cores:
        slow.append(f"{threads} threads share {cores} cores and wait for each other: set OMP_NUM_THREADS={cores}")
    if busy + min(threads, cores) > cores + 0.5:
        slow.append(f"other programs want {busy:.1f} cores of {cores}: what runs beside them waits for its turn")
    if not gpu and not native_bfloat16():
        slow.append("this processor does not multiply bfloat16 itself, so models train in float32: a GPU is faster")
    return slow


def busy_cores() -> float:
    """How many cores processes want, on average over the last minute; 0 where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0


def compiler() -> str:
    """The C compiler that an installation from source would use."""
    usual = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    for command in (usual.split()[0], "cc", "gcc", "clang"):
        if (path := shutil.which(command)) is None:
            continue
        try:
            told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        return f"{escaped((told.splitlines() or [''])[0])}, {path}"
    return "none: install gcc or clang before installing chainrule from source"


def hub_cache() -> Path:
    """Where huggingface_hub keeps models."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def contents(folder: Path) -> str:
    """A folder, and how much lies in it."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return f"{folder}, {size / 1e6:,.1f} MB" if folder.is_dir() else f"{folder}, nothing yet"
