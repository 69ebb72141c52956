"""``noria run script.py --map``: one call for each line, and nothing lost or done twice when it is killed."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from noria.cli.run_map import MalformedLine, parse_arguments
from tests.cli.command import LIMIT_SECONDS, NORIA, assert_one_line_error, file_with, noria
from tests.cli.terminal import on_a_terminal
from tests.client.runtime import python_runtime

SCRIPT = """
def main(x, power=2, *, plus=0):
    if x == "say":
        print("said", power)
        return None
    if x == "deep":
        return deep(power)
    return x ** power + plus

def deep(n):
    return deep(n - 1) if n else 1 / n

def endless(n):
    while n < 0:
        pass
    return n

def busy(n):
    total = 0
    for i in range(200_000 + n):
        total = (total * 31 + i) % 1_000_003
    return total
"""


@pytest.fixture(scope="module", autouse=True)
def runtime() -> None:
    python_runtime()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return file_with(tmp_path / "script.py", SCRIPT)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def by_line(text: str) -> dict[int, dict[str, Any]]:
    found = {row["line"]: row for row in rows(text)}
    assert len(found) == len(text.splitlines())
    return found


def test_each_form_of_arguments(script: Path, tmp_path: Path) -> None:
    lines = file_with(tmp_path / "in", '3\n[3, 3]\n{"x": 2, "plus": 1}\n\n[2.5]\n["say", 7]\n')
    done = noria("run", script, "--map", lines)
    assert done.returncode == 0, done
    found = by_line(done.stdout)
    assert {line: row["result"] for line, row in found.items()} == {1: 9, 2: 27, 3: 5, 5: 6.25, 6: None}
    assert {line: row.get("log") for line, row in found.items() if "log" in row} == {6: "said 7\n"}
    assert all(row["fuel"] > 0 and len(row["unit"]) == 64 for row in found.values())
    assert "5 lines done, 0 failed" in done.stderr


def test_failures_of_single_lines_harm_no_others(script: Path, tmp_path: Path) -> None:
    lines = file_with(
        tmp_path / "in",
        '1\n"text"\nnot json\n{"y": 1}\n["deep", 3]\n[1, 2, 3, 4]\nNaN\n{"x":1,"x":2}\n[1e400]\n"\\ud800"\n'
        "2\n",
    )
    output = tmp_path / "out"
    done = noria("run", script, "--map", lines, "--output", output)
    assert_one_line_error(done, 1, "9 of 11 lines failed")
    assert done.stdout == ""
    found = by_line(output.read_text())
    assert list(found) == list(range(1, 12))
    assert (found[1]["result"], found[11]["result"]) == (1, 4)
    errors = {
        line: (row["error"]["type"], row["error"]["message"]) for line, row in found.items() if "error" in row
    }
    assert [errors[line][0] for line in sorted(errors)] == [
        "TypeError", "MalformedLine", "TypeError", "ZeroDivisionError", "TypeError", "MalformedLine",
        "MalformedLine", "ValueError", "TypeError",
    ]  # fmt: skip
    assert "Expecting value" in errors[3][1]
    assert "'x' stands in it twice" in errors[8][1]
    assert "infinity" in errors[9][1]
    frames = found[5]["error"]["traceback"].splitlines()
    assert frames[1] == '  File "script.py", line 7, in main'
    assert "    return deep(n - 1) if n else 1 / n" in frames
    assert all(str(tmp_path) not in line for line in frames)


def test_fuel_bounds_each_call(script: Path, tmp_path: Path) -> None:
    lines = file_with(tmp_path / "in", "1\n-1\n2\n")
    done = noria("run", script, "--function", "endless", "--fuel", "1e9", "--map", lines)
    assert_one_line_error(done, 1, "1 of 3 lines failed")
    found = by_line(done.stdout)
    assert (found[1]["result"], found[3]["result"]) == (1, 2)
    assert found[2]["error"]["type"] == "OutOfFuel"
    assert "--fuel" in found[2]["error"]["message"]
    assert found[2]["fuel"] == 10**9


def test_lines_may_come_through_standard_input(script: Path) -> None:
    done = noria("run", script, "--map", "-", "-j", "1", stdin="2\n3")
    assert done.returncode == 0
    assert [row["result"] for row in rows(done.stdout)] == [4, 9]


def test_progress_on_a_terminal_does_not_take_the_results(script: Path, tmp_path: Path) -> None:
    lines = file_with(tmp_path / "in", "".join(f"{n}\n" for n in range(20)))
    command = [str(script), "-f", "busy", "--map", str(lines)]
    code, shown = on_a_terminal(*command, environment={}, stdout=tmp_path / "out")
    assert code == 0
    assert "script.py" in shown
    assert sorted(by_line((tmp_path / "out").read_text())) == list(range(1, 21))
    assert "result" not in shown
    code, shown = on_a_terminal(*command, environment={})
    assert code == 0
    assert shown.count('"result": ') == 20
    assert "\x1b" not in shown


def test_nothing_to_do_is_done(script: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = noria("run", script, "--map", file_with(tmp_path / "in", "\n \n"), "--output", output)
    assert (done.returncode, output.read_text()) == (0, "")


def test_two_runs_leave_the_same_bytes_and_a_third_does_nothing(script: Path, tmp_path: Path) -> None:
    lines = file_with(tmp_path / "in", "".join(f"{n}\n" for n in range(30)) + "oops\n")
    for name in ("one", "two"):
        assert noria("run", script, "--map", lines, "--output", tmp_path / name).returncode == 1
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert [row["line"] for row in rows((tmp_path / "one").read_text())] == list(range(1, 32))
    before = (tmp_path / "one").stat()
    again = noria("run", script, "--map", lines, "--output", tmp_path / "one")
    assert_one_line_error(again, 1, "1 of 31 lines failed")
    assert "31 done before, 0 fuel" in again.stderr
    after = (tmp_path / "one").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("change", ["script", "input", "fuel", "function", "shorter"])
def test_results_of_something_else_are_never_mixed_in(script: Path, tmp_path: Path, change: str) -> None:
    lines, output = file_with(tmp_path / "in", "0\n1\n2\n"), tmp_path / "out"
    command: list[str | Path] = ["run", script, "--map", lines, "--output", output]
    assert noria(*command).returncode == 0
    before = output.read_bytes()
    if change == "script":
        script.write_text(SCRIPT.replace("31", "37"))
    elif change in ("input", "shorter"):
        lines.write_text("0\n3\n2\n" if change == "input" else "0\n1\n")
    else:
        command += ["--fuel", "1e11"] if change == "fuel" else ["--function", "endless"]
    words = "no more" if change == "shorter" else "of another script, function, input, fuel limit or runtime"
    assert_one_line_error(noria(*command), 1, words, "--output")
    assert output.read_bytes() == before


@pytest.fixture
def long_run(script: Path, tmp_path: Path) -> tuple[list[str], Path]:
    lines = file_with(tmp_path / "in", "".join(f"{n}\n" for n in range(40)))
    output = tmp_path / "out"
    return [*NORIA, "run", str(script), "-f", "busy", "--map", str(lines), "-o", str(output)], output


def interrupt(command: list[str], output: Path, results: int, with_signal: signal.Signals) -> tuple[int, str]:
    """Start a run, and send it a signal when it has written so many results."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not output.exists() or output.read_bytes().count(b"\n") < results:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(with_signal)
        return process.wait(timeout=LIMIT_SECONDS), process.stderr.read() if process.stderr else ""


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(long_run: tuple[list[str], Path], tmp_path: Path) -> None:
    command, output = long_run
    finished: list[bytes] = []
    for results in (3, 10, 20):
        code, _ = interrupt(command, output, results, signal.SIGKILL)
        assert code == -signal.SIGKILL
        now = output.read_bytes()
        # What was finished stays, byte for byte, before what has been added.
        assert now.startswith(b"".join(finished))
        whole = now[: now.rfind(b"\n") + 1]
        assert whole.count(b"\n") >= results
        finished = [whole]
    # As a kill in the middle of writing would leave it.
    with output.open("ab") as stream:
        stream.write(b'{"line": 9, "resu')
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert done.returncode == 0, done
    assert f"{finished[0].count(bytes([10]))} done before" in done.stderr
    fresh = tmp_path / "fresh"
    subprocess.run([*command[:-1], str(fresh)], check=True, capture_output=True, timeout=LIMIT_SECONDS)
    assert output.read_bytes() == fresh.read_bytes()
    assert [row["line"] for row in rows(fresh.read_text())] == list(range(1, 41))


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on(long_run: tuple[list[str], Path]) -> None:
    command, output = long_run
    code, err = interrupt(command, output, 2, signal.SIGINT)
    assert code == 130
    assert "Traceback" not in err
    assert "interrupted: " in err
    assert "run the same command again to go on" in err
    there = len(rows(output.read_text()))
    assert 2 <= there < 40
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert done.returncode == 0
    assert f"{there} done before" in done.stderr
    assert [row["line"] for row in rows(output.read_text())] == list(range(1, 41))


