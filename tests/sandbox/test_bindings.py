"""The sandbox as Python sees it: every class, every error."""

import threading
from pathlib import Path

import pytest

from noria import _core
from noria.primitives.types import FUEL_MAX

ENGINES = ("wasmtime", "baseline", "pulley", "wasmi")


def _section(number: int, *entries: bytes) -> bytes:
    body = bytes([len(entries)]) + b"".join(entries)
    return bytes([number, len(body)]) + body


def _name(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def command(body: bytes, *, memory: bytes = b"\x00\x01", export: str = "_start") -> bytes:
    """A module whose ``_start`` runs ``body``: instructions without locals."""
    code = b"\x00" + body + b"\x0b"
    return (
        b"\0asm\x01\0\0\0"
        + _section(1, b"\x60\0\0")
        + _section(3, b"\0")
        + _section(5, memory)
        + _section(7, _name("memory") + b"\x02\0", _name(export) + b"\0\0")
        + _section(10, bytes([len(code)]) + code)
    )


NOTHING = command(b"")
UNREACHABLE = command(b"\x00")
ENDLESS = command(b"\x03\x40\x0c\x00\x0b")
RECURSION = command(b"\x10\x00")


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_same_outcomes(tmp_path: Path, engine: str) -> None:
    sandbox = _core.Sandbox(tmp_path / "cache", engine)
    assert sandbox.engine == engine
    for module, status in [(NOTHING, 0), (UNREACHABLE, 1), (ENDLESS, 2), (RECURSION, 4)]:
        outcome = sandbox.load(module).run(b"input", 10_000_000)
        assert outcome.status == status
        assert (outcome.output, outcome.log) == (b"", b"")
        assert outcome.fuel == (10_000_000 if status == 2 else outcome.fuel)
    assert sandbox.progress()[0] == "idle"


def test_a_compiled_program_is_found_by_its_name(tmp_path: Path) -> None:
    sandbox = _core.Sandbox(tmp_path)
    name = _core.blake3(b"noria/program/1" + NOTHING)
    assert sandbox.load_cached(name) is None
    assert sandbox.load(NOTHING).id == name
    cached = _core.Sandbox(str(tmp_path)).load_cached(name, {"data/file": b"contents"})
    assert cached is not None
    assert cached.run(b"", 10_000).status == 0
    assert "status=0" in repr(cached.run(b"", 10_000))


def test_what_is_too_large_at_the_start_has_a_status(tmp_path: Path) -> None:
    large = command(b"", memory=b"\x00\x81\x80\x01")
    outcome = _core.Sandbox(tmp_path).load(large).run(b"", 100)
    assert (outcome.status, outcome.fuel) == (3, 0)


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (b"", "not-webassembly"),
        (b"#!/bin/sh", "not-webassembly"),
        (NOTHING[:-3], "invalid"),
        (command(b"", memory=b"\x04\x01"), "feature"),
        (command(b"", export="__noria_counter"), "reserved-export"),
        (command(b"", export="main"), "not-a-command"),
    ],
)
def test_programs_that_cannot_run_are_refused_by_kind(tmp_path: Path, module: bytes, kind: str) -> None:
    with pytest.raises(_core.InvalidProgram) as refused:
        _core.Sandbox(tmp_path).load(module)
    found, message = refused.value.args
    assert found == kind
    assert len(message) > 20


def test_mistakes_of_the_caller_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no engine"):
        _core.Sandbox(tmp_path, "v8")
    sandbox = _core.Sandbox(tmp_path)
    with pytest.raises(ValueError, match=r"no path of a file"):
        sandbox.load(NOTHING, {"/absolute": b""})
    with pytest.raises(ValueError, match="32 bytes"):
        sandbox.load_cached(b"short")
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(_core.CacheFailure, match="others may write"):
        _core.Sandbox(open_to_all)


def test_a_module_is_inspected_and_instrumented() -> None:
    found = _core.inspect(NOTHING)
    assert found["program_id"] == _core.blake3(b"noria/program/1" + NOTHING)
    assert (found["functions"], found["memory_pages"], found["exceptions"]) == (1, (1, None), False)
    assert ("_start", "function") in found["exports"]
    instrumented = _core.instrument(NOTHING)
    assert b"__noria_counter" in instrumented
    with pytest.raises(_core.InvalidProgram):
        _core.instrument(instrumented)
    assert _core.INSTRUMENTER_VERSION >= 1
    assert _core.FUEL_MAX == FUEL_MAX


def test_a_running_unit_does_not_hold_the_interpreter(tmp_path: Path) -> None:
    endless = _core.Sandbox(tmp_path).load(ENDLESS)
    outcomes: list[_core.Outcome] = []
    worker = threading.Thread(target=lambda: outcomes.append(endless.run(b"", 200_000_000)))
    worker.start()
    turns = 0
    while worker.is_alive():
        worker.join(0.001)
        turns += 1
    assert outcomes[0].status == 2
    assert turns > 3, "this thread ran while the unit did"
