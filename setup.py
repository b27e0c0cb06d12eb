"""The parts of the build that pyproject.toml cannot say: compiled code that may be left out, and the index's page.

`optional` makes a failed compilation a warning; without the code, PyTorch takes the steps of every walk, and
`chainrule.compiled.library.why_missing` says so.
"""

import os
import re
import sys
import tomllib
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDER = "src/chainrule/compiled"
NAME = "chainrule.compiled._compiled"

# Values are compared and chosen, never trapped or told apart by the sign of zero; no sum is reordered.
# Debug sections would be most of the file.
FLAGS = ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fno-strict-aliasing", "-g0"]


class BuildLibrary(build_ext):
    """A plain shared library: it includes no Python.h and ctypes loads it, so one file serves every Python."""

    def get_ext_filename(self, fullname):
        return os.path.join(*fullname.split(".")) + ".so"

    def get_export_symbols(self, ext):
        return None  # all; never a PyInit

    def get_libraries(self, ext):
        return ext.libraries  # never Python's own


class Wheel(bdist_wheel):
    """One wheel a platform for all Pythons, and one for all platforms where nothing was compiled."""

    def get_tag(self):
        library = self.get_finalized_command("build_ext").get_ext_fullpath(NAME)
        self.root_is_pure = not os.path.exists(library)
        return "py3", "none", super().get_tag()[2]


def index_page(project):
    """README.md for an index, where nothing lies beside it: links into the repository are absolute or, as long as
    [project.urls] names no Source, plain words, and there is no picture."""
    text = Path("README.md").read_text(encoding="utf-8")
    home, version = project["urls"].get("Source"), project["version"]
    if home:
        text = re.sub(r"(!\[[^]]*\]\()(?!https?:|#)", rf"\1{home}/raw/v{version}/", text)
        return re.sub(r"(?<!!)(\[[^]]*\]\()(?!https?:|#)", rf"\1{home}/blob/v{version}/", text)
    text = re.sub(r"!\[[^]]*\]\((?!https?:)[^)]*\)\n*", "", text)
    return re.sub(r"\[([^]]*)\]\((?!https?:|#)[^)]*\)", r"\1", text)


setup(
    long_description=index_page(tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]),
    long_description_content_type="text/markdown",
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": Wheel},
    ext_modules=[
        Extension(
            NAME,
            sources=sorted(glob(f"{FOLDER}/**/*.c", recursive=True)),
            depends=sorted(glob(f"{FOLDER}/**/*.h", recursive=True)),
            include_dirs=[FOLDER],
            extra_compile_args=["-O3", "-pthread", *FLAGS],
            extra_link_args=["-pthread", *(["-s"] if sys.platform == "linux" else [])],
            optional=True,
        )
    ],
)
