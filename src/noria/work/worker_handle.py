"""The pool's side of one worker process: start it, give it units, end it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import noria
from noria._core import CacheFailure, InvalidProgram
from noria.work import worker_channel as messages
from noria.work.ids import ProgramId
from noria.work.receipts import InvalidReceipt, Status, status_of
from noria.work.worker_channel import Channel, ChannelClosed, Frame, MalformedFrame

START: Final = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from noria.work.worker_process import main; main()"
)
STAGES: Final = ("instrumenting", "compiling", "waiting", "loading")
CLOSE_SECONDS: Final = 2.0
"""How long a worker may take to end by itself."""
COMPILER_BYTES: Final = 192 << 20
"""A process that needed more while it compiled gives way to a fresh one, so that the memory is given back."""
COMPLAINT_BYTES: Final = 2000
"""How much of a dead worker's last words is looked at."""


class ProgramMissing(ValueError):
    """A module is not, or no longer, where its `ProgramSource` says; the message says what to do."""


class WorkerLost(Exception):
    """A worker died, hung or gave up: nothing is known about the unit that it had."""


@dataclass(frozen=True, slots=True)
class ProgramSource:
    """A program and where its module lies, should it have to be compiled.

    Parameters
    ----------
    id
        Name of the program.
    path
        The module as delivered. It is read only if no process of this machine has compiled it yet.
    """

    id: ProgramId
    path: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a unit ended (protocol 2).

    Parameters
    ----------
    status
        The same on every machine, like output and fuel.
    output
        What it wrote to stdout; of a failed unit the log.
    log
        What it wrote to stderr, cut at 64 KiB.
    fuel
        Fuel burned.
    seconds
        How long it ran here.
    """

    status: Status
    output: bytes
    log: bytes
    fuel: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Loading:
    """How far the loading of a program is.

    Parameters
    ----------
    stage
        ``"instrumenting"``, ``"compiling"``, ``"waiting"`` (for another process that compiles it) or
        ``"loading"``.
    functions_done, functions
        Compiled, and of how many; 0 while that is not known.
    """

    stage: str
    functions_done: int
    functions: int


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What all workers of a pool have in common.

    Parameters
    ----------
    cache
        Folder of compiled code.
    engine
        As for `noria._core.Sandbox`.
    memory_bytes
        Most private memory of a worker while a unit runs.
    unit_seconds
        Longest time for a unit, on the clock.
    load_seconds
        Longest time for starting and for compiling a program.
    """

    cache: Path
    engine: str
    memory_bytes: int
    unit_seconds: float
    load_seconds: float


