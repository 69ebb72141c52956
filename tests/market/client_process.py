"""A user's program: ``python -m tests.market.client_process JSON``. It says what happens, in JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, as_completed
from itertools import pairwise
from typing import Any

import msgspec

from noria import Executor


def spin(number: int, rounds: int) -> int:
    value = number
    for _ in range(rounds):
        value = (value * 1_103_515_245 + 12_345) % 2_147_483_648
    return value


def trivial(number: int) -> int:
    return number * 7 + 1


def say(**what: Any) -> None:
    # In one piece: threads say something, too.
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def watch(executor: Executor, first: Future[Any]) -> None:
    """Say when the job gets somewhere, until the first result."""
    told = ""
    while not first.done():
        state = executor.job.state
        if state != told and executor.job.id is not None:
            told = state
            say(state=state, job=executor.job.id)
        time.sleep(0.02)


def main(task: dict[str, Any]) -> None:
    warnings.simplefilter("ignore")
    units, rounds = task["units"], task["rounds"]
    wanted = {number: spin(number, rounds) for number in range(units)} if task.get("checks", True) else {}
    with Executor(progress=False, **task.get("settings", {})) as executor:
        futures: dict[Future[int], int] = {}
        for number in range(units):
            futures[executor.submit(spin, number, rounds)] = number
        watch(executor, next(iter(futures)))
        wrong = failed = 0
        for done, future in enumerate(as_completed(futures), 1):
            error = future.exception()
            failed += error is not None
            if error is not None:
                say(error=type(error).__name__, message=str(error))
            elif wanted and future.result() != wanted[futures[future]]:
                wrong += 1
            say(done=done)
        say(end=True, wrong=wrong, failed=failed)
        if task.get("holds"):
            # The job is ended when somebody says so.
            sys.stdin.readline()
    view = executor.stats()
    say(view=msgspec.to_builtins(view), wrong=wrong, failed=failed, peak_bytes=peak_bytes())


def many(task: dict[str, Any]) -> None:
    """Trivial units, one call each, with the speed of every tenth part."""

    def numbers() -> Iterator[int]:
        yield from range(task["units"])

    with Executor(progress=False, **task.get("settings", {})) as executor:
        marks = [time.monotonic()]
        step = task["units"] // 10
        for number, result in enumerate(executor.map(trivial, numbers(), chunksize=1, buffersize=512)):
            assert result == trivial(number)
            if number == 0:
                marks[0] = time.monotonic()
            if (number + 1) % step == 0:
                marks.append(time.monotonic())
                say(done=number + 1)
    view = executor.stats()
    seconds = [later - earlier for earlier, later in pairwise(marks)]
    say(view=msgspec.to_builtins(view), seconds=seconds, peak_bytes=peak_bytes())


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    {"spin": main, "many": many}[given.get("task", "spin")](given)
