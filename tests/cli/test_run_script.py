"""``noria run script.py``: its function runs in the sandbox; mistakes are told in one line."""

import json
from pathlib import Path

import pytest

from tests.cli.command import assert_one_line_error, file_with, noria
from tests.client.runtime import python_runtime


@pytest.fixture(scope="module", autouse=True)
def runtime() -> None:
    python_runtime()


def script(folder: Path, text: str) -> Path:
    return file_with(folder / "script.py", text)


def test_the_result_is_output_and_what_it_prints_is_the_log(tmp_path: Path) -> None:
    path = script(tmp_path, "def main():\n    print('working')\n    return {'answer': [42, 'ü']}\n")
    done = noria("run", path)
    assert (done.returncode, done.stdout) == (0, '{"answer": [42, "ü"]}\n')
    log, summary = done.stderr.splitlines()
    assert log == "working"
    assert summary.startswith("ok, ")


def test_a_function_without_result_leaves_the_output_empty(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys\ndef main():\n    print('only this')\n    sys.exit()\n")
    done = noria("run", path, "--output", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, "")
    assert "only this" in done.stderr
    assert not (tmp_path / "out").exists()


def test_output_goes_to_a_file(tmp_path: Path) -> None:
    done = noria("run", script(tmp_path, "def f(): return [1]\n"), "-f", "f", "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "out").read_text() == "[1]\n"


def test_json_tells_all(tmp_path: Path) -> None:
    path = script(tmp_path, "def main():\n    print('log')\n    return None\n")
    report = json.loads(noria("run", path, "--json").stdout)
    assert (report["result"], report["log"]) == (None, "log\n")
    assert report["fuel"] > 0
    assert len(report["unit"]) == 64
    again = json.loads(noria("run", path, "--json").stdout)
    assert {**again, "seconds": 0} == {**report, "seconds": 0}


REACHING = """
import os, time

def attempt(action):
    try:
        return action()
    except Exception as error:
        return type(error).__name__

def connect():
    import socket
    return socket.create_connection(("127.0.0.1", 80))

def main():
    return [
        attempt(lambda: open(SECRET).read()),
        attempt(lambda: os.listdir("/home")),
        attempt(connect),
        sorted(os.environ),
        time.time(),
    ]
"""


def test_it_cannot_reach_the_machine(tmp_path: Path) -> None:
    secret = file_with(tmp_path / "secret", "mine")
    path = script(tmp_path, REACHING.replace("SECRET", repr(str(secret))))
    outcomes = [json.loads(noria("run", path).stdout) for _ in range(2)]
    assert outcomes[0] == outcomes[1]
    opened, listed, connected, variables, now = outcomes[0]
    assert "mine" not in opened
    assert listed.endswith("Error")
    assert connected.endswith("Error")
    assert "PATH" not in variables
    # The clock counts fuel, from the first of January 2026.
    assert 0 < now - 1_767_225_600 < 60


@pytest.mark.parametrize(
    ("text", "arguments", "code", "words"),
    [
        ("def main():\n    return 1 / 0\n", [], 1, ["script.py", "ZeroDivisionError", "division by zero"]),
        ("def main():\n    raise KeyError\n", [], 1, ["script.py: KeyError"]),
        ("class Odd(Exception): pass\ndef main():\n    raise Odd('a\\nb')\n", [], 1, ["script.Odd: a b"]),
        ("def main():\n    raise SystemExit(3)\n", [], 1, ["SystemExit: 3"]),
        ("def main(x): pass\n", [], 1, ["TypeError", "missing 1 required positional argument"]),
        ("import numpy_or_the_like\ndef main(): pass\n", [], 1, ["ModuleNotFoundError"]),
        ("def main():\n    return b'x'\n", [], 1, ["TypeError", "JSON has no form for bytes"]),
        ("def main():\n    return 'x' * (70 << 20)\n", [], 1, ["67108864 bytes", "split the work"]),
        ("def main():\n    while True: pass\n", ["--fuel", "1e9"], 12, ["OutOfFuel", "--fuel"]),
        ("def main():\n    return bytearray(3 << 29)\n", [], 1, ["MemoryError"]),
        ("main = lambda: main()\n", [], 1, ["RecursionError"]),
        ("def main(:\n", [], 1, ["script.py, line 1"]),
        ("def start(): pass\n", [], 1, ["no function 'main'", "--function"]),
        ("def start(): pass\n", ["-f", "go"], 1, ["no function 'go'"]),
        ("async def main(): pass\n", [], 1, ["asynchronous"]),
        ("def main(): pass\n", ["--input", "x"], 2, ["--input"]),
        ("def main(): return 1\n", ["--output", "/missing/out"], 1, ["/missing/out"]),
    ],
)
def test_failures_are_told_in_one_line(
    tmp_path: Path, text: str, arguments: list[str], code: int, words: list[str]
) -> None:
    done = noria("run", script(tmp_path, text), *arguments)
    lines = done.stderr.splitlines()
    assert done.returncode == code, done
    assert done.stdout == ""
    assert lines[-1].startswith("error: ")
    for word in words:
        assert word in lines[-1]
    # A traceback is of the script's own lines, never of ours.
    assert "/noria/" not in done.stderr
    assert "exec(" not in done.stderr


def test_the_log_is_bounded(tmp_path: Path) -> None:
    done = noria("run", script(tmp_path, "def main():\n    for _ in range(100_000): print('x' * 99)\n"))
    assert done.returncode == 0
    assert 60_000 < len(done.stderr) < 70_000


def test_a_script_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert_one_line_error(noria("run", tmp_path / "missing.py"), 1, "missing.py", "No such file")
    (tmp_path / "folder.py").mkdir()
    assert_one_line_error(noria("run", tmp_path / "folder.py"), 2, "folder")
    (tmp_path / "binary.py").write_bytes(b"\x7fELF\0\xff")
    assert_one_line_error(noria("run", tmp_path / "binary.py"), 1, "binary.py")
    with (tmp_path / "huge.py").open("wb") as stream:
        stream.truncate(1 << 33)
    assert_one_line_error(noria("run", tmp_path / "huge.py"), 1, "huge.py", "bytes of source")
