"""One offline page from finished runs, and the same figures for programs.

The page answers the assignment's parts 1 to 3, deliverable by deliverable, and its bonus on compression and on other
models. It shows what run folders hold and computes no result of its own, beyond differences and means; what the
figures mean is written in docs/results.md and docs/bonus.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import chainrule
from chainrule.atomic import write_bytes
from chainrule.lab.report.bonus_folder import read_bonus
from chainrule.lab.report.page import content
from chainrule.lab.report.readers import read_runs

__all__ = ["build"]

DEMO = "demo.html"


def build(
    runs: Sequence[str | Path],
    out: str | Path,
    recorded: Sequence[str | Path] = (),
    bonus: str | Path | None = None,
) -> Path:
    """Make `out/index.html` and `out/results.json` from run folders; returns the path of the page.

    Args:
        runs: folders of finished runs. The first of a recipe stands for it; others of the same recipe (another
            encoding, other data, another seed) are `recipe@folder` in results.json. A folder of the codec's benchmark
            gives the section on compression.
        out: the report's folder; made if need be. If it holds a page of `chainrule demo`, demo.html, the report links
            to it.
        recorded: folders of runs that were trained beforehand; they stand beside the others and are labelled as such.
        bonus: a folder of other models at the same budget, see `bonus_folder`; it gives a section of its own, and
            results.json the key `bonus`.

    Raises:
        DataError: a folder holds no finished run, or the bonus folder is missing or damaged.
        ChainruleError: `out` cannot be written.
    """
    read = read_runs(runs, recorded)
    models = None if bonus is None else read_bonus(bonus)
    out = Path(out)
    html = render({**content(read, models), "demo": (out / DEMO).is_file()})
    results: dict[str, Any] = {
        run.key: {**run.result, "folder": run.folder.name, "trained_beforehand": run.recorded} for run in read
    }
    if models is not None:
        results["bonus"] = models.results
    write_bytes(out / "results.json", (json.dumps(results, indent=2) + "\n").encode())
    write_bytes(out / "index.html", html.encode())
    return out / "index.html"


def render(shown: dict[str, Any]) -> str:
    """The page's HTML. Everything that comes from a run is escaped; only the style sheet is not."""
    loader = jinja2.PackageLoader("chainrule.lab", "report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = (resources.files(__name__) / "style.css").read_text(encoding="utf-8")
    template = environment.get_template("page.html.jinja")
    return template.render(**shown, style=Markup(style), version=chainrule.__version__)
