"""Runs of one's own: the opinion that no miner can influence."""

from __future__ import annotations

import asyncio
import random
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from noria.work.workers import Outcome, ProgramSource, WorkerPool


class OwnRuns(Protocol):
    """What runs a unit on this machine."""

    async def run(self, input: bytes, fuel_limit: int) -> Outcome:
        """Run a unit of the job's program; raise whatever this machine cannot do."""
        ...


class PoolRuns:
    """Own runs in worker processes, which start when the first is wanted.

    Parameters
    ----------
    program
        The job's.
    cache
        Folder of compiled code.
    workers
        Runs at once.
    """

    def __init__(self, program: ProgramSource, cache: Path, workers: int = 1) -> None:
        self._program = program
        self._cache = cache
        self._workers = workers
        self._lock = threading.Lock()
        self._pool: WorkerPool | None = None
        self._is_closed = False

    async def run(self, input: bytes, fuel_limit: int) -> Outcome:
        """Run a unit.

        Raises
        ------
        MachineFailure, InvalidProgram, PoolClosed
            Where this machine cannot, or is no longer asked to.
        """
        unit = self._started().submit(self._program, input, fuel_limit)
        try:
            return await asyncio.wrap_future(unit)
        except asyncio.CancelledError:
            unit.stop()
            raise

    def close(self) -> None:
        """Stop everything."""
        with self._lock:
            self._is_closed = True
            pool = self._pool
        if pool is not None:
            pool.close(wait=False, cancel_queued=True, stop_running=True)

    def _started(self) -> WorkerPool:
        with self._lock:
            if self._pool is None:
                self._pool = WorkerPool(self._workers, cache=self._cache)
                if self._is_closed:
                    self._pool.close(wait=False)
            return self._pool


def private_choice(share: float, source: random.Random | None = None) -> Callable[[], bool]:
    """Return what tells of each unit whether it is run here, too: at random, so that no miner can know.

    Parameters
    ----------
    share
        Of the units, 0 to 1.
    source
        Of randomness, for tests; the system's own if left out.
    """
    drawn = secrets.SystemRandom() if source is None else source
    return lambda: share > 0 and drawn.random() < share
