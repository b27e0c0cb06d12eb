"""The walk's C code for a browser: python -m chainrule.lab.demo.build_wasm

It needs the compiler of `pip install ziglang`, which knows WebAssembly; what it makes is committed and ships with the
package. The code uses no threads, but 128-bit vectors, which browsers have had since 2023. At its end the file names
the sources that it was made from.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

COMPILER = "ziglang==0.17.1"
"""What made the file; another version makes other code of the same meaning."""

WASM = Path(__file__).with_name("walk.wasm")
COMPILED = Path(__file__).parents[2] / "compiled"
SOURCES = [COMPILED / "walk" / f"{name}.c" for name in ("walk", "steps", "encode")]
SOURCES += [COMPILED / "library.c", COMPILED / "squares.c", Path(__file__).with_name("serial.c")]
HEADERS = [*sorted(COMPILED.glob("*.h")), *sorted((COMPILED / "walk").glob("*.h"))]

EXPORTS = ["malloc", "free"]
EXPORTS += [f"chainrule_{name}" for name in ("layout", "pixels", "draw", "score", "decode", "encode")]

# As in setup.py: no sum is reordered, and nothing is fused.
FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fno-strict-aliasing"]
FLAGS += ["-ffp-contract=off", "-target", "wasm32-wasi", "-msimd128", "-mbulk-memory", "-g0", "-s"]
FLAGS += ["-mexec-model=reactor", *(f"-Wl,--export={name}" for name in EXPORTS)]


def build() -> bytes:
    """Compile and link; needs ziglang."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / WASM.name
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, f"-I{COMPILED}", *map(str, SOURCES), "-o", str(made)]
        subprocess.run(command, check=True)
        return made.read_bytes() + section()


def section() -> bytes:
    """A custom section of WebAssembly that holds a digest of the sources and flags."""
    digest = hashlib.sha256(" ".join([COMPILER, *FLAGS]).encode())
    for path in (*SOURCES, *HEADERS):
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n"))
    content = b"\x07sources" + digest.digest()
    return bytes([0, len(content)]) + content


def has_compiler() -> bool:
    """Whether ziglang is installed."""
    return importlib.util.find_spec("ziglang") is not None


if __name__ == "__main__":
    WASM.write_bytes(build())
    print(f"{WASM}: {WASM.stat().st_size:,} bytes")
