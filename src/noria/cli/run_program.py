"""One run of a WebAssembly program: stdin is the input, stdout the output, stderr the log."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from noria.cli.errors import BadArgument
from noria.cli.units import (
    ADVICE,
    ENDINGS,
    Display,
    Limits,
    UnitFailed,
    await_unit,
    read_input,
    show_log,
    summary,
    writer,
)
from noria.work.receipts import Status

if TYPE_CHECKING:
    from noria.work.workers import Outcome, UnitFuture

MODULE_BYTES_MAX: Final = 256 << 20
INPUT_BYTES_MAX: Final = 256 << 20


def run_program(
    path: Path, input_file: str | None, output: Path | None, limits: Limits, *, as_json: bool
) -> None:
    """Run a program once and write its output.

    Raises
    ------
    UnitFailed
        If it ended with another status than ok.
    InvalidProgram, MachineFailure, CacheFailure
        If it did not run.
    """
    from noria.work.folders import compiled_folder
    from noria.work.ids import program_id
    from noria.work.workers import ProgramSource, WorkerPool

    module = read_module(path)
    given = read_input(input_file, INPUT_BYTES_MAX)
    source = ProgramSource(program_id(module), path.resolve())
    with writer(output) as write:
        with (
            WorkerPool(1, cache=compiled_folder(), wall_seconds=limits.seconds) as pool,
            Display(path.name) as display,
        ):
            future = pool.submit(source, given, limits.fuel)
            outcome = await_unit(future, pool, display)
        if outcome.status == Status.OK and (output is not None or not as_json):
            write(outcome.output)
    if as_json:
        print(json.dumps(_report(future, outcome, with_output=output is None)))
    else:
        show_log(outcome.log)
        print(summary(outcome.status, outcome.fuel, outcome.seconds), file=sys.stderr)
    if outcome.status != Status.OK:
        status = outcome.status
        raise UnitFailed(
            status, f"{path.name} ended with status {status:d} ({ENDINGS[status]}): {ADVICE[status]}"
        )


def read_module(path: Path) -> bytes:
    """Read a module, which may be as long as the sandbox takes."""
    with path.open("rb") as stream:
        module = stream.read(MODULE_BYTES_MAX + 1)
    if len(module) > MODULE_BYTES_MAX:
        raise BadArgument(
            f"{path} is longer than {MODULE_BYTES_MAX} bytes, which no program is: name another file"
        )
    return module


def _report(future: UnitFuture[Outcome], outcome: Outcome, *, with_output: bool) -> dict[str, Any]:
    record = future.record
    assert record is not None
    report: dict[str, Any] = {
        "status": int(outcome.status),
        "ending": ENDINGS[outcome.status],
        "fuel": outcome.fuel,
        "seconds": round(outcome.seconds, 6),
        "program": future.program.id.hex(),
        "unit": record.unit_id.hex(),
        "output_id": record.output_id.hex(),
        "output_bytes": len(outcome.output),
        "log": outcome.log.decode(errors="replace"),
    }
    return report | (output_fields(outcome.output) if with_output and outcome.status == Status.OK else {})


def output_fields(output: bytes) -> dict[str, str]:
    """Say an output in JSON: as text if it is some."""
    try:
        return {"output": output.decode()}
    except UnicodeDecodeError:
        return {"output_base64": base64.b64encode(output).decode()}
