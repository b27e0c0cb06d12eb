"""What is said of the package in more than one place is the same in all, and what an index shows stands by itself."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

import pytest
import setuptools

from chainrule.compiled.library import place

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]


@pytest.fixture
def setup_file(monkeypatch):
    """setup.py as a module, without what it does."""
    monkeypatch.setattr(setuptools, "setup", lambda **options: None)
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("setup_file", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_version():
    """pyproject.toml has it; the citation and the changelog's last release follow, of one day."""
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    releases = re.findall(
        r"^## \[([0-9][^]]*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert f"\nversion: {PROJECT['version']}\n" in citation
    assert releases[0][0] == PROJECT["version"]
    assert f"\ndate-released: {releases[0][1]}\n" in citation


@pytest.mark.parametrize("home", [None, "https://example.org/chainrule"])
def test_the_page_on_an_index_has_no_links_that_lead_nowhere(home, setup_file):
    """Absolute ones where the project has a home; else words alone, and no picture."""
    urls = {} if home is None else {"Source": home}
    page = setup_file.index_page({"urls": urls, "version": "1.2.3"})
    links = re.findall(r"\]\(([^)]*)\)", page)
    assert all(re.match("https?:|#", link) for link in links)
    assert "The [guide]" in page if home else "The guide says" in page
    if home:
        assert f"{home}/raw/v1.2.3/docs/images/samples.png" in links
        assert f"{home}/blob/v1.2.3/docs/guide.md" in links
    else:
        assert "![" not in page


@pytest.mark.parametrize("built", [True, False])
def test_one_wheel_for_all_pythons(built, setup_file, tmp_path):
    """Of one platform with compiled code, of all without; the library's name is that which Python looks for."""
    distribution = setuptools.Distribution(
        {
            "name": "chainrule",
            "version": "1.2.3",
            "ext_modules": [setuptools.Extension(setup_file.NAME, [])],
            "cmdclass": {"build_ext": setup_file.BuildLibrary},
        }
    )
    distribution.get_command_obj("build").build_base = str(tmp_path)
    library = Path(distribution.get_command_obj("build_ext", create=True).get_finalized_command("build").build_lib)
    library = library / "chainrule" / "compiled" / place().name
    if built:
        library.parent.mkdir(parents=True)
        library.touch()
    wheel = setup_file.Wheel(distribution)
    wheel.ensure_finalized()
    python, abi, platform = wheel.get_tag()
    assert (python, abi) == ("py3", "none")
    assert (platform != "any") == built == (not wheel.root_is_pure)


def test_a_wheel_is_small():
    """What is installed takes at most 4 MB, packed as a wheel packs it."""
    package = ROOT / "src" / "chainrule"
    patterns = ["**/*.py", *SETTINGS["tool"]["setuptools"]["package-data"]["chainrule"]]
    files = {path for pattern in patterns for path in package.glob(pattern) if path.is_file()}
    assert any(path.name == "model.safetensors.xz" for path in files)
    if place().exists():
        files.add(place())
    listing = 200 * len(files)  # an entry in the wheel's own list, and a line in its RECORD
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) + listing <= 4_000_000


def test_the_source_archive_is_whole(tmp_path):
    """All that a checkout has, but for what belongs to its hosts."""
    git = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT)
    if git.returncode:
        pytest.skip("this is no checkout")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    listed = set((tmp_path / "chainrule.egg-info" / "SOURCES.txt").read_text(encoding="utf-8").splitlines())
    tracked = {name for name in git.stdout.split("\0") if name and (ROOT / name).exists()}
    left_out = {name for name in tracked - listed if not name.startswith((".ci/", ".github/", ".gitignore"))}
    assert left_out == set()
    assert not any(name.endswith((".so", ".pyc")) for name in listed)


def test_links_of_the_readme_lead_somewhere():
    for link in re.findall(r"\]\((?!https?:|#)([^)#]*)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert (ROOT / link).exists(), link


def test_what_is_imported_is_declared():
    """Other packages, by the names under which they are imported."""
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    declared = {re.match(r"[\w-]+", entry)[0].lower().replace("-", "_") for entries in lists for entry in entries}
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    named_otherwise = {"PIL": "pillow", "sklearn": "scikit_learn"}
    foreign = {named_otherwise.get(name, name) for name in imported - sys.stdlib_module_names - {"chainrule"}}
    assert {"markupsafe", "torch", "pillow"} <= foreign
    assert foreign - declared == set()