@pytest.mark.slow
def test_two_runs_do_not_write_one_file(long_run: tuple[list[str], Path]) -> None:
    command, output = long_run
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not output.exists() or not output.read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGSTOP)  # Or it might end before the second begins.
        second = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
        process.send_signal(signal.SIGCONT)
        assert_one_line_error(second, 1, "written by another process")
        assert process.wait(timeout=LIMIT_SECONDS) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--map", "missing"], 1, ["missing", "No such file"]),
        (["--map", "."], 2, ["folder"]),
        (["--map", "in", "--function", "nothing"], 1, ["no function 'nothing'", "--function"]),
        (["--map", "in", "--output", "in"], 2, ["both in"]),
        (["--map", "in", "--output", "notes"], 2, ["notes", "no result of this command"]),
        (["--map", "in", "--output", "missing/out"], 1, ["missing/out", "cannot be written"]),
        (["--map", "in", "--output", "/dev/null"], 2, ["no regular file"]),
        (["--map", "in", "--input", "in"], 2, ["--input is for WebAssembly"]),
        (["--map", "in", "--json"], 2, ["leave out --json"]),
    ],
)
def test_mistakes_on_the_command_line_are_told(
    script: Path, tmp_path: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    (tmp_path / "in").write_text("1\n")
    (tmp_path / "notes").write_text("my notes\n")
    done = subprocess.run(
        [*NORIA, "run", "script.py", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert_one_line_error(done, code, *words)
    assert (tmp_path / "in").read_text() == "1\n"
    assert (tmp_path / "notes").read_text() == "my notes\n"


def test_a_runtime_that_is_not_installed_is_told(script: Path, tmp_path: Path) -> None:
    lines = file_with(tmp_path / "in", "1\n")
    done = noria("run", script, "--map", lines, environment={"NORIA_CACHE": str(tmp_path / "empty")})
    assert_one_line_error(done, 1, "noria runtime install python")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "not JSON"),
        (b"1 2", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"'a'", "not JSON"),
        (b"\xff", "UTF-8"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b'[{"a": 1, "a": 1}]', "'a' stands in it twice"),
        (b"[" * 200_000, "nested too deeply"),
        (b"1" * 5000, "not JSON"),
        (b'"' + b"x" * (64 << 20) + b'"', "longer than"),
    ],
)
def test_malformed_lines_have_a_reason(data: bytes, words: str) -> None:
    with pytest.raises(MalformedLine, match=words):
        parse_arguments(data)


def test_a_disk_without_room_loses_nothing(script: Path, tmp_path: Path) -> None:
    lines = file_with(tmp_path / "in", "".join(f"{n}\n" for n in range(20)))
    output = tmp_path / "out"
    limited = f"ulimit -f 1; exec {' '.join(NORIA)} run {script} --map {lines} --output {output}"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert_one_line_error(done, 1, "too large")
    assert output.stat().st_size <= 1024
    assert noria("run", script, "--map", lines, "--output", output).returncode == 0
    assert [row["line"] for row in rows(output.read_text())] == list(range(1, 21))
