"""Who may import whom: the tiers, read from the source."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import chainrule

TIERS = {
    0: ["errors", "files", "gray", "masks", "metrics", "data"],
    1: ["native", "nn", "heads", "sampling", "graphs"],
    2: ["models"],
    3: [
        *("optim", "averaging", "allocator", "batches", "evaluation", "checkpoint", "progress", "settings"),
        *("training", "exact"),
    ],
    4: ["zoo", "recipes"],
    5: ["codec"],
    6: ["provenance", "experiment", "tuning", "bench", "quality"],
    7: ["report"],
    8: ["cli", "__main__"],
}
TIER = {room: tier for tier, rooms in TIERS.items() for room in rooms}
TOP = "chainrule"
TOP_TIER = 5
"""The top package offers what stands below the run folders."""
FROM_TOP = {"__version__"}
"""All that a room above it may take from there: everything else has a room of its own."""


def read_sources(root):
    """{module name: source} of a package folder."""
    modules = {}
    for path in sorted(root.rglob("*.py")):
        parts = [TOP, *path.relative_to(root).with_suffix("").parts]
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return modules


class Imports(ast.NodeVisitor):
    """The modules of this package that a module imports, at its top or inside functions, but not for types alone."""

    def __init__(self, module, is_package, modules):
        self.module, self.modules = module, modules
        self.found, self.taken = set(), set()
        self.package = module if is_package else module.rpartition(".")[0]

    def visit_If(self, node):
        name = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", None)
        for child in node.orelse if name == "TYPE_CHECKING" else [node.test, *node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node):
        for alias in node.names:
            self.add(alias.name)

    def visit_ImportFrom(self, node):
        base = node.module or ""
        if node.level:
            above = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
            base = ".".join([*above, base] if base else above)
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            is_module = inner in self.modules or self.is_room(inner)
            self.add(inner if is_module else base)
            if base == TOP and not is_module:
                self.taken.add(alias.name)

    def visit_Attribute(self, node):
        if isinstance(node.value, ast.Name) and node.value.id == TOP:
            self.taken.add(node.attr)
        self.generic_visit(node)

    def visit_Call(self, node):
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        if name in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
            self.add(str(node.args[0].value))
        self.generic_visit(node)

    def is_room(self, name):
        return name.removeprefix(f"{TOP}.") in TIER

    def add(self, name):
        if name == TOP or name.startswith(f"{TOP}."):
            self.found.add(name)


def room(module):
    """A module's room: the first part of its name below the package."""
    return module.split(".")[1] if "." in module else TOP


def violations(modules):
    """Sentences about every arrow that should not be."""
    said, files, rooms = [], {}, {}
    for module, source in modules.items():
        is_package = any(other.startswith(f"{module}.") for other in modules)
        visitor = Imports(module, is_package, modules)
        visitor.visit(ast.parse(source))
        here = room(module)
        if here != TOP and here not in TIER:
            said.append(f"{module} belongs to no room")
            continue
        tier = TOP_TIER if here == TOP else TIER[here]
        for target in sorted(visitor.found):
            there = room(target)
            if there == TOP:
                if tier <= TOP_TIER or not visitor.taken <= FROM_TOP:
                    said.append(f"{module} imports the top package")
                continue
            if there not in TIER:
                said.append(f"{module} imports {target}, which belongs to no room")
                continue
            if TIER[there] > tier:
                said.append(f"{module} (tier {tier}) imports {target} (tier {TIER[there]})")
            files.setdefault(module, set()).add(target)
            if here not in (there, TOP):
                rooms.setdefault(here, set()).add(there)
    for graph in (files, rooms):
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            said.append(f"a circle: {' → '.join(reversed(error.args[1]))}")
    return said


def test_imports_run_one_way():
    """No arrow to a higher tier, no circle, no file outside the plan."""
    assert violations(read_sources(Path(chainrule.__file__).parent)) == []


