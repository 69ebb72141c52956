"""From units to the pool of workers and back: who comes next, how an input is joined, what came of it.

Places take turns by the time that workers have given them, so that no job waits for another one's queue. Only
a few units more than workers are in the pool at once; the rest waits here, where cancelling costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, Final

import structlog

from noria.market.messages import INLINE_BYTES_MAX, LOG_BYTES_MAX, BlobPart
from noria.market.miner.deliveries import Deliveries
from noria.market.miner.session import Session
from noria.market.miner.units import Finished, OrderedUnit
from noria.primitives.background import BackgroundTasks
from noria.primitives.types import Hash32
from noria.work.blob_errors import BlobStoreError
from noria.work.ids import ProgramId, blob_id
from noria.work.workers import (
    InputTooLarge,
    InvalidProgram,
    Outcome,
    PoolClosed,
    ProgramSource,
    UnitFuture,
    WorkerPool,
)

AHEAD: Final = 2
"""Units in the pool for each worker: while one runs, the next is there already."""
JOIN_BYTES_MAX: Final = 1 << 20
"""Longest input that is put together in the event loop; a longer one is in a thread."""

_log = structlog.get_logger(__name__)


class Workshop:
    """Gives units of all places to a pool, a fair share to each. Belongs to one event loop.

    Parameters
    ----------
    pool
        Of its own: no certificate waits behind a stranger's unit. It is not closed.
    workers
        Of the pool.
    deliveries
        Where blobs and programs are.
    ended
        Told of each place for which something has been run.
    """

    def __init__(
        self, pool: WorkerPool, workers: int, deliveries: Deliveries, ended: Callable[[Session], None]
    ) -> None:
        self._pool, self._deliveries, self._ended = pool, deliveries, ended
        self.workers = workers
        self._sessions: dict[int, Session] = {}
        self._in_pool = 0
        self._tasks = BackgroundTasks("work")
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._turn = 0.0

    @property
    def running(self) -> int:
        """Units in the pool."""
        return self._in_pool

    @property
    def queued(self) -> int:
        """Units that wait here."""
        return sum(session.queued for session in self._sessions.values())

    def add(self, session: Session) -> None:
        """Let a place take part."""
        session.spent_seconds = max(session.spent_seconds, self._turn)
        self._sessions[session.record.id] = session

    def remove(self, session: Session) -> None:
        """Leave a place out from now on."""
        self._sessions.pop(session.record.id, None)

    async def close(self) -> None:
        """Begin nothing more."""
        self._closed = True
        self._sessions.clear()
        await self._tasks.stop()

    def note(self) -> str:
        """Say what workers wait for, where they do."""
        load = self._pool.loading()
        if load is None:
            return ""
        share = f", {100 * load.functions_done // load.functions} %" if load.functions else ""
        return f"{load.stage} the program{share}"

    # ------------------------------------------------------------ beginning

    def fill(self) -> None:
        """Give the pool what it can take."""
        while not self._closed and self._in_pool < self.workers * AHEAD:
            ready = [
                session
                for session in self._sessions.values()
                if session.may_begin() and self._deliveries.has_room_for_outputs(session.record.id)
            ]
            if not ready:
                return
            session = min(ready, key=lambda each: (each.spent_seconds, each.record.id))
            # Whoever was idle does not make up for it.
            self._turn = max(self._turn, session.spent_seconds)
            session.spent_seconds = max(session.spent_seconds, self._turn)
            self._in_pool += 1
            self._begin(session.begin())

    def stop(self, unit: OrderedUnit) -> None:
        """End a unit that has been given up, even if it runs."""
        if unit.future is not None:
            unit.future.stop()

    def _begin(self, unit: OrderedUnit) -> None:
        source = self._deliveries.program(ProgramId(Hash32(unit.session.record.program)))
        if source is None:
            self._give_up(unit, "program", "its module is not here any more: put it again")
            return
        found = [
            self._deliveries.cached(part.blob) if isinstance(part, BlobPart) else part.data
            for part in unit.parts
        ]
        pieces = [piece for piece in found if piece is not None]
        if len(pieces) < len(found) or sum(map(len, pieces)) > JOIN_BYTES_MAX:
            self._tasks.spawn(self._load(unit, source))
        else:
            self._submit(unit, source, b"".join(pieces))

    async def _load(self, unit: OrderedUnit, source: ProgramSource) -> None:
        try:
            pieces = [
                await self._deliveries.load(part.blob) if isinstance(part, BlobPart) else part.data
                for part in unit.parts
            ]
            data = await asyncio.to_thread(b"".join, pieces)
        except BlobStoreError as error:
            self._give_up(unit, "machine", f"a part of the input cannot be read: {type(error).__name__}")
        except BaseException:
            self._in_pool -= 1
            raise
        else:
            self._submit(unit, source, data)

    def _submit(self, unit: OrderedUnit, source: ProgramSource, data: bytes) -> None:
        if unit.session.units.get(unit.number) is not unit:
            self._give_up(unit, "cancelled", "")
            return
        place, turn, deliveries = unit.session.record.id, unit.session.turn, self._deliveries

        def conclude(outcome: Outcome) -> Finished:
            record = future.record
            assert record is not None
            is_long = len(outcome.output) > INLINE_BYTES_MAX
            if is_long:
                deliveries.keep_output(place, turn, record.output_id, outcome.output)
            return Finished(
                unit=record.unit_id,
                input=blob_id(data),
                input_bytes=len(data),
                status=outcome.status,
                fuel=outcome.fuel,
                output_id=record.output_id,
                output=None if is_long else outcome.output,
                output_bytes=len(outcome.output),
                log=outcome.log[:LOG_BYTES_MAX],
                milliseconds=int(outcome.seconds * 1000),
            )

        future: UnitFuture[Finished] = UnitFuture(source, data, unit.fuel_limit, conclude)
        unit.future = future
        future.add_done_callback(lambda done: self._call_back(unit, done))
        try:
            self._pool.put(future, is_bounded=True)
        except (PoolClosed, InputTooLarge) as error:
            self._give_up(unit, "machine", str(error))

    # ------------------------------------------------------------ ending

    def _call_back(self, unit: OrderedUnit, future: Future[Any]) -> None:
        """In a thread of the pool."""
        try:
            self._loop.call_soon_threadsafe(self._done, unit, future)
        except RuntimeError:
            return  # the loop has ended, and with it everything that could be told

    def _done(self, unit: OrderedUnit, future: Future[Any]) -> None:
        session = unit.session
        self._in_pool -= 1
        try:
            finished: Finished = future.result()
        except CancelledError:
            session.fail(unit, "cancelled", "")
        except InvalidProgram as error:
            program, message = session.record.program, str(error.args[-1])
            self._deliveries.refuse(program, message)
            session.fail(unit, "program", message)
        except Exception as error:
            _log.warning("unit_failed", job=session.record.job, number=unit.number, reason=str(error))
            session.fail(unit, "machine", str(error))
        else:
            session.spent_seconds += finished.milliseconds / 1000 + 0.001
            session.finish(unit, finished)
        self._after(session)

    def _give_up(self, unit: OrderedUnit, reason: str, message: str) -> None:
        self._in_pool -= 1
        unit.session.fail(unit, reason, message)
        # Not from here: many may fail one after the other.
        self._loop.call_soon(self._after, unit.session)

    def _after(self, session: Session) -> None:
        if not self._closed:
            self._ended(session)
            self.fill()
