"""The walk's C code for a browser: python -m chainrule.lab.demo.build_wasm

It needs the compiler of `pip install ziglang`, which knows WebAssembly; what it makes is committed and ships with the
package. There are no threads, and 128-bit vectors, which browsers have had since 2023.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

COMPILED = Path(__file__).parents[2] / "compiled"
SOURCES = [*(COMPILED / "walk" / f"{name}.c" for name in ("walk", "steps", "fronts", "encode")), COMPILED / "library.c"]
WASM = Path(__file__).with_name("walk.wasm")
COMPILER = "0.17.1"
"""The version of ziglang that made the file."""

FUNCTIONS = ("layout", "pixels", "draw", "score", "decode", "encode", "fronts_draw")
EXPORTS = ["malloc", "free", *(f"chainrule_{name}" for name in FUNCTIONS)]

# As in setup.py: no sum is reordered, nothing is fused.
FLAGS = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
]
FLAGS += ["-target", "wasm32-wasi", "-msimd128", "-mbulk-memory", "-g0", "-s", "-mexec-model=reactor", f"-I{COMPILED}"]


def build(path: Path) -> None:
    """Compile and link."""
    sources = [*SOURCES, Path(__file__).with_name("serial.c")]
    exports = [f"-Wl,--export={name}" for name in EXPORTS]
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *exports, *map(str, sources), "-o", str(path)]
    subprocess.run(command, check=True)


def has_compiler() -> bool:
    """Whether ziglang is installed."""
    return importlib.util.find_spec("ziglang") is not None


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / WASM.name
        build(made)
        WASM.write_bytes(made.read_bytes())
    print(f"{WASM}: {WASM.stat().st_size:,} bytes")
