"""A map: one call of a script's function for each line of input."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from noria.cli.errors import EXIT_FAILURE, BadArgument, CommandError, one_line
from noria.cli.map_results import FileResults, Results, StreamResults
from noria.cli.run_script import Answer, python_runtime, read_function, report_of, unit_of
from noria.cli.units import REFRESH_SECONDS, STDIO, Display, Limits

if TYPE_CHECKING:
    from noria.work.ids import UnitId
    from noria.work.scripts import ScriptFunction
    from noria.work.workers import ProgramSource, WorkerPool

LINE_BYTES_MAX: Final = 64 << 20
"""Longest line of input: no archive is longer."""
IN_FLIGHT_BYTES: Final = 256 << 20
"""Most bytes of input of the calls that wait or run."""
IN_FLIGHT_PER_WORKER: Final = 8
NO_ARGUMENTS: Final = b"[]\n"


class MalformedLine(ValueError):
    """A line of input that is not JSON, or no arguments."""


@dataclass(slots=True)
class Counts:
    """How a map is getting on."""

    lines: int = 0
    earlier: int = 0
    finished: int = 0
    failed: int = 0
    not_run: int = 0
    fuel: int = 0
    began: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        parts = [f"{self.finished:,} lines done", f"{self.failed:,} failed"]
        if self.earlier:
            parts.append(f"{self.earlier:,} done before")
        if self.not_run:
            parts.append(f"{self.not_run:,} not run")
        return ", ".join([*parts, f"{self.fuel:,} fuel", f"{time.monotonic() - self.began:.1f} s"])


def run_map(path: Path, function: str, lines: str, output: Path | None, limits: Limits, workers: int) -> None:
    """Call a function once for each line, and write a line of JSON for each.

    Raises
    ------
    CommandError
        If a line failed, or could not be run on this machine.
    """
    from noria.work.folders import compiled_folder
    from noria.work.workers import WorkerPool

    called = read_function(path, function)
    runtime = python_runtime()
    count = workers or len(os.sched_getaffinity(0))

    @contextmanager
    def here() -> Iterator[PoolRunner]:
        with WorkerPool(count, cache=compiled_folder(), wall_seconds=limits.seconds) as pool:
            yield PoolRunner(pool, runtime, limits, IN_FLIGHT_PER_WORKER * count)

    map_lines(path.name, called, here(), lines, output)


class Runner(Protocol):
    """Whoever runs the calls of a map: this machine, or miners."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What a call raises that could not be run, which says nothing about its result."""
        ...

    @property
    def room(self) -> int:
        """Most calls that wait or run at any time."""
        ...

    def name(self, archive: bytes) -> UnitId:
        """Return the name by which the result of a call is known again."""
        ...

    def start(self, archive: bytes) -> Future[Answer]:
        """Begin a call."""
        ...

    def report(self, answer: Answer, future: Future[Answer]) -> dict[str, Any]:
        """Say all about a call that has ended, in plain values; ``fuel`` among them."""
        ...

    def show(self, display: Display, done: int, note: str) -> None:
        """Show how far things are."""
        ...


class PoolRunner:
    """Runs calls on this machine.

    Parameters
    ----------
    pool, runtime, limits
        Who runs what, and how much each call may use.
    room
        Most calls that wait or run at any time.
    """

    def __init__(self, pool: WorkerPool, runtime: ProgramSource, limits: Limits, room: int) -> None:
        from noria.work.workers import MachineFailure

        self._pool, self._runtime, self._limits = pool, runtime, limits
        self.room = room
        self.failures = (MachineFailure,)

    def name(self, archive: bytes) -> UnitId:
        """Return the name of the unit."""
        from noria.work.ids import blob_id, unit_id

        return unit_id(self._runtime.id, blob_id(archive), self._limits.fuel)

    def start(self, archive: bytes) -> Future[Answer]:
        """Queue the unit."""
        return self._pool.put(unit_of(self._runtime, archive, self._limits.fuel))

    def report(self, answer: Answer, future: Future[Answer]) -> dict[str, Any]:
        """Say what is the same on every machine."""
        from noria.work.workers import UnitFuture

        assert isinstance(future, UnitFuture)
        return report_of(answer, future)

    def show(self, display: Display, done: int, note: str) -> None:
        """Show the units, or the compilation."""
        display.show(self._pool, done, note)


def map_lines(
    title: str,
    called: ScriptFunction,
    opened: AbstractContextManager[Runner],
    lines: str | None,
    output: Path | None,
) -> Counts:
    """Call a function once for each line, wherever it runs, and write a line of JSON for each.

    Parameters
    ----------
    title
        Of the display.
    called
        The function.
    opened
        Opens whoever runs the calls, after files were found to be usable.
    lines, output
        Where the calls come from, one without arguments if left out; and where their results go, standard
        output if left out.

    Returns
    -------
    Counts
        Of lines and fuel.

    Raises
    ------
    CommandError
        If a line failed, or could not be run.
    """
    counts = Counts()
    with _opened(lines, output) as stream, _results(output) as results:
        try:
            with (
                opened as runner,
                # Results that go to the terminal show by themselves how far things are.
                Display(
                    title,
                    _count_lines(stream),
                    is_wanted=output is not None or not sys.stdout.isatty(),
                ) as display,
            ):
                _Map(called, runner, results, counts, display).run(stream)
        except KeyboardInterrupt:
            again = "; run the same command again to go on" if isinstance(results, FileResults) else ""
            print(f"interrupted: {counts}{again}", file=sys.stderr)
            raise
        results.finish()
    print(counts, file=sys.stderr)
    if counts.not_run:
        raise CommandError(f"{counts.not_run} lines could not be run: run the same command again")
    if counts.failed:
        raise LinesFailed(f"{counts.failed} of {counts.lines} lines failed: see their error in the results")
    return counts


