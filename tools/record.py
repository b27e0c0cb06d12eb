"""Keep a finished run for the report: python tools/record.py RUN DEST

Copies config.json, result.json and arrays.npz of the run folder RUN into the new folder DEST and leaves out the
checkpoint, the model and samples.png, whose images arrays.npz holds too. Of metrics.jsonl every 10th training step is
kept and every line of a validation: the curves that the report draws look the same. In the command that made the run,
the folder after --out becomes runs/NAME: where it lay says something of a machine, nothing of the run.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from chainrule.errors import ChainruleError
from chainrule.lab.experiment import read_run

EVERY = 10


def thinned(lines: list[str]) -> list[str]:
    """The lines of a metrics.jsonl that are kept.

    >>> thinned(['{"step": 9, "train": 1.5}', '{"step": 10, "train": 1.4}', '{"step": 10, "validation": 1.3}'])
    ['{"step": 10, "train": 1.4}', '{"step": 10, "validation": 1.3}']
    """
    rows = [(json.loads(line), line) for line in lines]
    return [line for row, line in rows if "train" not in row or row["step"] % EVERY == 0]


def without_place(command: str) -> str:
    """A command whose --out is named by its last part alone.

    >>> without_place("chainrule train gated --out /somewhere/deep/gated --train.seed 1")
    'chainrule train gated --out runs/gated --train.seed 1'
    >>> without_place("chainrule bench codec -o deep/codec -n 5")
    'chainrule bench codec --out runs/codec -n 5'
    """
    return re.sub(r"(?<!\S)(?:--out[ =]|-o )(\S*/)?([^/\s]+)", r"--out runs/\2", command)


def record(run: Path, dest: Path) -> None:
    """Copy what the report reads of a run; raises `DataError` when `run` holds no finished run."""
    read_run(run)
    dest.mkdir(parents=True)
    shutil.copyfile(run / "arrays.npz", dest / "arrays.npz")
    for name in ("config.json", "result.json"):
        content = json.loads((run / name).read_text(encoding="utf-8"))
        if "command" in content:
            content["command"] = without_place(content["command"])
        (dest / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    (dest / "metrics.jsonl").write_text("".join(f"{line}\n" for line in thinned(lines)), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python tools/record.py RUN DEST")
    if Path(sys.argv[2]).exists():
        raise SystemExit(f"{sys.argv[2]} is there already: delete it, or choose another folder")
    try:
        record(Path(sys.argv[1]), Path(sys.argv[2]))
    except ChainruleError as error:
        raise SystemExit(str(error)) from None
