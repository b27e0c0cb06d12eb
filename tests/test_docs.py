"""The documentation: every page has its place, every link leads somewhere, and pictures show what they say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import chainrule
from chainrule import fixedpoint

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))
PAGES = [*sorted(page for page in DOCS.rglob("*.md") if page.with_suffix(".py") not in NOTEBOOKS), *NOTEBOOKS]


def tool(name):
    """A script of the folder `tools` as a module."""
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def places(nav):
    """All pages of a navigation."""
    for entry in nav:
        for target in entry.values():
            if isinstance(target, list):
                yield from places(target)
            else:
                yield target


def test_every_page_is_in_the_navigation():
    """And the navigation names no page that is not there; a notebook's page is named .md."""
    named = list(places(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(named) == sorted(page.relative_to(DOCS).with_suffix(".md").as_posix() for page in PAGES)


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG"))],
    ids=lambda page: page.name,
)
def test_links_lead_somewhere(page):
    """Pages, pictures and included files exist, from where they are named."""
    text = page.read_text()
    for target in LINK.findall(text):
        path = target.partition("#")[0]
        if not path or re.match(r"[a-z]+:", target):
            continue
        found = page.parent / path
        is_notebook = found.suffix == ".md" and found.with_suffix(".py").is_file()
        assert found.exists() or is_notebook, f"{page.name}: {target}"
    for included in re.findall(r'^--8<-- "(.+)"$', text, re.MULTILINE):
        assert (ROOT / included).is_file()


def test_whatever_is_exported_is_in_the_reference():
    """By its own name, or with the module that it lives in."""
    shown = set(re.findall(r"^::: (\S+)", "\n".join(page.read_text() for page in DOCS.rglob("*.md")), re.MULTILINE))
    for name in set(chainrule.__all__) - {"__version__"}:
        assert shown & {f"chainrule.{name}", getattr(chainrule, name).__module__}, name
    for target in shown:
        module, _, name = target.rpartition(".")
        assert importlib.util.find_spec(target) if module not in sys.modules else hasattr(sys.modules[module], name), (
            target
        )


@pytest.mark.slow
def test_drawings_are_drawn_anew(tmp_path):
    """Each is shown on a page and kept in the repository; the fronts of a photograph are counted in the picture."""
    drawings = tool("drawings")
    drawings.main(tmp_path)
    text = (DOCS / "how-it-works.md").read_text()
    for name in drawings.FIGURES:
        assert f"(images/{name})" in text
        assert (drawings.IMAGES / name).is_file()
        assert (tmp_path / name).read_text().startswith("<svg")
    assert "2,340 steps" in text
    assert "2,340 steps" in (tmp_path / "wavefront.svg").read_text()


def test_the_drawing_of_sums_shows_real_ones():
    """In 1,000 orders a float layer's sum has several values, an exact layer's one."""
    model = chainrule.load("colored-mnist")
    x = torch.randn(64, generator=torch.Generator().manual_seed(0)).relu()
    layers = model.trunk.hidden, fixedpoint.exact(model).trunk.hidden
    floating, exact = (spread for _, _, spread in tool("drawings").order_spreads(*layers, x))
    assert np.ptp(floating) >= 2
    assert np.ptp(exact) == 0


def test_doctests_are_shown_as_code():
    """A fence around every doctest, at its own indent, up to the next empty line, and nowhere else."""
    pytest.importorskip("griffe", reason="needs the extra docs")
    fenced = tool("docs_doctests").fenced
    assert fenced("Text.\n\nExample:\n    >>> a\n    1\n    >>> b\n\nMore.\n") == (
        "Text.\n\nExample:\n    ```pycon\n    >>> a\n    1\n    >>> b\n    ```\n\nMore.\n"
    )
    assert fenced("a > b >>> c") == "a > b >>> c"
