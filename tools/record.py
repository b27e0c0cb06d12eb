"""Keep a finished run for the report: python tools/record.py RUN DEST [POINTS]

Copies config.json, result.json and arrays.npz of the run folder RUN into the new folder DEST and leaves out the
checkpoint, the model and samples.png, whose images arrays.npz holds too. Of metrics.jsonl a thinned curve is kept:

    training     at most POINTS lines (100 unless said otherwise): the run is cut into so many stretches of equal
                 length, and each becomes one line: at its middle step, the mean of its minibatches as `train`, and the
                 `least` and `most` of them
    validation   at most 50 lines, evenly chosen, the first and the last among them; each as it was measured

The report's running mean of the training loss stays what it was. In the command that made the run, the folders
after --out and --init become runs/NAME, and that after --data NAME: where they lay says something of a machine, nothing
of the run.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from chainrule.errors import ChainruleError
from chainrule.lab.run_folder import read_run

POINTS, VALIDATIONS = 100, 50


def thinned(rows: list[dict[str, Any]], points: int = POINTS) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl that are kept.

    >>> rows = [{"step": step, "train": float(step)} for step in (1, 2, 3, 4, 5, 6)]
    >>> kept = thinned([*rows, {"step": 6, "validation": 1.3}], points=2)
    >>> kept[0], kept[2]
    ({'step': 2, 'train': 2.0, 'least': 1.0, 'most': 3.0}, {'step': 6, 'validation': 1.3})
    """
    train, validation = ([row for row in rows if name in row] for name in ("train", "validation"))
    kept = []
    count = min(points, len(train))
    for k in range(count):
        stretch = train[k * len(train) // count : (k + 1) * len(train) // count]
        losses = [row["train"] for row in stretch]
        row = {"step": (stretch[0]["step"] + stretch[-1]["step"]) // 2, "train": round(fmean(losses), 6)}
        spread = {"least": round(min(losses), 6), "most": round(max(losses), 6)}
        kept.append(row | spread if len(stretch) > 1 else stretch[0])
    last = len(validation) - 1
    chosen = (
        range(last + 1) if last < VALIDATIONS else (round(k * last / (VALIDATIONS - 1)) for k in range(VALIDATIONS))
    )
    kept += [validation[k] for k in chosen]
    return sorted(kept, key=lambda row: row["step"])


def without_place(command: str) -> str:
    """A command whose --out and --data, and an --init that is no model's name, are named by their last part alone.

    >>> without_place("chainrule train gated --out /somewhere/deep/gated --train.seed 1")
    'chainrule train gated --out runs/gated --train.seed 1'
    >>> without_place("chainrule bench codec -o deep/codec -n 5")
    'chainrule bench codec --out runs/codec -n 5'
    >>> without_place("chainrule train photo --data '/my pictures/set' --init ../deep/photo-4 --out photo-5")
    'chainrule train photo --data set --init runs/photo-4 --out runs/photo-5'
    >>> without_place("chainrule train pixelcnn --data ./photos --init user/digits")
    'chainrule train pixelcnn --data ./photos --init user/digits'
    """
    words = [
        part for word in shlex.split(command) for part in re.sub(r"^(--(?:out|init|data))=", r"\1\0", word).split("\0")
    ]
    for k, (option, value) in enumerate(itertools.pairwise(words), 1):
        if option in ("--out", "-o"):
            words[k - 1 : k + 1] = "--out", f"runs/{Path(value).name}"
        elif option == "--init":
            words[k] = run_without_place(value)
        elif option == "--data":
            words[k] = data_without_place(value)
    return shlex.join(words)


def run_without_place(name: str) -> str:
    """A run's folder as runs/NAME. Models that ship, and those of the Hub, `user/name`, have names of their own."""
    return f"runs/{Path(name).name}" if re.match(r"[/.~]|runs/|[^/]+/[^/]+/", name) else name


def data_without_place(name: str) -> str:
    """Data somewhere as its last part; what lies beside the command stays: it may be called like a dataset."""
    return name if re.fullmatch(r"(\./)?[^/]+/?", name) else Path(name).name


def origin_without_place(content: dict[str, Any]) -> None:
    """The same for a config.json or result.json, in place: the command, the data, and what the run began from."""
    if "command" in content:
        content["command"] = without_place(content["command"])
    recipe, began = content.get("recipe"), content.get("init")
    for holder, key, shorten in (
        (content, "init", run_without_place),
        (began, "model", run_without_place),
        (recipe, "init", run_without_place),
        (recipe, "data", data_without_place),
    ):
        if isinstance(holder, dict) and isinstance(holder.get(key), str):
            holder[key] = shorten(holder[key])


def record(run: Path, dest: Path, points: int = POINTS) -> None:
    """Copy what the report reads of a run.

    Raises:
        DataError: `run` holds no finished run.
    """
    _, rows, _ = read_run(run)
    dest.mkdir(parents=True)
    shutil.copyfile(run / "arrays.npz", dest / "arrays.npz")
    for name in ("config.json", "result.json"):
        content = json.loads((run / name).read_text(encoding="utf-8"))
        origin_without_place(content)
        (dest / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    lines = (json.dumps(row) + "\n" for row in thinned(rows, points))
    (dest / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or not "".join(sys.argv[3:] or "1").isdecimal():
        raise SystemExit("usage: python tools/record.py RUN DEST [POINTS]")
    if Path(sys.argv[2]).exists():
        raise SystemExit(f"{sys.argv[2]} is there already: delete it, or choose another folder")
    try:
        record(Path(sys.argv[1]), Path(sys.argv[2]), int((sys.argv[3:] or [POINTS])[0]))
    except ChainruleError as error:
        raise SystemExit(str(error)) from None
