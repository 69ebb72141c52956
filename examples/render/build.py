"""Compile the path tracer: ``python -m examples.render.build [FILE]``; the same bytes on every machine.

The module beside this file is what this command made. A program is named by the hash of its bytes, so a test
compiles it again and compares.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULE = HERE / "pathtracer.wasm"
SOURCE = HERE / "pathtracer.c"
OPTIONS = ("-target", "wasm32-wasi", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-s")


def build(target: Path) -> None:
    """Compile with the C compiler of the package ``ziglang``."""
    command = [sys.executable, "-m", "ziglang", "cc", *OPTIONS, "-o", str(target), SOURCE.name]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        hint = "; pip install ziglang==0.17.1" if "No module named" in done.stderr else ""
        raise SystemExit(f"error: the path tracer was not compiled: {done.stderr.strip()}{hint}")


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else MODULE)