class LinesFailed(CommandError):
    """Some calls have no result; the results tell why."""

    exit_code = EXIT_FAILURE


def parse_arguments(data: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Read the arguments of one call.

    Parameters
    ----------
    data
        One line of JSON: an array of positional arguments, an object of named ones, or a single argument.

    Raises
    ------
    MalformedLine
        If it is none.
    """
    if len(data) > LINE_BYTES_MAX:
        raise MalformedLine(f"the line is longer than {LINE_BYTES_MAX} bytes: split the work")
    try:
        value = json.loads(data, parse_constant=_no_constant, object_pairs_hook=_object)
    except RecursionError:
        raise MalformedLine("the line is nested too deeply: flatten it") from None
    except UnicodeDecodeError:
        raise MalformedLine("the line is not UTF-8") from None
    except ValueError as error:
        raise MalformedLine(f"the line is not JSON: {error}") from None
    if isinstance(value, list):
        return value, {}
    return ([], value) if isinstance(value, dict) else ([value], {})


class _Map:
    """One run over the lines."""

    def __init__(
        self,
        called: ScriptFunction,
        runner: Runner,
        results: Results,
        counts: Counts,
        display: Display,
    ) -> None:
        self.called, self.runner = called, runner
        self.results, self.counts, self.display = results, counts, display
        self.in_flight: dict[Future[Answer], tuple[int, int]] = {}
        self.bytes_in_flight = 0

    def run(self, stream: BinaryIO) -> None:
        """Start calls as there is room for them, and write their results as they end."""
        try:
            for line, data in _lines(stream):
                self.counts.lines += 1
                self.start(line, data)
                while len(self.in_flight) >= self.runner.room or self.bytes_in_flight > IN_FLIGHT_BYTES:
                    self.collect()
            while self.in_flight:
                self.collect()
        except KeyboardInterrupt:
            self.write_ended()
            raise

    def start(self, line: int, data: bytes) -> None:
        """Begin the call of a line, unless its result is there already."""
        from noria.work.archive import ArchiveTooLarge
        from noria.work.guest.kinds import UnencodableValue

        try:
            archive = self.called.call(*parse_arguments(data))
        except (MalformedLine, UnencodableValue, ArchiveTooLarge) as error:
            if self.results.found(line, ""):
                self.counts.earlier += 1
            else:
                failure = {"type": type(error).__name__, "message": one_line(str(error))}
                self.results.add({"line": line, "error": failure})
            self.counts.finished += 1
            self.counts.failed += 1
            return
        earlier = self.results.found(line, self.runner.name(archive).hex())
        if earlier is not None:
            self.counts.finished += 1
            self.counts.earlier += 1
            self.counts.failed += earlier == "error"
            return
        future = self.runner.start(archive)
        self.in_flight[future] = line, len(archive)
        self.bytes_in_flight += len(archive)

    def collect(self) -> None:
        """Wait a little for calls to end, and write their results."""
        wait(self.in_flight, REFRESH_SECONDS, FIRST_COMPLETED)
        self.write_ended()
        total = f"{self.counts.finished:,} lines, {self.counts.failed:,} failed"
        self.runner.show(self.display, self.counts.finished, total)

    def write_ended(self) -> None:
        """Write the results of the calls that have ended."""
        for future in [future for future in self.in_flight if future.done()]:
            # Out of the list first: an interruption in between must not write a result twice.
            line, size = self.in_flight.pop(future)
            self.bytes_in_flight -= size
            try:
                answer = future.result()
            except self.runner.failures as error:
                # No result: another run may have more luck.
                self.counts.not_run += 1
                print(f"line {line} was not run: {one_line(str(error.args[-1]))}", file=sys.stderr)
                continue
            report = self.runner.report(answer, future)
            self.results.add({"line": line, **report})
            self.counts.finished += 1
            self.counts.failed += answer.failure is not None
            self.counts.fuel += report["fuel"]


@contextmanager
def _opened(lines: str | None, output: Path | None) -> Iterator[BinaryIO]:
    if lines is None:
        yield BytesIO(NO_ARGUMENTS)
        return
    if lines == STDIO:
        yield sys.stdin.buffer
        return
    if output is not None and output.exists() and output.samefile(lines):
        raise BadArgument(f"--map and --output are both {output}: name another file for the results")
    if Path(lines).is_dir():
        raise BadArgument(f"--map {lines} is a folder: name a file with a line of JSON for each call")
    with Path(lines).open("rb") as stream:
        yield stream


def _results(output: Path | None) -> AbstractContextManager[FileResults | StreamResults]:
    return nullcontext(StreamResults()) if output is None else FileResults(output)


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of the lines that are not blank; of one that is too long, its beginning."""
    number = 0
    while data := stream.readline(LINE_BYTES_MAX + 1):
        number += 1
        rest = data
        while not rest.endswith(b"\n") and (rest := stream.readline(1 << 20)):
            pass
        if data.strip():
            yield number, data


def _count_lines(stream: BinaryIO) -> int | None:
    """Count the lines of a file, for the display alone."""
    if not sys.stderr.isatty() or not stream.seekable():
        return None
    count = sum(1 for data in stream if data.strip())
    stream.seek(0)
    return count


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands in it twice")
    return members
