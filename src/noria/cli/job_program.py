"""``noria job run program.wasm``: a WebAssembly program on miners' machines, once for each input."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from noria.cli.errors import BadArgument, CommandError, one_line
from noria.cli.run_program import output_fields
from noria.cli.units import (
    ADVICE,
    ENDINGS,
    REFRESH_SECONDS,
    STDIO,
    Display,
    UnitFailed,
    read_input,
    show_log,
    summary,
    writer,
)
from noria.market.messages import BLOB_BYTES_MAX
from noria.work.receipts import Status

if TYPE_CHECKING:
    from noria.client.network_futures import NetworkFuture
    from noria.client.program_executor import ProgramExecutor

ROOM: Final = 64
"""Inputs that wait or run at any time."""
SUFFIX: Final = ".out"


@dataclass(frozen=True, slots=True)
class Task:
    """An input, and where its output goes: a file, or None for standard output."""

    input: str | None
    output: Path | None

    @property
    def name(self) -> str:
        """What people call it."""
        return "no input" if self.input is None else self.input


def tasks_of(inputs: Sequence[str], output: Path | None, folder: Path | None) -> list[Task]:
    """Say where each output goes, before anything runs.

    Raises
    ------
    BadArgument
        Where that makes no sense.
    """
    if output is not None and folder is not None:
        raise BadArgument("--output names one file, --output-dir a folder for all: leave out one of them")
    if inputs.count(STDIO) > 1:
        raise BadArgument("--input - is standard input, which is there once: name it once")
    for name in inputs:
        if name != STDIO:
            # What is missing is said before a job is opened.
            Path(name).open("rb").close()
    if folder is None:
        if len(inputs) > 1:
            raise BadArgument(f"{len(inputs)} inputs have as many outputs: name a folder with --output-dir")
        with writer(output):
            return [Task(inputs[0] if inputs else None, output)]
    files = {Path(name).resolve() for name in inputs if name != STDIO}
    tasks: list[Task] = []
    for name in inputs:
        target = folder / f"{_base(name)}{SUFFIX}"
        if any(task.output == target for task in tasks):
            raise BadArgument(f"--output-dir {folder}: several outputs would be {target}: rename an input")
        if target.resolve() in files:
            raise BadArgument(f"--output-dir {folder}: {target} is an input, and would be overwritten")
        tasks.append(Task(name, target))
    if not tasks:
        raise BadArgument("--output-dir is for the outputs of inputs: name some with --input")
    folder.mkdir(parents=True, exist_ok=True)
    return tasks


def _base(name: str) -> str:
    return "stdin" if name == STDIO else Path(name).name


def run_inputs(
    executor: ProgramExecutor, tasks: Sequence[Task], receipts: Path | None, *, as_json: bool
) -> None:
    """Run the program once for each input, and write each output as soon as it is there, in order.

    Parameters
    ----------
    executor
        Of the program.
    tasks
        Inputs, and where outputs go.
    receipts
        Folder for what proves the units, if that is wanted.
    as_json
        Print a line of JSON for each input on standard output.

    Raises
    ------
    UnitFailed
        If the only unit ended with another status than ok.
    CommandError
        If some of several did, or could not be run.
    """
    failed: list[CommandError] = []
    with Display("units", len(tasks)) as display:
        for done, (task, future) in enumerate(_futures(executor, tasks)):
            while not wait([future], REFRESH_SECONDS).done:
                display.update(done, f"{done:,} of {len(tasks):,}", executor.job.state)
            problem = _take(task, future, receipts, as_json=as_json)
            if problem is not None:
                failed.append(problem)
                if len(tasks) > 1:
                    print(one_line(str(problem)), file=sys.stderr)
    if failed and len(tasks) == 1:
        raise failed[0]
    if failed:
        raise CommandError(f"{len(failed)} of {len(tasks)} inputs failed: see above")


def _futures(executor: ProgramExecutor, tasks: Sequence[Task]) -> Iterator[tuple[Task, NetworkFuture[bytes]]]:
    """Yield the units in order; few are read and queued ahead."""
    ahead: deque[tuple[Task, NetworkFuture[bytes]]] = deque()
    for task in tasks:
        ahead.append((task, executor.submit_input(read_input(task.input, BLOB_BYTES_MAX))))
        if len(ahead) >= ROOM:
            yield ahead.popleft()
    while ahead:
        yield ahead.popleft()


def _take(
    task: Task, future: NetworkFuture[bytes], receipts: Path | None, *, as_json: bool
) -> CommandError | None:
    """Write what came of a unit; return what was wrong with it."""
    from noria.client.errors import UnitFailed as Ended
    from noria.market.requester.errors import NoAgreement, NoMachine, UnitRefused

    status, output = Status.OK, b""
    try:
        output = future.result()
    except Ended as error:
        status = error.status
    except (NoAgreement, NoMachine, UnitRefused) as error:
        return CommandError(f"{task.name}: not run: {error}")
    if status is Status.OK and (task.output is not None or not as_json):
        with writer(task.output) as write:
            write(output)
    if receipts is not None:
        future.receipt.save(receipts / f"{future.receipt.unit_id.hex()}.json")
    if as_json:
        print(json.dumps(_report(task, future, status, output)), flush=True)
    else:
        show_log(future.log.encode())
        told = f"{summary(status, future.fuel, future.seconds)}, {len(future.receipt.miners)} miners"
        print(one_line(f"{task.name}: {told}"), file=sys.stderr)
    if status is Status.OK:
        return None
    return UnitFailed(
        status, f"{task.name}: the unit ended with status {status:d} ({ENDINGS[status]}): {ADVICE[status]}"
    )


def _report(task: Task, future: NetworkFuture[bytes], status: Status, output: bytes) -> dict[str, Any]:
    from noria.primitives.addresses import checksum_address

    receipt = future.receipt
    report: dict[str, Any] = {
        "input": task.input,
        "output_file": None if task.output is None else str(task.output),
        "status": int(status),
        "ending": ENDINGS[status],
        "fuel": future.fuel,
        "unit": receipt.unit_id.hex(),
        "output_id": receipt.output_id.hex(),
        "log": future.log,
        "cost_wei": str(future.cost),
        "miners": [checksum_address(miner) for miner in receipt.miners],
    }
    return report | (output_fields(output) if task.output is None and status is Status.OK else {})
