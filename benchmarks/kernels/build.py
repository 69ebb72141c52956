"""Build ``kernels.wasm`` and ``units.wasm`` from their sources, or check that they are what those compile to.

    python -m benchmarks.kernels.build [--check]

Needs the package ``ziglang`` at the version below, whose compiler gives everybody the same
bytes. The modules are committed, so that measuring needs no compiler.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
SOURCE: Final = HERE / "kernels.c"
MODULE: Final = HERE / "kernels.wasm"
UNITS: Final = HERE / "units.wasm"
"""The same kernels as a program whose units say which of them, and how often."""
MODULES: Final = {MODULE: SOURCE, UNITS: HERE / "units.c"}
ZIG: Final = "0.17.1"
FLAGS: Final = [
    *("-target", "wasm32-wasi", "-mexec-model=reactor", "-msimd128"),
    *("-O3", "-ffp-contract=off", "-Wl,--strip-all"),
]
SECONDS: Final = 600


def compiler() -> str | None:
    """Why the compiler cannot be used, or nothing."""
    try:
        version = importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        return f"the compiler is missing: pip install ziglang=={ZIG}"
    return None if version == ZIG else f"ziglang is {version}: pip install ziglang=={ZIG}"


def build(source: Path, target: Path) -> None:
    """Compile a source."""
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-o", str(target), str(source)]
    subprocess.run(command, check=True, timeout=SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args()
    if problem := compiler():
        raise SystemExit(problem)
    for module, source in MODULES.items():
        if not options.check:
            build(source, module)
            continue
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / module.name
            build(source, target)
            if target.read_bytes() != module.read_bytes():
                raise SystemExit(f"{module.name} is not what {source.name} compiles to: build and commit it")


if __name__ == "__main__":
    main()
