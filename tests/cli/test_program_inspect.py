"""``noria program inspect``: what a module is, and why one is refused."""

import json
from pathlib import Path

import pytest

from examples.render.build import MODULE
from noria.work.ids import program_id
from tests.cli.command import assert_one_line_error, noria
from tests.work.modules import ECHO, command, name, section


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    path = tmp_path / "echo.wasm"
    path.write_bytes(ECHO)
    return path


def test_a_program_is_described(echo: Path) -> None:
    done = noria("program", "inspect", echo)
    assert (done.returncode, done.stderr) == (0, "")
    rows = dict(line.split(":", 1) for line in done.stdout.splitlines())
    assert rows["program"].strip() == program_id(ECHO).hex()
    assert rows["imports"].strip() == "fd_read, fd_write"
    assert "131,072 bytes at the start, 1 GiB at most" in rows["memory"]
    assert "`noria run` runs it" in rows["profile"]


def test_json_has_the_same_and_more() -> None:
    done = noria("program", "inspect", MODULE, "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    module = MODULE.read_bytes()
    assert found["accepted"] is True
    assert (found["program"], found["bytes"]) == (program_id(module).hex(), len(module))
    assert found["command"] is True
    assert found["memory_bytes"] % 65_536 == 0
    assert found["instrumented_bytes"] > len(module)
    assert "wasi_snapshot_preview1.fd_write" in found["imports"]
    assert found["features"] == []


SIMD = command(b"\xfd\x0c" + bytes(16) + b"\x1a")
LIBRARY = (
    b"\0asm\x01\0\0\0" + section(1, b"\x60\0\0") + section(3, b"\0") + section(7, name("f") + b"\0\0")
    + section(10, b"\x02\0\x0b")
)  # fmt: skip


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (SIMD, "simd"),
        (LIBRARY, "not a command"),
        (command(b"", pages=20_000), "every run ends with status 3"),
    ],
)
def test_what_is_special_is_told(tmp_path: Path, module: bytes, words: str) -> None:
    (tmp_path / "special.wasm").write_bytes(module)
    done = noria("program", "inspect", tmp_path / "special.wasm")
    assert done.returncode == 0
    assert words in done.stdout


FOREIGN = (
    b"\0asm\x01\0\0\0" + section(1, b"\x60\0\0") + section(2, name("env") + name("\x1b[31mred") + b"\0\0")
)


@pytest.mark.parametrize(
    ("module", "kind", "words"),
    [
        (b"", "not-webassembly", "binary format"),
        (b"\x7fELF" + bytes(100), "not-webassembly", "binary format"),
        (ECHO[:-5], "invalid", "cut short"),
        (ECHO[:40] + b"\xff" + ECHO[41:], "invalid", "build it again"),
        (command(b"\xfe\x03\0"), "feature", "build it without"),
        (command(b"", pages=70_000), "invalid", "memory"),
        (FOREIGN, "import", "wasm32-wasi"),
        (ECHO.replace(b"\x06_start", b"\x06__nori"), None, "not a command"),
    ],
)
def test_a_refused_module_is_told_with_reason_and_remedy(
    tmp_path: Path, module: bytes, kind: str | None, words: str
) -> None:
    (tmp_path / "odd.wasm").write_bytes(module)
    done = noria("program", "inspect", tmp_path / "odd.wasm")
    assert words in done.stdout
    assert done.returncode == (0 if kind is None else 1)
    assert "\x1b" not in done.stdout
    found = json.loads(noria("program", "inspect", tmp_path / "odd.wasm", "--json").stdout)
    assert found["accepted"] is (kind is None)
    if kind is not None:
        assert found["refusal"]["kind"] == kind
        assert found["refusal"]["advice"]
        if kind in ("invalid", "feature", "import"):
            assert 0 < found["refusal"]["offset"] <= len(module)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert_one_line_error(noria("program", "inspect", tmp_path / "missing.wasm"), 1, "No such file")
    assert_one_line_error(noria("program", "inspect", tmp_path), 1, "directory")
