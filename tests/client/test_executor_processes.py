"""Whole programs that use the executor: interrupted, killed, and at their end."""

import signal
from collections.abc import Iterator

import pytest

from tests.client.runtime import python_runtime
from tests.work.programs import Program, assert_gone


@pytest.fixture
def started() -> Iterator[list[Program]]:
    python_runtime()
    programs: list[Program] = []
    yield programs
    for program in programs:
        program.end()


def start(programs: list[Program], task: str) -> Program:
    programs.append(Program("tests.client.executor_process", task))
    return programs[-1]


@pytest.mark.parametrize("task", ["waits", "waits_outside"])
def test_ctrl_c_ends_the_program_and_everything_that_it_started(started: list[Program], task: str) -> None:
    program = start(started, task)
    workers = [int(word) for word in program.line().split()]
    program.process.send_signal(signal.SIGINT)
    code, lines, complaint = program.finish()
    assert (code, lines) == (-signal.SIGINT, [])
    assert complaint.count("KeyboardInterrupt") == 1
    assert "noria" not in complaint.replace("noria/client", "")[-200:]
    for worker in workers:
        assert_gone(worker)


def test_killed_programs_leave_nothing(started: list[Program]) -> None:
    program = start(started, "waits")
    workers = [int(word) for word in program.line().split()]
    program.process.kill()
    for worker in workers:
        assert_gone(worker)


def test_the_interpreter_ends_after_the_last_call_and_prints_nothing_of_its_own(
    started: list[Program],
) -> None:
    code, lines, complaint = start(started, "ends").finish()
    assert (code, complaint) == (0, "")
    assert sorted(lines, key=int) == ["0", "2", "4", "6", "8"]


def test_nothing_is_taken_when_the_interpreter_ends(started: list[Program]) -> None:
    code, lines, complaint = start(started, "late").finish()
    assert (code, lines, complaint) == (0, ["cannot schedule new futures after shutdown"], "")
