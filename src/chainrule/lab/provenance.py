"""Where a run comes from: its recipe, its command, its machine, its versions and its commit."""

from __future__ import annotations

import platform
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.lab.recipes import Recipe
from chainrule.training.config import TrainConfig
from chainrule.training.devices import native_bfloat16
from chainrule.version import __version__, commit


def describe(recipe: Recipe) -> dict[str, Any]:
    """The content of a run's config.json."""
    return {"recipe": asdict(recipe), **origin()}


def origin() -> dict[str, Any]:
    """What made a result: the command, versions, the machine and the commit."""
    return {
        "command": command(),
        "versions": {
            "chainrule": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "commit": commit(),
    }


def command() -> str:
    """The command line that this process was started with."""
    return shlex.join(
        ["chainrule" if Path(sys.argv[0]).name in ("chainrule", "__main__.py") else sys.argv[0], *sys.argv[1:]]
    )


def device_name(device: torch.device) -> str:
    """A person's name for a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads > 1)} ({torch.backends.cpu.get_cpu_capability()})"


def auto_precision(config: TrainConfig, device: torch.device) -> str:
    """What `precision` came to on this device."""
    chosen = config.precision
    return chosen if chosen != "auto" else "bfloat16" if native_bfloat16(device.type == "cpu") else "float32"
