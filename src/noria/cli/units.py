"""What all commands that run units share: limits, progress, files, and words for how units end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final, Self, TypeVar

from noria.cli.errors import BadArgument, CommandError
from noria.work.receipts import Status
from noria.work.results import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from noria.work.workers import WorkerPool

T = TypeVar("T")

STDIO: Final = "-"
REFRESH_SECONDS: Final = 0.1
FIRST_EXIT_CODE: Final = 10
"""A unit's status is added to it."""

ENDINGS: Final = {
    Status.OK: "ok",
    Status.FAILED: "failed",
    Status.OUT_OF_FUEL: "out of fuel",
    Status.MEMORY_LIMIT: "too large at the start",
    Status.STACK_LIMIT: "stack limit",
    Status.OUTPUT_LIMIT: "output limit",
}
ADVICE: Final = {
    Status.FAILED: "it exited with an error, or did what WebAssembly forbids; its log may tell more",
    Status.OUT_OF_FUEL: "raise --fuel if it should go on",
    Status.MEMORY_LIMIT: "a program begins with at most 1 GiB of memory and 1,000,000 table entries",
    Status.STACK_LIMIT: "its calls are nested too deeply: look for a recursion without end",
    Status.OUTPUT_LIMIT: "a program writes at most 64 MiB: split the work",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one unit may use: fuel, and seconds by the clock."""

    fuel: int
    seconds: float


class UnitFailed(CommandError):
    """A unit ended with another status than ok."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.exit_code = FIRST_EXIT_CODE + status


class Display:
    """Progress on standard error, if that is a terminal; nothing otherwise.

    Parameters
    ----------
    title
        What runs.
    total
        Of how many units; None for one, or if it is not known.
    is_wanted
        Whether to show anything at all.
    """

    def __init__(self, title: str, total: int | None = None, *, is_wanted: bool = True) -> None:
        self._title = title
        self._total = total
        self._is_wanted = is_wanted and sys.stderr.isatty()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._is_wanted:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[count]}", markup=False),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
                # What is printed to standard output must get there, wherever it leads.
                redirect_stdout=False,
            )
            self._progress.start()
            self._task = self._progress.add_task(self._title, total=self._total, count="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, done: int, note: str, stage: str = "") -> None:
        """Show how many units have ended, and what is going on."""
        if self._progress is None or self._task is None:
            return
        description = f"{self._title}: {stage}" if stage else self._title
        self._progress.update(
            self._task, description=description, total=self._total, completed=done, count=note
        )

    def show(self, pool: WorkerPool, done: int = 0, note: str = "") -> None:
        """Show how far things are: the compilation of the program if that is under way, else the units."""
        if self._progress is None or self._task is None:
            return
        load = pool.loading()
        if load is not None and load.functions:
            count = f"{load.functions_done}/{load.functions} functions"
            self._progress.update(
                self._task,
                description=f"{self._title}: {load.stage}",
                total=load.functions,
                completed=load.functions_done,
                count=count,
            )
        else:
            self.update(done, note, "" if load is None else load.stage)


def await_unit(future: Future[T], pool: WorkerPool, display: Display) -> T:
    """Wait for one unit; the pool's own limits end the wait."""
    while not wait([future], REFRESH_SECONDS).done:
        display.show(pool)
    return future.result()


def read_input(name: str | None, limit: int) -> bytes:
    """Read a unit's input: a file, standard input, or nothing.

    Raises
    ------
    BadArgument
        If it is longer than the limit in bytes.
    """
    if name is None:
        return b""
    with _opened(name) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise BadArgument(f"--input {name} is longer than {limit} bytes: split the work")
    return data


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == STDIO:
        yield sys.stdin.buffer
    else:
        with Path(name).open("rb") as stream:
            yield stream


@contextmanager
def writer(output: Path | None) -> Iterator[Callable[[bytes], None]]:
    """Open where the output goes before anything runs; a file appears whole or not at all.

    Yields
    ------
    Callable
        To be called at most once.
    """
    if output is None:
        yield _to_stdout
        return
    if output.is_dir():
        raise BadArgument(f"--output {output} is a folder: name a file")
    if output.exists() and not output.is_file():
        with output.open("wb", buffering=0) as stream:
            yield lambda data: _write_all(stream.fileno(), data)
        return
    target = output.resolve()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise CommandError(f"--output {output} cannot be written: {error.strerror}") from None
    try:
        written = False

        def write(data: bytes) -> None:
            nonlocal written
            _write_all(descriptor, data)
            written = True

        yield write
        if written:
            partial.replace(target)
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            partial.unlink()


def _to_stdout(data: bytes) -> None:
    if sys.stdout.isatty():
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise CommandError(
                f"the output, {len(data)} bytes, is not text: name a file with --output"
            ) from None
        sys.stdout.write(printable(text))
        if text and not text.endswith("\n"):
            sys.stdout.write("\n")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    sys.stdout.flush()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def show_log(log: bytes) -> None:
    """Pass a unit's log on to standard error; a terminal gets nothing that could steer it."""
    if not log:
        return
    text = log.decode(errors="replace")
    sys.stderr.write(printable(text) if sys.stderr.isatty() else text)
    if not text.endswith("\n"):
        sys.stderr.write("\n")
    sys.stderr.flush()


def summary(status: Status, fuel: int, seconds: float) -> str:
    """Say in one line how a unit ended."""
    return f"{ENDINGS[status]}, {fuel:,} fuel, {seconds:.3g} s"
