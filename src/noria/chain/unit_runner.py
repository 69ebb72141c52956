"""Running a certificate's unit again: in a worker, and once more in a fresh process on another engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from noria.work.ids import ProgramId
from noria.work.workers import Outcome, ProgramMissing, ProgramSource, WorkerPool

CONFIRM_SECONDS: Final = 3600.0
"""Longest time for a unit on the second engine, an interpreter: twice what the slowest largest unit takes."""


class UnitRunner(Protocol):
    """What checking certificates needs of the work engine.

    Both methods raise `MachineFailure`, `ProgramMissing` or `CacheFailure` where this machine cannot tell.
    """

    async def run(self, program: ProgramId, input: bytes, fuel_limit: int, *, priority: int = 0) -> Outcome:
        """Run a unit."""
        ...

    async def confirm(self, program: ProgramId, input: bytes, fuel_limit: int) -> Outcome:
        """Run a unit in a fresh process on the second engine."""
        ...


class PoolRunner:
    """Runs units in a pool of worker processes.

    Parameters
    ----------
    pool
        May be shared with whatever else runs units; it is not closed.
    programs
        Where the modules of the pinned programs lie.
    cache
        Folder of compiled code.
    second_engine
        As for `noria._core.Sandbox`; another one than the pool's.
    """

    def __init__(
        self,
        pool: WorkerPool,
        programs: Mapping[ProgramId, Path],
        *,
        cache: Path,
        second_engine: str = "pulley",
    ) -> None:
        self._pool = pool
        self._programs = dict(programs)
        self._cache = cache
        self._second_engine = second_engine

    async def run(self, program: ProgramId, input: bytes, fuel_limit: int, *, priority: int = 0) -> Outcome:
        """Run a unit."""
        source = self._source(program)
        future = self._pool.submit(source, input, fuel_limit, priority=priority, wait_seconds=0)
        return await asyncio.wrap_future(future)

    async def confirm(self, program: ProgramId, input: bytes, fuel_limit: int) -> Outcome:
        """Run a unit in a fresh process on the second engine."""
        return await asyncio.to_thread(self._confirm, self._source(program), input, fuel_limit)

    def _confirm(self, source: ProgramSource, input: bytes, fuel_limit: int) -> Outcome:
        engine = self._second_engine
        with WorkerPool(1, cache=self._cache, engine=engine, wall_seconds=CONFIRM_SECONDS) as pool:
            return pool.submit(source, input, fuel_limit).result()

    def _source(self, program: ProgramId) -> ProgramSource:
        path = self._programs.get(program)
        if path is None:
            raise ProgramMissing(f"pinned program {program.hex()} is not on this machine: install it")
        return ProgramSource(program, path)
