"""A pool of processes that run units, so that whatever a unit does costs at most one process.

::

    with WorkerPool(2, cache=compiled_folder()) as pool:
        future = pool.submit(ProgramSource(program_id(module), path), b"input", 10**9)
        outcome = future.result()

Each worker keeps its programs loaded and runs one unit at a time in a fresh instance. A worker that dies,
hangs or runs out of memory loses its unit, which is run once more in a fresh process and then reported as
`MachineFailure`; other units do not notice.
"""

from __future__ import annotations

import sys
import threading
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from noria._core import CacheFailure, InvalidProgram, MachineFailure
from noria.primitives.types import UINT64_MAX
from noria.work.ids import InvalidFuelLimit
from noria.work.worker_channel import PART_BYTES_MAX
from noria.work.worker_crew import Crew, PoolClosed, PoolForked, PoolStats, QueueFull
from noria.work.worker_handle import Loading, Outcome, ProgramMissing, ProgramSource, WorkerSettings
from noria.work.worker_units import UnitFuture, UnitRecord

__all__ = [
    "CacheFailure",
    "InputTooLarge",
    "InvalidProgram",
    "Loading",
    "MachineFailure",
    "Outcome",
    "PoolClosed",
    "PoolForked",
    "PoolStats",
    "ProgramMissing",
    "ProgramSource",
    "QueueFull",
    "UnitFuture",
    "UnitRecord",
    "WorkerPool",
]

_Unit = TypeVar("_Unit", bound=UnitFuture[Any])

ENGINES: Final = ("wasmtime", "baseline", "pulley")
"""Not `wasmi`: it is a fourth opinion in tests, and has crashed a process."""
MEMORY_BYTES: Final = 3 << 30
"""A unit has at most 1 GiB of memory; beside it there are a stack, input, output and the process itself."""
MEMORY_BYTES_MIN: Final = 2 << 30
"""Below that a unit could meet the end of this machine's memory before the end of its own."""


class InputTooLarge(ValueError):
    """An input that no worker takes."""


class WorkerPool:
    """Processes that run units; any thread may use it.

    Parameters
    ----------
    workers
        How many processes, and so how many units at once. A process starts when it is needed first.
    cache
        Folder of compiled code; `noria.work.folders.compiled_folder` is the usual one.
    engine
        As for `noria._core.Sandbox`.
    queue_limit, queue_bytes
        Most units that wait, and most bytes of their inputs.
    wall_seconds
        Longest time for a unit, on the clock. Units end by their fuel: this is for a machine that hangs.
    load_seconds
        Longest time for a worker to start and to compile a program.
    memory_bytes
        Most private memory of a worker while a unit runs.

    Raises
    ------
    ValueError
        If a number makes no sense, or there is no such engine.
    """

    def __init__(
        self,
        workers: int,
        *,
        cache: Path,
        engine: str = "wasmtime",
        queue_limit: int = 10_000,
        queue_bytes: int = 512 << 20,
        wall_seconds: float = 3600.0,
        load_seconds: float = 1800.0,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        for name, value, least in (
            ("workers", workers, 1),
            ("queue_limit", queue_limit, 1),
            ("queue_bytes", queue_bytes, 1),
            ("memory_bytes", memory_bytes, MEMORY_BYTES_MIN),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        for name, seconds in (("wall_seconds", wall_seconds), ("load_seconds", load_seconds)):
            if not 0 < seconds <= threading.TIMEOUT_MAX:
                raise ValueError(f"{name} must be above 0, not {seconds:g}")
        if engine not in ENGINES:
            raise ValueError(f"{engine!r} is no engine; choose one of {', '.join(ENGINES)}")
        if not sys.executable:
            raise ValueError("sys.executable is empty: a pool needs to know which Python starts its workers")
        settings = WorkerSettings(Path(cache).absolute(), engine, memory_bytes, wall_seconds, load_seconds)
        self._crew = Crew(workers, settings, queue_limit, queue_bytes)
        # A pool that nobody holds any more finishes what it has and ends.
        weakref.finalize(self, self._crew.close).atexit = False

    def submit(
        self,
        program: ProgramSource,
        input: bytes,
        fuel_limit: int,
        *,
        priority: int = 0,
        wait_seconds: float | None = None,
    ) -> UnitFuture[Outcome]:
        """Queue a unit.

        Parameters
        ----------
        program
            What to run.
        input
            Its input.
        fuel_limit
            Most fuel it may burn, 64 bits.
        priority
            Higher goes first; among equals, first come, first served. A unit that runs is never interrupted.
        wait_seconds
            How long to wait while the queue is full; as long as it takes if left out.

        Returns
        -------
        UnitFuture
            Its exception is `MachineFailure` if this machine could not run the unit, and `InvalidProgram`,
            `ProgramMissing` or `CacheFailure` if it cannot run the program.

        Raises
        ------
        QueueFull
            If the queue is still full after `wait_seconds`.
        PoolClosed, PoolForked
            If the pool takes no units, or none of this process.
        InputTooLarge, InvalidFuelLimit
            If this is no unit.
        """
        return self.put(
            UnitFuture(program, input, fuel_limit, _as_it_is), priority=priority, wait_seconds=wait_seconds
        )

    def put(
        self,
        unit: _Unit,
        *,
        priority: int = 0,
        wait_seconds: float | None = None,
        is_bounded: bool = False,
    ) -> _Unit:
        """Queue a unit whose future was made elsewhere; otherwise like `submit`.

        A thread of the pool, in which futures call back, never waits: the queue grows by its units.

        Parameters
        ----------
        unit
            The future.
        priority, wait_seconds
            As for `submit`.
        is_bounded
            Whether the caller itself sees to it that few of its units wait. Such a unit never waits for room,
            and what follows from another in a thread of the pool is taken even while the pool closes.
        """
        if not 0 <= unit.fuel_limit <= UINT64_MAX:
            raise InvalidFuelLimit(f"a fuel limit has 64 bits, unlike {unit.fuel_limit}")
        if len(unit.input) > PART_BYTES_MAX:
            raise InputTooLarge(
                f"an input of {len(unit.input)} bytes; at most {PART_BYTES_MAX} are possible: split the work"
            )
        self._crew.add(unit, priority, wait_seconds, is_bounded)
        return unit

    def stats(self) -> PoolStats:
        """Return what the pool has done so far."""
        return self._crew.stats()

    def process_ids(self) -> list[int]:
        """Return the process ids of the workers that live."""
        return self._crew.process_ids()

    def loading(self) -> Loading | None:
        """Return how far the loading of a program is, if a worker is at that."""
        return self._crew.most_interesting_load()

    def close(self, *, wait: bool = True, cancel_queued: bool = False, stop_running: bool = False) -> None:
        """Take no more units, finish those that are there, and end the workers.

        Parameters
        ----------
        wait
            Return when all of this is done and no process is left.
        cancel_queued
            Cancel what has not begun.
        stop_running
            End what runs, too.
        """
        self._crew.close(wait=wait, cancel_queued=cancel_queued, stop_running=stop_running)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        hurry = kind is not None
        self.close(cancel_queued=hurry, stop_running=hurry)


def _as_it_is(outcome: Outcome) -> Outcome:
    return outcome
