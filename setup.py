"""The part of the build that pyproject.toml cannot say: compiled code that may be left out.

`optional` makes a failed compilation a warning; without the code, PyTorch takes the steps of every walk.
"""

from glob import glob

from setuptools import Extension, setup

# Values are compared and chosen, never trapped or told apart by the sign of zero; no sum is reordered.
FLAGS = ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fno-strict-aliasing"]

setup(
    ext_modules=[
        Extension(
            "chainrule.compiled._compiled",
            sources=sorted(glob("src/chainrule/compiled/**/*.c", recursive=True)),
            depends=sorted(glob("src/chainrule/compiled/**/*.h", recursive=True)),
            include_dirs=["src/chainrule/compiled"],
            extra_compile_args=["-O3", "-pthread", *FLAGS],
            extra_link_args=["-pthread"],
            optional=True,
        )
    ]
)
