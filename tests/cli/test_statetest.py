"""``noria evm statetest``: one line per case, and an exit code that can be trusted."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import LIMIT_SECONDS, NORIA, assert_one_line_error, noria
from tests.fixtures import require_fixture

EXAMPLE = "ethereum-tests/GeneralStateTests/stExample"
FIELDS = ["file", "name", "fork", "index", "pass", "stateRoot", "error"]


@pytest.fixture
def example() -> Path:
    return require_fixture(f"{EXAMPLE}/add11.json")


def rows(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def broken(example: Path, target: Path, field: str) -> Path:
    """Write a copy of a test whose expected hash is wrong."""
    document = json.loads(example.read_text())
    for case in document.values():
        for results in case["post"].values():
            for result in results:
                result[field] = "0x" + "11" * 32
    target.write_text(json.dumps(document))
    return target


def test_a_passing_file_gives_a_line_per_case_and_exit_0(example: Path) -> None:
    outcome = noria("evm", "statetest", example)
    assert outcome.returncode == 0, outcome
    expected = json.loads(example.read_text())["add11"]["post"]["Cancun"][0]["hash"]
    (row,) = rows(outcome.stdout)
    assert list(row) == FIELDS
    assert row == {
        "file": str(example),
        "name": "add11",
        "fork": "Cancun",
        "index": 0,
        "pass": True,
        "stateRoot": expected,
        "error": "",
    }


@pytest.mark.parametrize("field", ["hash", "logs"])
def test_a_wrong_expectation_fails(example: Path, tmp_path: Path, field: str) -> None:
    outcome = noria("evm", "statetest", broken(example, tmp_path / "broken.json", field))
    assert outcome.returncode == 1
    (row,) = rows(outcome.stdout)
    assert row["pass"] is False
    assert row["error"]


def test_a_folder_is_searched_and_one_failure_decides(example: Path, tmp_path: Path) -> None:
    (tmp_path / "below" / "deeper").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    good = tmp_path / "below" / "good.json"
    good.write_bytes(example.read_bytes())
    broken(example, tmp_path / ".hidden" / "ignored.json", "hash")
    (tmp_path / "notes.txt").write_text("not a test")
    assert noria("evm", "statetest", tmp_path, "--jobs", "2").returncode == 0
    bad = broken(example, tmp_path / "below" / "deeper" / "bad.json", "hash")
    outcome = noria("evm", "statetest", tmp_path, "--jobs", "2")
    assert outcome.returncode == 1
    assert [(row["file"], row["pass"]) for row in rows(outcome.stdout)] == [
        (str(good), True),
        (str(bad), False),
    ]
    assert "1 failed" in outcome.stderr


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"a": {"env": 1}}', b"[" * 200_000])
def test_a_file_that_is_no_test_is_one_failed_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "malformed.json"
    file.write_bytes(content)
    outcome = noria("evm", "statetest", file)
    assert outcome.returncode == 1
    (row,) = rows(outcome.stdout)
    assert list(row) == FIELDS
    assert row["file"] == str(file)
    assert row["pass"] is False
    assert row["error"]
    assert "Traceback" not in outcome.stderr


def test_a_missing_file_does_not_stop_the_others(example: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    outcome = noria("evm", "statetest", missing, example)
    assert outcome.returncode == 1
    assert [(row["file"], row["pass"]) for row in rows(outcome.stdout)] == [
        (str(missing), False),
        (str(example), True),
    ]


def test_a_fork_can_be_chosen_and_must_exist(example: Path) -> None:
    assert noria("evm", "statetest", example, "--fork", "Cancun").returncode == 0
    assert_one_line_error(noria("evm", "statetest", example, "--fork", "Nonsense"), 1, "Nonsense")


def test_a_folder_without_tests_is_an_error(tmp_path: Path) -> None:
    assert_one_line_error(noria("evm", "statetest", tmp_path), 1, str(tmp_path))


def workers_of(pid: int) -> list[int]:
    """Process ids of the worker processes of a run."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers through /proc")
def test_a_worker_that_dies_loses_no_file() -> None:
    folder = require_fixture("ethereum-tests/GeneralStateTests/stRandom")
    command = [*NORIA, "evm", "statetest", str(folder), "--jobs", "2"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as run:
        assert run.stdout is not None
        first = run.stdout.readline()
        workers = workers_of(run.pid)
        assert workers
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        # Not communicate(): it would miss what readline has read ahead.
        rest = run.stdout.read()
        assert run.wait(timeout=LIMIT_SECONDS) == 0
    found = rows(first + rest)
    assert [row["file"] for row in found] == sorted(map(str, folder.glob("*.json")))
    assert all(row["pass"] for row in found)
