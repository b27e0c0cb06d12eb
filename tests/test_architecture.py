"""Who may import whom, how long a file may be, and how deep a call: read from the source, and from a run."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import torch

import chainrule
from chainrule import evaluation, fixedpoint
from chainrule.models import PixelCNNMADE
from laws import events

TIERS = {
    0: [
        "contract",
        "lazily",
        "plugins",
        "hub",
        "model_card",
        "errors",
        "version",
        "forking",
        "atomic",
        "stopping",
        "masks",
        "metrics",
        "unpacking",
        "data",
    ],
    1: ["nn", "heads", "sampling"],
    2: ["models"],
    3: ["evaluation", "training", "fixedpoint", "compiled"],
    4: ["zoo", "claims"],
    5: ["codec"],
    6: ["lab"],
    7: ["cli", "__main__"],
}
TIER = {room: tier for tier, rooms in TIERS.items() for room in rooms}
TOP = "chainrule"
TOP_TIER = 5
"""The top package offers what stands below the laboratory."""
FROM_TOP = {"__version__"}
"""All that a room above it may take from there: everything else has a room of its own."""
PLUG_INS = {"compiled"}
"""Rooms that nothing may import but themselves and what is above the library: `plugins` alone knows their names."""
PACKAGE = Path(chainrule.__file__).parent
LONGEST_FILE = 300
KERNELS = {"conv2d", "linear", "layer_norm", "addmm"}
"""PyTorch's functions that multiply."""
COMPILED = {"Block.forward", "LayerNorm.forward", "score"}
"""This package's functions that call the compiled code."""


def read_sources(root):
    """{module name: source} of a package folder."""
    modules = {}
    for path in sorted(root.rglob("*.py")):
        parts = [TOP, *path.relative_to(root).with_suffix("").parts]
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return modules


class Imports(ast.NodeVisitor):
    """What a module imports of this package: at its top, in functions, for types alone, or by lazy names."""

    def __init__(self, module, is_package, modules):
        self.module, self.modules = module, modules
        self.found, self.taken = set(), set()
        self.package = module if is_package else module.rpartition(".")[0]

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

    def visit_Assign(self, node):
        if [getattr(target, "id", None) for target in node.targets] == ["_HOMES"]:  # names that are imported when used
            for home in ast.literal_eval(node.value).values():
                self.add(f"{self.module}.{home}")
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
            if there in PLUG_INS and here != there and tier <= TOP_TIER:
                said.append(f"{module} imports the plug-in {target}")
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
    """No arrow to a higher tier, no circle, no file outside the plan; imports for types and lazy names count."""
    assert violations(read_sources(PACKAGE)) == []


def test_the_reader_sees_the_arrows():
    """The law would be empty if the reader found no imports: some that are there for certain."""
    modules = read_sources(PACKAGE)
    found = {}
    for module in (TOP, "chainrule.models.image", "chainrule.sampling.walking", "chainrule.zoo"):
        visitor = Imports(module, module == TOP, modules)
        visitor.visit(ast.parse(modules[module]))
        found[module] = visitor.found
    assert {"chainrule.heads", "chainrule.contract", "chainrule.models.base"} <= found["chainrule.models.image"]
    assert {"chainrule.contract", "chainrule.sampling.engines"} <= found["chainrule.sampling.walking"]
    assert "chainrule.models" in found["chainrule.zoo"]
    assert {"chainrule.codec", "chainrule.zoo", "chainrule.training"} <= found[TOP]


