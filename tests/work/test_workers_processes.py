"""Worker processes when the process that has the pool is interrupted, killed, or ends."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.work.programs import Program, assert_gone


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Program]]:
    programs: list[Program] = []
    yield programs
    for program in programs:
        program.end()


def start(programs: list[Program], folder: Path, task: str) -> Program:
    programs.append(Program("tests.work.pool_process", str(folder), task))
    return programs[-1]


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_when_their_pool_is_killed(
    tmp_path: Path, started: list[Program], signal_: signal.Signals
) -> None:
    program = start(started, tmp_path, "run")
    workers = [int(word) for word in program.line().split()]
    assert len(workers) == 2
    program.process.send_signal(signal_)
    for worker in workers:
        assert_gone(worker)


def test_workers_end_although_a_forked_process_holds_their_sockets(
    tmp_path: Path, started: list[Program]
) -> None:
    program = start(started, tmp_path, "forked")
    *workers, child = (int(word) for word in program.line().split())
    program.process.kill()
    try:
        for worker in workers:
            assert_gone(worker)
    finally:
        os.kill(child, signal.SIGKILL)


def test_ctrl_c_in_the_terminal_does_not_reach_the_workers(tmp_path: Path, started: list[Program]) -> None:
    program = start(started, tmp_path, "interrupted")
    worker = int(program.line().split()[0])
    os.killpg(program.process.pid, signal.SIGINT)
    assert program.line() == "interrupted"
    with suppress(ProcessLookupError):
        os.kill(worker, signal.SIGINT)
    assert program.finish() == (0, ["OK 0"], "")
    assert_gone(worker)


def test_the_interpreter_finishes_what_waits_before_it_ends(tmp_path: Path, started: list[Program]) -> None:
    code, lines, complaint = start(started, tmp_path, "finishes").finish()
    assert (code, complaint) == (0, "")
    assert sorted(lines, key=int) == [str(number) for number in range(20)]


def test_an_interrupted_interpreter_waits_for_nothing(tmp_path: Path, started: list[Program]) -> None:
    program = start(started, tmp_path, "raises")
    workers = [int(word) for word in program.line().split()]
    program.process.send_signal(signal.SIGINT)
    code, _, complaint = program.finish()
    assert code == -signal.SIGINT
    assert complaint.count("Traceback") == 1
    for worker in workers:
        assert_gone(worker)


def test_a_forgotten_pool_finishes_and_ends(tmp_path: Path, started: list[Program]) -> None:
    assert start(started, tmp_path, "forgotten").finish() == (0, ["True False"], "")
