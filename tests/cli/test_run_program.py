"""``noria run PROGRAM.wasm``: output, log, summary, exit code; and every way in which it cannot be done."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from noria.work.ids import blob_id, program_id, unit_id
from tests.cli.command import LIMIT_SECONDS, NORIA, assert_one_line_error, noria
from tests.cli.terminal import on_a_terminal
from tests.work.modules import BOMB, ECHO, ENDLESS, FLOOD, NOTHING, SPIN, TRAP, command, large, turns

FUEL = 50_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs, and the compiled code that all tests of this file share."""
    folder = tmp_path_factory.mktemp("run")
    for name, module in [
        ("echo", ECHO), ("nothing", NOTHING), ("trap", TRAP), ("endless", ENDLESS), ("flood", FLOOD),
        ("spin", SPIN), ("bomb", BOMB), ("huge", command(b"", pages=20_000)),
        ("recursion", command(b"\x10\x02")),
    ]:  # fmt: skip
        (folder / f"{name}.wasm").write_bytes(module)
    return folder


@pytest.fixture
def environment(folder: Path) -> Mapping[str, str]:
    return {"NORIA_CACHE": str(folder / "cache")}


def raw(
    *arguments: str | Path, environment: Mapping[str, str], stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*NORIA, "run", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=LIMIT_SECONDS,
        env={**os.environ, **environment},
    )


DATA = bytes(range(256)) + b"\n\xff"


def test_input_becomes_output_and_log(folder: Path, tmp_path: Path, environment: Mapping[str, str]) -> None:
    given = tmp_path / "given"
    given.write_bytes(DATA)
    done = raw(folder / "echo.wasm", "--input", given, environment=environment)
    assert (done.returncode, done.stdout) == (0, DATA)
    log, summary = (
        done.stderr[: -len(done.stderr.splitlines()[-1]) - 1],
        done.stderr.splitlines()[-1].decode(),
    )
    assert log == DATA.decode(errors="replace").encode() + b"\n"
    assert summary.startswith("ok, ")
    assert " fuel, " in summary


def test_standard_input_is_read_only_if_asked(folder: Path, environment: Mapping[str, str]) -> None:
    assert raw(folder / "echo.wasm", "--input", "-", stdin=DATA, environment=environment).stdout == DATA
    assert raw(folder / "echo.wasm", stdin=DATA, environment=environment).stdout == b""


def test_output_goes_to_a_file_whole(folder: Path, tmp_path: Path, environment: Mapping[str, str]) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"before, and longer than what comes" * 100)
    done = raw(folder / "echo.wasm", "-i", "-", "-o", target, stdin=DATA, environment=environment)
    assert (done.returncode, done.stdout) == (0, b"")
    assert target.read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_program_that_fails_leaves_the_output_file_alone(
    folder: Path, tmp_path: Path, environment: Mapping[str, str]
) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"before")
    assert raw(folder / "trap.wasm", "-o", target, environment=environment).returncode == 11
    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("name", "stdin", "code", "words"),
    [
        ("trap", "said before", 11, "status 1 (failed)"),
        ("endless", "", 12, "raise --fuel"),
        ("huge", "", 13, "1 GiB"),
        ("recursion", "", 14, "recursion"),
        ("flood", "x" * 60_000, 15, "64 MiB"),
    ],
)
def test_each_ending_has_an_exit_code_and_advice(
    folder: Path, environment: Mapping[str, str], name: str, stdin: str, code: int, words: str
) -> None:
    fuel = "5e9" if name == "flood" else str(FUEL)
    done = noria(
        "run", folder / f"{name}.wasm", "-i", "-", "--fuel", fuel, stdin=stdin, environment=environment
    )
    assert_one_line_error(done, code, f"{name}.wasm", words)
    assert done.stdout == ""
    assert "fuel, " in done.stderr.splitlines()[-2]


def test_the_log_of_a_program_that_fails_is_shown(folder: Path, environment: Mapping[str, str]) -> None:
    done = noria("run", folder / "trap.wasm", "-i", "-", stdin="my last words", environment=environment)
    assert done.stderr.startswith("my last words\n")


def test_a_memory_bomb_costs_its_fuel_and_nobody_else(folder: Path, environment: Mapping[str, str]) -> None:
    done = noria("run", folder / "bomb.wasm", environment=environment)
    assert done.returncode == 0
    done = noria("run", folder / "bomb.wasm", "--fuel", "1000", environment=environment)
    assert_one_line_error(done, 12, "out of fuel")


