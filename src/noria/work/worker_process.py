"""One worker of a pool: a process that runs one unit after another, each in a fresh instance.

`noria.work.worker_handle` starts it as a program of its own, and it ends when the pool is gone, however that
ended. What it imports costs time at every start.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from noria import _core
from noria.work import worker_channel as messages
from noria.work.worker_channel import Channel, ChannelClosed, Frame

PROGRAMS_KEPT: Final = 16
"""Programs that stay loaded; the least recently used goes first."""
REFUSAL_SECONDS: Final = 30.0
"""How long a program that could not be compiled is not tried again: the disk may have room by then."""
REFUSALS_KEPT: Final = 1000
PROGRESS_SECONDS: Final = 0.1
PARENT_CHECK_SECONDS: Final = 1.0
OUT_OF_MEMORY_SCORE: Final = b"500"
"""Where memory runs out, the system should end a worker rather than the program that uses the pool."""


class _Missing(Exception):
    """The module is not where it should be."""


def main() -> None:
    """Serve a pool, whose `WorkerProcess` gives the arguments."""
    descriptor, pool, cache, engine, memory_bytes, compiler_bytes = sys.argv[1:]
    # Ctrl-C in the terminal is the pool's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_pool, args=(int(descriptor), int(pool)), daemon=True).start()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:  # noqa: PTH123
        file.write(OUT_OF_MEMORY_SCORE)
    with suppress(ChannelClosed):
        _Worker(Channel(int(descriptor)), cache, engine, int(memory_bytes), int(compiler_bytes)).serve()


def _end_with_pool(descriptor: int, pool: int) -> None:
    """End this process, whatever it does, as soon as its pool is gone.

    The socket tells it at once. Another process that the pool forked may hold the socket open, but then this
    one has another parent all of a sudden.
    """
    poll = select.poll()
    poll.register(descriptor, getattr(select, "POLLRDHUP", select.POLLHUP))
    while not poll.poll(PARENT_CHECK_SECONDS * 1000) and os.getppid() == pool:
        pass
    os._exit(0)


class _Worker:
    """What a worker holds: its engine and the programs that are ready to run."""

    def __init__(
        self, channel: Channel, cache: str, engine: str, memory_bytes: int, compiler_bytes: int
    ) -> None:
        self.channel = channel
        self.cache = cache
        self.engine = engine
        self.memory_bytes = memory_bytes
        self.compiler_bytes = compiler_bytes
        self.sandbox: _core.Sandbox | None = None
        self.programs: OrderedDict[bytes, _core.Program] = OrderedDict()
        self.refusals: dict[bytes, tuple[float, _core.NoriaError]] = {}
        _limit_memory(memory_bytes)

    def serve(self) -> None:
        """Answer one request after another."""
        # The engine starts before there is a unit; if it cannot, the first unit's answer says so.
        _attempt(self.start)
        while True:
            request = self.channel.receive()
            answer = _attempt(lambda request=request: self.run(request))  # type: ignore[misc]
            self.channel.send(answer)
            del request, answer

    def start(self) -> Frame:
        if self.sandbox is None:
            self.sandbox = _core.Sandbox(self.cache, self.engine)
        return Frame(messages.RUNNING)

    def run(self, request: Frame) -> Frame:
        """Run a unit."""
        self.start()
        program = self.programs.get(request.first)
        if program is None:
            program, compiled = self.load(request.first, request.second.decode(errors="surrogateescape"))
            if compiled and request.other and _peak_memory_bytes() > self.compiler_bytes:
                return Frame(messages.FRESH)
            self.programs[request.first] = program
            if len(self.programs) > PROGRAMS_KEPT:
                self.programs.popitem(last=False)
            self.channel.send(Frame(messages.RUNNING))
        self.programs.move_to_end(request.first)
        begin = time.perf_counter()
        outcome = program.run(request.third, request.number)
        seconds = time.perf_counter() - begin
        return Frame(messages.DONE, outcome.status, outcome.fuel, 0, seconds, outcome.output, outcome.log)

    def load(self, program_id: bytes, path: str) -> tuple[_core.Program, bool]:
        """Return a program, and whether it was compiled for that."""
        assert self.sandbox is not None
        program = self.sandbox.load_cached(program_id)
        if program is not None:
            return program, False
        tried_at, refusal = self.refusals.get(program_id, (0.0, None))
        if refusal is not None and time.monotonic() - tried_at < REFUSAL_SECONDS:
            raise refusal
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                module = file.read()
        except OSError as error:
            raise _Missing(
                f"program {program_id.hex()} cannot be read from {path}: {error.strerror}; install it again"
            ) from None
        if _core.blake3(b"noria/program/1" + module) != program_id:
            raise _Missing(f"{path} is not program {program_id.hex()}; install it again")
        try:
            return self.compile(module), True
        except (_core.InvalidProgram, _core.CacheFailure) as error:
            # A thousand units that wait for the same program must not all find out for themselves.
            if len(self.refusals) >= REFUSALS_KEPT:
                self.refusals.clear()
            self.refusals[program_id] = (time.monotonic(), error.with_traceback(None))
            raise

    def compile(self, module: bytes) -> _core.Program:
        """Compile a program, or wait while another process does, and tell how far it is."""
        assert self.sandbox is not None
        stop = threading.Event()
        reporter = threading.Thread(target=self.report, args=(stop,))
        reporter.start()
        # A compiler needs more than a unit.
        _limit_memory(None)
        try:
            return self.sandbox.load(module)
        finally:
            _limit_memory(self.memory_bytes)
            stop.set()
            reporter.join()

    def report(self, stop: threading.Event) -> None:
        """Tell how far the compiler is, until it is done."""
        assert self.sandbox is not None
        with suppress(ChannelClosed):
            while not stop.wait(PROGRESS_SECONDS):
                stage, done, total = self.sandbox.progress()
                self.channel.send(Frame(messages.PROGRESS, 0, done, total, first=stage.encode()))


def _attempt(task: Callable[[], Frame]) -> Frame:
    """Do something and return its answer, or what went wrong."""
    try:
        return task()
    except _core.InvalidProgram as error:
        kind, message = error.args
        return _complaint(messages.REFUSED, message, kind)
    except _core.CacheFailure as error:
        return _complaint(messages.CACHE, str(error))
    except _Missing as error:
        return _complaint(messages.MISSING, str(error))
    except ChannelClosed:
        raise
    except MemoryError:
        return _complaint(messages.FAILED, "no memory for the unit; run fewer units at once, then retry")
    except BaseException as error:
        # Among them a panic of the engine: this process is not to be trusted with another unit.
        return _complaint(messages.FAILED, f"{type(error).__name__}: {error}")


def _complaint(kind: int, message: str, name: str = "") -> Frame:
    return Frame(kind, first=name.encode(), second=message.encode(errors="replace"))


def _limit_memory(most: int | None) -> None:
    """Limit private writable memory.

    Not the address space: an engine reserves much of that and uses little.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = hard if most is None else most
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _peak_memory_bytes() -> int:
    """Return the most memory that this process has had.

    Not `ru_maxrss`: that outlives `exec`, and so would count the peak of the process that started this one.
    """
    with suppress(OSError, ValueError), open("/proc/self/status", "rb") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) << 10
    return 0