class WorkerProcess:
    """A running worker. One thread uses it; any other may `kill` it.

    Parameters
    ----------
    settings
        The pool's.

    Raises
    ------
    WorkerLost
        If the process cannot be started.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._loaded: set[ProgramId] = set()
        with ExitStack() as undo:
            try:
                ours, theirs = socket.socketpair()
                undo.enter_context(theirs)
                undo.callback(ours.close)
                self._words = undo.enter_context(tempfile.TemporaryFile())
                self._process = _start(settings, theirs.fileno(), self._words)
            except OSError as error:
                raise WorkerLost(f"a worker cannot be started: {error}") from None
            undo.pop_all()
            theirs.close()
        self._channel = Channel(ours.detach())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it at once, whatever it does. Whoever waits in `run` gets `WorkerLost`."""
        with suppress(OSError):
            self._process.kill()

    def close(self, *, gently: bool = False) -> None:
        """End it, and wait until it is gone.

        Parameters
        ----------
        gently
            Let it end by itself, which it does at once if it has no unit.
        """
        self._channel.close()
        if not gently:
            self.kill()
        for _ in range(2):
            try:
                self._process.wait(CLOSE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                # Killed and still there: the system holds it. Nobody can do more, and nobody needs to wait.
                self.kill()
        self._words.close()

    def run(
        self,
        program: ProgramSource,
        input: bytes,
        fuel_limit: int,
        *,
        may_be_replaced: bool,
        loading: Callable[[Loading | None], None],
    ) -> Outcome | None:
        """Run a unit.

        Parameters
        ----------
        program
            What to run.
        input
            Its input.
        fuel_limit
            Most fuel it may burn.
        may_be_replaced
            Whether the worker may ask for a fresh process, after a compilation that took much memory.
        loading
            Told how far the loading of the program is, and nothing when that is over.

        Returns
        -------
        Outcome or None
            None if the worker asks for a fresh process.

        Raises
        ------
        WorkerLost
            If the worker died, hung or could not run it.
        InvalidProgram, ProgramMissing, CacheFailure
            If the program cannot be run on this machine.
        """
        is_loaded = program.id in self._loaded
        limit = self.settings.unit_seconds if is_loaded else self.settings.load_seconds
        path = os.fsencode(program.path)
        request = Frame(
            messages.RUN, 0, fuel_limit, int(may_be_replaced), first=program.id, second=path, third=input
        )
        try:
            deadline = time.monotonic() + limit
            self._channel.send(request, deadline)
            while True:
                answer = self._channel.receive(deadline)
                if answer.kind == messages.PROGRESS:
                    stage = answer.first.decode(errors="replace")
                    loading(Loading(stage if stage in STAGES else "loading", answer.number, answer.other))
                elif answer.kind == messages.RUNNING:
                    loading(None)
                    self._loaded.add(program.id)
                    is_loaded, limit = True, self.settings.unit_seconds
                    deadline = time.monotonic() + limit
                else:
                    return _outcome(answer)
        except TimeoutError:
            what = "the unit ran" if is_loaded else "starting and compiling took"
            raise WorkerLost(f"{what} longer than {limit:g} seconds") from None
        except ChannelClosed:
            raise WorkerLost(self._last_words()) from None
        except MalformedFrame as error:
            raise WorkerLost(f"a worker sent {error}") from None
        finally:
            loading(None)

    def _last_words(self) -> str:
        """Say how the process ended."""
        try:
            code = self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return "a worker closed its connection"
        if code < 0:
            with suppress(ValueError):
                name = signal.Signals(-code).name
                hint = " (perhaps memory ran out)" if name == "SIGKILL" else ""
                return f"a worker was killed by {name}{hint}"
        size = self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, size - COMPLAINT_BYTES))
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        said = lines[-1] if lines else ""
        said = "".join(c if c.isprintable() else "?" for c in said)[:300]
        return f"a worker ended with exit code {code}" + (f": {said}" if said else "")


def _start(settings: WorkerSettings, descriptor: int, words: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the process of a worker."""
    root = Path(noria.__file__).resolve().parent.parent
    arguments = (
        *(root, descriptor, os.getpid(), settings.cache, settings.engine),
        *(settings.memory_bytes, COMPILER_BYTES),
    )
    return subprocess.Popen(
        # Isolated, without site packages: what hangs there must not run here, and it starts faster.
        [sys.executable, "-I", "-S", "-c", START, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=words,
        pass_fds=(descriptor,),
        cwd="/",
        # A session of its own: Ctrl-C and hanging up in the terminal are the pool's to handle.
        start_new_session=True,
    )


def _outcome(answer: Frame) -> Outcome | None:
    """Return the outcome that a worker tells, or raise what it tells."""
    message = answer.second.decode(errors="replace")
    if answer.kind == messages.DONE:
        try:
            status = status_of(answer.status)
        except InvalidReceipt as error:
            raise WorkerLost(f"a worker's answer is none: {error}") from None
        return Outcome(status, answer.first, answer.second, answer.number, answer.seconds)
    if answer.kind == messages.FRESH:
        return None
    if answer.kind == messages.REFUSED:
        raise InvalidProgram(answer.first.decode(errors="replace"), message)
    if answer.kind == messages.CACHE:
        raise CacheFailure(message)
    if answer.kind == messages.MISSING:
        raise ProgramMissing(message)
    raise WorkerLost(message)
