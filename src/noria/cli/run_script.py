"""One call of a Python script's function in the sandbox."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.cli.errors import CommandError, one_line
from noria.cli.units import (
    ADVICE,
    ENDINGS,
    Display,
    Limits,
    UnitFailed,
    await_unit,
    show_log,
    summary,
    writer,
)
from noria.work.receipts import Status

if TYPE_CHECKING:
    from noria.work.scripts import ScriptFunction
    from noria.work.workers import Outcome, ProgramSource, UnitFuture


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call has no result."""

    type: str
    message: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one call: a result, which may be None, or a failure."""

    result: Any
    failure: Failure | None
    log: str


def run_script(path: Path, function: str, output: Path | None, limits: Limits, *, as_json: bool) -> None:
    """Call a function without arguments; what it returns is the output, what it prints the log.

    Raises
    ------
    CommandError
        If it raised an exception, or the unit ended with another status than ok.
    """
    from noria.work.folders import compiled_folder
    from noria.work.workers import WorkerPool

    called = read_function(path, function)
    runtime = python_runtime()
    with writer(output) as write:
        with (
            WorkerPool(1, cache=compiled_folder(), wall_seconds=limits.seconds) as pool,
            Display(path.name) as display,
        ):
            future = pool.put(unit_of(runtime, called.call((), {}), limits.fuel))
            answer = await_unit(future, pool, display)
        if answer.failure is None and not as_json and answer.result is not None:
            write(json.dumps(answer.result, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")
    record = future.record
    assert record is not None
    if as_json:
        print(json.dumps(report_of(answer, future) | {"seconds": round(record.seconds, 6)}))
    else:
        show_log(record.log)
        if answer.failure is not None and answer.failure.traceback:
            show_log(answer.failure.traceback.encode(errors="backslashreplace"))
        ending = summary(record.status, record.fuel, record.seconds)
        if answer.failure is not None and record.status == Status.OK:
            ending = ending.replace(ENDINGS[Status.OK], "raised an exception", 1)
        print(ending, file=sys.stderr)
    if answer.failure is not None:
        message = ": ".join(filter(None, (path.name, answer.failure.type, one_line(answer.failure.message))))
        raise UnitFailed(record.status, message) if record.status != Status.OK else CommandError(message)


def read_function(path: Path, function: str) -> ScriptFunction:
    """Read a script, which is not executed here, and choose its function."""
    from noria.work.scripts import read_script

    return read_script(path).function(function)


def python_runtime() -> ProgramSource:
    """Find the installed Python runtime."""
    from noria.work.runtimes import installed
    from noria.work.workers import ProgramSource

    runtime = installed("python")
    return ProgramSource(runtime.program_id, runtime.path)


def unit_of(runtime: ProgramSource, archive: bytes, fuel: int) -> UnitFuture[Answer]:
    """Make the unit of one call; its result tells a failed call like any other."""
    from noria.work.workers import UnitFuture

    return UnitFuture(runtime, archive, fuel, conclude)


def conclude(outcome: Outcome) -> Answer:
    """Make an answer of how a unit ended."""
    from noria.work.functions import RemoteError, RemoteTraceback, decode_result

    log = outcome.log.decode(errors="replace")
    if outcome.status != Status.OK:
        name = outcome.status.name.title().replace("_", "")
        return Answer(None, Failure(name, f"{ENDINGS[outcome.status]}: {ADVICE[outcome.status]}"), log)
    try:
        return Answer(json.loads(decode_result(outcome.output)), None, log)
    except RemoteError as error:
        if error.kind == "builtins:SystemExit" and error.message in ("", "None", "0"):
            return Answer(None, None, log)
        kind, message, cause = (
            error.kind.removeprefix("builtins:").replace(":", "."),
            error.message,
            error.__cause__,
        )
    except Exception as error:
        kind, message, cause = type(error).__qualname__, str(error), error.__cause__
        if not type(error).__module__.startswith(("builtins", "noria.")):
            kind = f"{type(error).__module__}.{kind}"
    traceback = cause.text if isinstance(cause, RemoteTraceback) else None
    return Answer(None, Failure(kind, message, traceback), log)


def report_of(answer: Answer, future: UnitFuture[Answer]) -> dict[str, Any]:
    """Say all about a call that is the same on every machine, in plain values."""
    record = future.record
    assert record is not None
    return described(answer, record.fuel, record.unit_id.hex())


def described(answer: Answer, fuel: int, unit: str) -> dict[str, Any]:
    """Say in plain values how a call ended, what it burned, and by which name its unit is known again."""
    report: dict[str, Any] = {}
    if answer.failure is None:
        report["result"] = answer.result
    else:
        report["error"] = {"type": answer.failure.type, "message": answer.failure.message}
        if answer.failure.traceback:
            report["error"]["traceback"] = answer.failure.traceback
    report |= {"fuel": fuel, "unit": unit}
    return report | ({"log": answer.log} if answer.log else {})
