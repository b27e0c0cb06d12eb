"""One offline page from finished runs, and the same figures for programs.

The page answers the assignment's parts 1 to 3, deliverable by deliverable, and its bonus on compression and on other
models. It shows what run folders hold and computes no result of its own, beyond differences and means.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

import chainrule
from chainrule.atomic import write_bytes
from chainrule.lab.report.bonus import section
from chainrule.lab.report.bonus_runs import read_bonus
from chainrule.lab.report.compression import compressions
from chainrule.lab.report.runs import read_runs
from chainrule.lab.report.sections import page, results

__all__ = ["build"]


def build(
    runs: Sequence[str | Path],
    out: str | Path,
    recorded: Sequence[str | Path] = (),
    bonus: str | Path | None = None,
) -> Path:
    """Make `out/index.html` and `out/results.json` from run folders; returns the path of the page.

    Args:
        runs: folders of finished runs. The first of a recipe stands for it; others of the same recipe (another
            encoding, other data, another seed) become lines of tables and are `recipe@folder` in results.json. A
            folder of the codec's benchmark gives the section on compression.
        out: the report's folder; made if need be.
        recorded: folders of runs that were trained beforehand; they stand beside the others and are labelled as such.
        bonus: a folder of other models at the same budget, see `bonus_runs`; it gives a section of its own, and
            results.json the key `bonus`.

    Raises:
        DataError: a folder holds no finished run, or the bonus folder is missing or damaged.
        ChainruleError: `out` cannot be written.
    """
    read = read_runs(runs, recorded)
    models = None if bonus is None else read_bonus(bonus)
    shown = {"compressions": compressions(read), "bonus": None if models is None else section(models)}
    html = render(page(read) | shown)
    figures = results(read) | ({} if models is None else {"bonus": models.results})
    out = Path(out)
    write_bytes(out / "results.json", (json.dumps(figures, indent=2) + "\n").encode())
    write_bytes(out / "index.html", html.encode())
    return out / "index.html"


def render(content: dict) -> str:
    """The page's HTML. Everything that comes from a run is escaped; only the style sheet is not."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("chainrule.lab", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (resources.files("chainrule.lab.report") / "style.css").read_text(encoding="utf-8")
    template = environment.get_template("page.html.jinja")
    return template.render(**content, style=Markup(style), version=chainrule.__version__)
