"""The part of the build that pyproject.toml cannot say: compiled code that may be left out.

`optional` makes a failed compilation a warning; without the code, PyTorch takes the steps of every walk, and
`chainrule.compiled.library.why_missing` says so.
"""

import sys
from glob import glob

from setuptools import Extension, setup

FOLDER = "src/chainrule/compiled"

# Values are compared and chosen, never trapped or told apart by the sign of zero; no sum is reordered.
# Debug sections would be most of the file.
FLAGS = ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fno-strict-aliasing", "-g0"]

setup(
    ext_modules=[
        Extension(
            "chainrule.compiled._compiled",
            sources=sorted(glob(f"{FOLDER}/**/*.c", recursive=True)),
            depends=sorted(glob(f"{FOLDER}/**/*.h", recursive=True)),
            include_dirs=[FOLDER],
            extra_compile_args=["-O3", "-pthread", *FLAGS],
            extra_link_args=["-pthread", *(["-s"] if sys.platform == "linux" else [])],
            optional=True,
        )
    ]
)
