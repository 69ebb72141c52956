"""The program of the documentation, in the languages of which a compiler is here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from noria._core import Sandbox

FOLDER = Path(__file__).resolve().parent.parent.parent / "examples" / "words"
TEXTS = [(b"", 0), (b"to be or not to be", 6), (b"  one\ttwo\nthree  ", 3), ("für jeden\n".encode(), 2)]


def c(target: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        "wasm32-wasi",
        "-O2",
        "-s",
        "-o",
        str(target),
        "words.c",
    ]


def rust(target: Path) -> list[str]:
    compiler = shutil.which("rustc")
    assert compiler is not None, "Rust is needed to build the project, too"
    return [compiler, "--edition", "2024", "--target", "wasm32-wasip1", "-O", "-C", "strip=symbols", "-o",
            str(target), "words.rs"]  # fmt: skip


def has_rust_target() -> bool:
    done = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, timeout=30)
    return (Path(done.stdout.strip()) / "lib" / "rustlib" / "wasm32-wasip1" / "lib").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("language", [c, rust])
def test_a_program_runs_as_documented(tmp_path: Path, language: object) -> None:
    if language is rust and not has_rust_target():
        pytest.skip("rustup target add wasm32-wasip1")
    assert callable(language)
    target = tmp_path / "words.wasm"
    done = subprocess.run(language(target), cwd=FOLDER, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    program = Sandbox(tmp_path / "cache").load(target.read_bytes())
    for text, words in TEXTS:
        outcome = program.run(text, 10**8)
        assert (outcome.status, outcome.output, outcome.log) == (
            0,
            f"{words}\n".encode(),
            b"read everything\n",
        )