def test_json_tells_all(folder: Path, environment: Mapping[str, str]) -> None:
    done = noria(
        "run",
        folder / "echo.wasm",
        "-i",
        "-",
        "--fuel",
        "1e6",
        "--json",
        stdin="hello",
        environment=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    program = program_id(ECHO)
    assert report["status"] == 0
    assert report["program"] == program.hex()
    assert report["unit"] == unit_id(program, blob_id(b"hello"), 10**6).hex()
    assert report["output_id"] == blob_id(b"hello").hex()
    assert (report["output"], report["log"], report["output_bytes"]) == ("hello", "hello", 5)
    assert 0 < report["fuel"] < 10**6


def test_json_of_a_failure_has_the_exit_code_too(folder: Path, environment: Mapping[str, str]) -> None:
    done = noria("run", folder / "endless.wasm", "--fuel", "12345", "--json", environment=environment)
    assert_one_line_error(done, 12, "endless.wasm")
    report = json.loads(done.stdout)
    assert (report["status"], report["fuel"]) == (2, 12345)
    assert "output" not in report


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.wasm", b"(module)", "not a WebAssembly module"),
        ("empty.wasm", b"", "not a WebAssembly module"),
        ("cut.wasm", ECHO[:-7], "invalid module"),
        ("component.wasm", b"\0asm\x0d\0\x01\0", "not a WebAssembly module"),
        ("threads.wasm", b"\0asm\x01\0\0\0\x05\x04\x01\x03\x01\x02", "shared memories"),
    ],
)
def test_what_is_no_program_is_refused(
    tmp_path: Path, environment: Mapping[str, str], name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert_one_line_error(noria("run", tmp_path / name, environment=environment), 1, words)


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path, environment: Mapping[str, str]) -> None:
    with (tmp_path / "huge.wasm").open("wb") as stream:
        stream.write(b"\0asm\x01\0\0\0")
        stream.truncate(257 << 20)
    assert_one_line_error(noria("run", tmp_path / "huge.wasm", environment=environment), 2, "268435456 bytes")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.wasm"], 1, ["missing.wasm", "No such file"]),
        (["."], 2, ["folder"]),
        (["/dev/null"], 2, ["no regular file"]),
        (["data.bin"], 2, ["data.bin", "neither"]),
        (["module.wat"], 2, ["wat2wasm"]),
        (["nothing.wasm", "--input", "missing"], 1, ["missing", "No such file"]),
        (["nothing.wasm", "--output", "missing/out"], 1, ["missing/out", "cannot be written"]),
        (["nothing.wasm", "--output", "."], 2, ["folder"]),
        (["nothing.wasm", "--fuel", "lots"], 2, ["--fuel lots", "whole number"]),
        (["nothing.wasm", "--fuel", "0"], 2, ["--fuel 0"]),
        (["nothing.wasm", "--fuel", "1.5"], 2, ["--fuel 1.5"]),
        (["nothing.wasm", "--fuel", "2e19"], 2, ["--fuel 2e19"]),
        (["nothing.wasm", "--fuel", "1e999999999"], 2, ["--fuel"]),
        (["nothing.wasm", "--map", "lines"], 2, ["--map is for Python scripts"]),
        (["nothing.wasm", "--function", "f"], 2, ["--function is for Python scripts"]),
        ([], 2, ["FILE"]),
    ],
)
def test_mistakes_on_the_command_line_are_told(
    tmp_path: Path, environment: Mapping[str, str], arguments: list[str], code: int, words: list[str]
) -> None:
    (tmp_path / "data.bin").write_bytes(b"\x89PNG")
    (tmp_path / "module.wat").write_text("(module)")
    (tmp_path / "nothing.wasm").write_bytes(NOTHING)
    done = subprocess.run(
        [*NORIA, "run", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=LIMIT_SECONDS,
        env={**os.environ, **environment, "COLUMNS": "200"},
    )
    assert_one_line_error(done, code, *words)


def test_fuel_may_be_written_as_people_do(folder: Path, environment: Mapping[str, str]) -> None:
    for text, fuel in [("1_000", 1000), ("2e3", 2000), ("1.5E4", 15_000)]:
        done = noria("run", folder / "endless.wasm", "--fuel", text, "--json", environment=environment)
        assert json.loads(done.stdout)["fuel"] == fuel


def test_a_disk_without_room_is_told(folder: Path, environment: Mapping[str, str]) -> None:
    done = noria(
        "run", folder / "echo.wasm", "-i", "-", "-o", "/dev/full", stdin="data", environment=environment
    )
    assert_one_line_error(done, 1, "No space left")


def test_a_limit_in_seconds_ends_a_program_that_has_fuel(
    folder: Path, environment: Mapping[str, str]
) -> None:
    began = time.monotonic()
    done = noria(
        "run", folder / "endless.wasm", "--fuel", "3e13", "--seconds", "0.5", environment=environment
    )
    assert_one_line_error(done, 1, "seconds")
    assert time.monotonic() - began < 30


def children(pid: int) -> list[int]:
    """Processes that any thread of a process has started."""
    lists = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for text in lists for child in text.split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers through /proc")
def test_an_interruption_ends_the_program_and_its_worker(
    folder: Path, tmp_path: Path, environment: Mapping[str, str]
) -> None:
    given = tmp_path / "turns"
    given.write_bytes(turns(2**62))
    process = subprocess.Popen(
        [*NORIA, "run", str(folder / "spin.wasm"), "--fuel", "3e13", "-i", str(given)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (workers := children(process.pid)):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_terminal_shows_progress_and_is_not_steered(
    folder: Path, tmp_path: Path, environment: Mapping[str, str]
) -> None:
    given = tmp_path / "given"
    given.write_bytes(b"red \x1b[31m alert\n")
    code, shown = on_a_terminal(str(folder / "echo.wasm"), "-i", str(given), environment=environment)
    assert code == 0
    assert "echo.wasm" in shown
    assert "\x1b[31m" not in shown
    assert shown.count("red \\x1b[31m alert") == 2
    given.write_bytes(DATA)
    code, shown = on_a_terminal(str(folder / "echo.wasm"), "-i", str(given), environment=environment)
    assert code == 1
    assert "--output" in shown


@pytest.mark.slow
def test_a_terminal_shows_how_far_a_compilation_is(tmp_path: Path) -> None:
    (tmp_path / "large.wasm").write_bytes(large(4000))
    code, shown = on_a_terminal(
        str(tmp_path / "large.wasm"), environment={"NORIA_CACHE": str(tmp_path / "cache")}
    )
    assert code == 0
    assert "/4001 functions" in shown


def test_all_processes_share_what_was_compiled(folder: Path, environment: Mapping[str, str]) -> None:
    noria("run", folder / "nothing.wasm", environment=environment)
    before = sorted((folder / "cache").rglob("*.code"))
    assert before
    noria("run", folder / "nothing.wasm", environment=environment)
    assert sorted((folder / "cache").rglob("*.code")) == before