def test_the_reader_sees_the_arrows():
    """The law would be empty if the reader found no imports: some that are there for certain."""
    modules = read_sources(Path(chainrule.__file__).parent)
    found = {}
    for module in (
        "chainrule.models.likelihood",
        "chainrule.sampling",
        "chainrule.lab.experiment",
        "chainrule.lab.provenance",
        "chainrule.zoo",
    ):
        visitor = Imports(module, module == TOP, modules)
        visitor.visit(ast.parse(modules[module]))
        found[module] = visitor.found
    assert {"chainrule.heads", "chainrule.sampling", "chainrule.models.base"} <= found["chainrule.models.likelihood"]
    # The models that it names are for the types alone.
    assert found["chainrule.sampling"] == {"chainrule.errors", "chainrule.sampling.graphs"}
    assert {"chainrule.data", "chainrule.metrics"} <= found["chainrule.lab.experiment"]
    assert "chainrule" in found["chainrule.lab.provenance"]
    assert "chainrule.models" in found["chainrule.zoo"]


@pytest.mark.parametrize(
    ("module", "source", "sentence"),
    [
        ("chainrule.masks", "from chainrule.models import MADE", "(tier 0) imports chainrule.models (tier 2)"),
        (
            "chainrule.nn.conv",
            "import chainrule.training.fitting",
            "(tier 1) imports chainrule.training.fitting (tier 3)",
        ),
        ("chainrule.nn.conv", "from chainrule import training", "(tier 1) imports chainrule.training.fitting (tier 3)"),
        ("chainrule.nn.conv", "from ..training import fit", "(tier 1) imports chainrule.training.fitting (tier 3)"),
        ("chainrule.nn.conv", "def f():\n    from chainrule.zoo import load", "imports chainrule.zoo (tier 4)"),
        ("chainrule.nn.conv", "import importlib\nimportlib.import_module('chainrule.zoo')", "imports chainrule.zoo"),
        ("chainrule.lab.recipes", "import chainrule", "chainrule.lab.recipes imports the top package"),
        ("chainrule.lab.recipes", "from chainrule import load", "chainrule.lab.recipes imports the top package"),
        ("chainrule.cli", "from chainrule import load", "chainrule.cli imports the top package"),
        ("chainrule.cli", "import chainrule\nchainrule.load()", "chainrule.cli imports the top package"),
        ("chainrule", "from chainrule.cli import main", "imports chainrule.cli (tier 8)"),
        ("chainrule.utils", "", "chainrule.utils belongs to no room"),
        ("chainrule.zoo", "import chainrule.utils", "imports chainrule.utils, which belongs to no room"),
        ("chainrule.heads.categorical", "from chainrule.nn import MADENetwork", "a circle"),
        ("chainrule.nn.conv", "from chainrule.nn import MADENetwork", "a circle"),
    ],
)
def test_each_kind_of_wrong_arrow_is_found(module, source, sentence):
    """A wrong arrow, planted, is named."""
    planted = {
        "chainrule": "",
        "chainrule.models": "",
        "chainrule.training.fitting": "",
        "chainrule.zoo": "",
        "chainrule.cli": "from chainrule import __version__, zoo\nimport chainrule\nchainrule.__version__",
        "chainrule.lab.recipes": "",
        "chainrule.nn": "from chainrule.nn.conv import Conv",
        "chainrule.nn.conv": "from chainrule.heads.categorical import pmf",
        "chainrule.heads.categorical": "",
    }
    assert violations(planted) == []
    planted[module] = f"{planted.get(module, '')}\n{source}"
    said = violations(planted)
    assert any(sentence in line for line in said), said


def test_imports_for_types_do_not_count():
    """What only a type checker runs is no arrow; its else branch is."""
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from chainrule.cli import main\n"
    modules = {"chainrule.masks": guarded, "chainrule.cli": ""}
    assert violations(modules) == []
    modules["chainrule.masks"] += "else:\n    from chainrule.cli import main\n"
    assert len(violations(modules)) == 1