@pytest.mark.parametrize(
    ("module", "source", "sentence"),
    [
        ("chainrule.masks", "from chainrule.models import MADE", "(tier 0) imports chainrule.models (tier 2)"),
        ("chainrule.nn.conv", "import chainrule.training", "(tier 1) imports chainrule.training (tier 3)"),
        ("chainrule.nn.conv", "from chainrule import training", "(tier 1) imports chainrule.training (tier 3)"),
        ("chainrule.nn.conv", "from ..training import fit", "(tier 1) imports chainrule.training (tier 3)"),
        ("chainrule.nn.conv", "def f():\n    from chainrule.zoo import load", "imports chainrule.zoo (tier 4)"),
        ("chainrule.nn.conv", "import importlib\nimportlib.import_module('chainrule.zoo')", "imports chainrule.zoo"),
        (
            "chainrule.nn.conv",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from chainrule.zoo import load",
            "(tier 1) imports chainrule.zoo (tier 4)",
        ),
        ("chainrule.zoo", "from chainrule.compiled import available", "imports the plug-in chainrule.compiled"),
        ("chainrule.zoo", "import chainrule", "chainrule.zoo imports the top package"),
        ("chainrule.zoo", "from chainrule import load", "chainrule.zoo imports the top package"),
        ("chainrule.cli", "from chainrule import load", "chainrule.cli imports the top package"),
        ("chainrule.cli", "import chainrule\nchainrule.load()", "chainrule.cli imports the top package"),
        ("chainrule", "from chainrule.cli import main", "imports chainrule.cli (tier 7)"),
        ("chainrule", "_HOMES = {'build': 'lab.report'}", "imports chainrule.lab.report (tier 6)"),
        ("chainrule.utils", "", "chainrule.utils belongs to no room"),
        ("chainrule.zoo", "import chainrule.utils", "imports chainrule.utils, which belongs to no room"),
        ("chainrule.nn.conv", "from chainrule.heads.softmax import Softmax", "a circle"),
        ("chainrule.nn.conv", "from chainrule.nn import MADENetwork", "a circle"),
    ],
)
def test_each_kind_of_wrong_arrow_is_found(module, source, sentence):
    """A wrong arrow, planted, is named."""
    planted = {
        "chainrule": "",
        "chainrule.models": "",
        "chainrule.training": "",
        "chainrule.zoo": "",
        "chainrule.compiled": "",
        "chainrule.lab.report": "",
        "chainrule.cli": "from chainrule import __version__, zoo\nimport chainrule\nchainrule.__version__",
        "chainrule.nn": "from chainrule.nn.conv import Conv",
        "chainrule.nn.conv": "",
        "chainrule.heads.softmax": "from chainrule.nn.conv import Conv",
    }
    assert violations(planted) == []
    planted[module] = f"{planted.get(module, '')}\n{source}"
    said = violations(planted)
    assert any(sentence in line for line in said), said


def test_no_two_files_share_a_name():
    """A name means one thing: `training.py` in three rooms meant three."""
    names = Counter(path.name for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_file_is_long():
    """A file that grows asks to be split by meaning."""
    lengths = {path.relative_to(PACKAGE): len(path.read_text("utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {str(path): n for path, n in lengths.items() if n > LONGEST_FILE} == {}


@pytest.mark.parametrize("form", ["float", "exact"])
def test_a_kernel_is_few_calls_away(form, engine):
    """From bits_per_dim to what multiplies, PyTorch or the compiled code, counted in frames of this package."""
    torch.manual_seed(0)
    model = PixelCNNMADE((3, 4, 4), 4, filters=64, blocks=1)
    model = fixedpoint.exact(model) if form == "exact" else model
    limit = 11 if (form, engine) == ("exact", "torch") else 9  # there each layer puts its input on a grid first
    deepest, stack = [], []

    def watch(frame, event, argument):
        if event == "c_call" and getattr(argument, "__name__", "") in KERNELS and len(stack) > len(deepest):
            deepest[:] = stack
        if frame.f_globals.get("__name__", "").split(".")[0] != TOP:
            return
        if event == "call":
            stack.append(frame.f_code.co_qualname)
        elif event == "return" and stack.pop() in COMPILED and len(stack) >= len(deepest):
            deepest[:] = [*stack, frame.f_code.co_qualname]

    sys.setprofile(watch)
    try:
        evaluation.bits_per_dim(model, events(model, 4))
    finally:
        sys.setprofile(None)
    assert 3 < len(deepest) <= limit, deepest


SAME_BITS = """
import hashlib, torch, chainrule as cr
shipped = cr.exact(cr.load("colored-mnist"))
x = torch.arange(2352).view(1, 3, 28, 28) % 5 % 4
given = shipped.site_log_probs(x)
torch.manual_seed(0)
small = cr.exact(cr.PixelCNNMADE((3, 4, 4), 4, filters=8, blocks=1))
drawn = small.sample(9, generator=torch.Generator().manual_seed(5))
images = drawn.permute(0, 2, 3, 1).numpy().astype("uint8")
blob = cr.compress(small, images)
assert (cr.decompress(small, blob) == images).all()
found = [hashlib.sha256(part).hexdigest() for part in (given.numpy().tobytes(), images.tobytes(), blob)]
"""
WITHOUT_COMPILED = f"""{SAME_BITS}
from chainrule.sampling import engines
assert "compiled" not in engines.FASTER, engines.FASTER
print(*found)
"""


@pytest.mark.slow
def test_without_the_plug_in_everything_works_and_gives_the_same(tmp_path):
    """The folder `compiled` deleted: slower, and bit for bit the same likelihoods, samples and archives."""
    copy = tmp_path / TOP
    for path in PACKAGE.rglob("*"):
        inside = path.relative_to(PACKAGE)
        if path.is_file() and inside.parts[0] != "compiled" and "__pycache__" not in inside.parts:
            (copy / inside).parent.mkdir(parents=True, exist_ok=True)
            (copy / inside).write_bytes(path.read_bytes())
    command = [sys.executable, "-c", WITHOUT_COMPILED]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path)}
    )
    assert result.returncode == 0, result.stderr
    here: dict[str, Any] = {}
    exec(SAME_BITS, here)
    assert result.stdout.split() == here["found"]
