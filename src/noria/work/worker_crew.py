"""The threads of a pool, one for each worker process, and the queue that they share."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any, Final

from noria._core import CacheFailure, InvalidProgram, MachineFailure
from noria.work.receipts import Status
from noria.work.worker_handle import (
    Loading,
    Outcome,
    ProgramMissing,
    WorkerLost,
    WorkerProcess,
    WorkerSettings,
)
from noria.work.worker_units import UnitFuture

LOGGER: Final = logging.getLogger("noria.workers")

ATTEMPTS: Final = 2
STAGES_BY_INTEREST: Final = ("compiling", "instrumenting", "loading", "waiting")


class QueueFull(RuntimeError):
    """As many units wait as may; ask again when some are done."""


class PoolClosed(RuntimeError):
    """The pool takes no more units."""


class PoolForked(RuntimeError):
    """The pool belongs to the process that made it, not to one forked from that."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What a pool has done so far.

    Parameters
    ----------
    workers
        Most units at once.
    queued, running
        Units now.
    units
        Units that ran to an end, whatever their status.
    failed
        Those of them with another status than ok.
    cancelled
        Units cancelled or stopped.
    retries
        Units begun a second time.
    machine_failures
        Units given up because this machine could not run them.
    processes
        Worker processes started.
    fuel
        Fuel of all units that ran to an end.
    busy_seconds
        Time that workers spent on units, all of them together, with starting and loading and with attempts
        that came to nothing.
    """

    workers: int
    queued: int = 0
    running: int = 0
    units: int = 0
    failed: int = 0
    cancelled: int = 0
    retries: int = 0
    machine_failures: int = 0
    processes: int = 0
    fuel: int = 0
    busy_seconds: float = 0.0


class Crew:
    """A pool's threads and what they share; alive until its last unit is done."""

    def __init__(self, workers: int, settings: WorkerSettings, queue_limit: int, queue_bytes: int) -> None:
        self.settings = settings
        self.owner = os.getpid()
        self.queue_limit, self.queue_bytes = queue_limit, queue_bytes
        self.lock = threading.Lock()
        self.work = threading.Condition(self.lock)
        self.room = threading.Condition(self.lock)
        self.heap: list[tuple[int, int, UnitFuture[Any]]] = []
        self.sequence = 0
        self.queued_bytes = 0
        self.running: set[UnitFuture[Any]] = set()
        self.closing = False
        self.counts = PoolStats(workers)
        self.loads: dict[_Hand, Loading] = {}
        self.hands = [_Hand(self) for _ in range(workers)]
        self.threads = [
            threading.Thread(target=hand.serve, name=f"noria-worker-{number}", daemon=True)
            for number, hand in enumerate(self.hands)
        ]
        _CREWS.add(self)
        for thread in self.threads:
            thread.start()

    def add(self, unit: UnitFuture[Any], priority: int, wait_seconds: float | None, is_bounded: bool) -> None:
        """Queue a unit, once there is room."""
        self.check_owner()
        deadline = None if wait_seconds is None else time.monotonic() + wait_seconds
        size = len(unit.input)
        is_own = threading.current_thread() in self.threads
        with self.lock:
            while not (self.closing or is_own or is_bounded or self.has_room(size)):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise QueueFull(
                        f"{self.counts.queued} units with {self.queued_bytes} bytes of input wait already; "
                        "ask again when some are done"
                    )
                self.room.wait(left)
            # A thread of the pool takes what it adds itself, if need be: it does not end before.
            if self.closing and not (is_own and is_bounded):
                raise PoolClosed("cannot schedule new futures after shutdown")
            unit.crew, unit.is_queued = self, True
            heappush(self.heap, (-priority, self.sequence, unit))
            self.sequence += 1
            self.queued_bytes += size
            self.count(queued=1)
            self.work.notify()

    def has_room(self, size: int) -> bool:
        """Whether an input of this size may join the queue."""
        # A large input may come in alone.
        queued = self.counts.queued
        return not queued or (queued < self.queue_limit and self.queued_bytes + size <= self.queue_bytes)

    def forget(self, unit: UnitFuture[Any]) -> None:
        """Note that a unit was cancelled. It stays in the queue, empty, until its turn."""
        with self.lock:
            if unit.is_queued:
                self.unqueue(unit)
                self.count(cancelled=1)
        unit.input, unit.conclude = b"", None

    def stop(self, unit: UnitFuture[Any]) -> bool:
        """End the worker that runs a unit."""
        with self.lock:
            if unit.is_settled or unit not in self.running:
                return unit.is_stopping
            unit.is_stopping = True
            if unit.process is not None:
                unit.process.kill()
            return True

    def stats(self) -> PoolStats:
        """Return the counts of now."""
        with self.lock:
            return replace(self.counts, running=len(self.running))

    def process_ids(self) -> list[int]:
        """Return the processes of now."""
        processes = [hand.process for hand in self.hands]
        return [process.pid for process in processes if process is not None and process.is_alive()]

    def most_interesting_load(self) -> Loading | None:
        """Return what is worth showing of what is being loaded."""
        with self.lock:
            loads = list(self.loads.values())
        return min(loads, key=lambda load: STAGES_BY_INTEREST.index(load.stage), default=None)

    def close(self, *, wait: bool = False, cancel_queued: bool = False, stop_running: bool = False) -> None:
        """Take no more units and let the threads end; nothing in a forked process."""
        if os.getpid() != self.owner:
            return
        with self.lock:
            self.closing = True
            self.work.notify_all()
            self.room.notify_all()
            queued = [unit for *_, unit in self.heap] if cancel_queued else []
            running = list(self.running) if stop_running else []
        for unit in queued:
            unit.cancel()
        for unit in running:
            self.stop(unit)
        if wait and threading.current_thread() not in self.threads:
            for thread in self.threads:
                thread.join()

    def check_owner(self) -> None:
        """Refuse a process that was forked from the pool's."""
        if os.getpid() != self.owner:
            raise PoolForked(f"this pool belongs to process {self.owner}; make one of your own after a fork")

    def take(self) -> UnitFuture[Any] | None:
        """Wait for the next unit; None if there will be none."""
        while True:
            with self.lock:
                while not self.heap:
                    if self.closing:
                        return None
                    self.work.wait()
                unit = heappop(self.heap)[-1]
                was_queued = unit.is_queued
                if was_queued:
                    self.unqueue(unit)
                    self.running.add(unit)
            # Here whoever waits for a cancelled unit is told, also for those that were taken out before.
            if unit.set_running_or_notify_cancel():
                return unit
            with self.lock:
                self.running.discard(unit)
                self.count(cancelled=int(was_queued))

    # ---------------------------------------------------------------- with the lock held

    def unqueue(self, unit: UnitFuture[Any]) -> None:
        """Take a unit out of the queue's counts."""
        unit.is_queued = False
        self.queued_bytes -= len(unit.input)
        self.count(queued=-1)
        self.room.notify_all()

    def count(self, **changes: float) -> None:
        """Add to the counts."""
        counts: Any = self.counts
        self.counts = replace(
            counts, **{name: getattr(counts, name) + more for name, more in changes.items()}
        )


class _Hand:
    """One thread of a crew, with the worker process that it looks after."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.process: WorkerProcess | None = None

    def serve(self) -> None:
        """Carry out units until there will be no more."""
        try:
            while (unit := self.crew.take()) is not None:
                self.carry_out(unit)
                del unit
        finally:
            if self.process is not None:
                self.process.close(gently=True)

    def carry_out(self, unit: UnitFuture[Any]) -> None:
        """Run a unit, again if need be, and say how it ended."""
        outcome: Outcome | None = None
        error: Exception | None = None
        lost: list[str] = []
        may_be_replaced = True
        while outcome is None and error is None and len(lost) < ATTEMPTS and not unit.is_stopping:
            begin = time.monotonic()
            try:
                outcome = self.run(unit, may_be_replaced)
                if outcome is None:
                    may_be_replaced = False
                    self.discard(unit)
            except WorkerLost as reason:
                lost.append(str(reason))
                self.discard(unit)
            except Exception as reason:
                error = reason
                if not isinstance(reason, InvalidProgram | ProgramMissing | CacheFailure):
                    # A defect of this pool; whoever waits for the unit must hear of it.
                    self.discard(unit)
            finally:
                with self.crew.lock:
                    unit.process = None
                    self.crew.count(busy_seconds=time.monotonic() - begin)
        self.settle(unit, outcome, error, lost)

    def run(self, unit: UnitFuture[Any], may_be_replaced: bool) -> Outcome | None:
        """Run a unit once; None if it takes another process."""
        if self.process is not None and not self.process.is_alive():
            self.discard(unit)
        if self.process is None:
            self.process = WorkerProcess(self.crew.settings)
            with self.crew.lock:
                self.crew.count(processes=1)
        with self.crew.lock:
            if unit.is_stopping:
                return None
            unit.process = self.process
        return self.process.run(
            unit.program,
            unit.input,
            unit.fuel_limit,
            may_be_replaced=may_be_replaced,
            loading=self.note_load,
        )

    def settle(
        self, unit: UnitFuture[Any], outcome: Outcome | None, error: Exception | None, lost: list[str]
    ) -> None:
        """Count what happened and complete the future."""
        crew = self.crew
        with crew.lock:
            unit.is_settled = True
            crew.running.discard(unit)
            stopped = unit.is_stopping
            given_up = not stopped and outcome is None and error is None
            crew.count(
                cancelled=int(stopped),
                machine_failures=int(given_up),
                retries=0 if stopped else len(lost) - given_up,
            )
            if outcome is not None and not stopped:
                crew.count(units=1, fuel=outcome.fuel, failed=int(outcome.status != Status.OK))
        try:
            if stopped:
                # The worker is dying, or about to.
                self.discard(unit)
                unit.fail(CancelledError())
            elif outcome is not None:
                unit.settle(outcome)
            else:
                unit.fail(error or MachineFailure(_complaint(lost)))
        except BaseException:
            # What the user did to the future, or a callback that ends threads, must not end this one.
            LOGGER.critical("a callback of a unit failed", exc_info=True)

    def discard(self, unit: UnitFuture[Any]) -> None:
        """End the worker; the next unit gets another."""
        with self.crew.lock:
            unit.process = None
        if self.process is not None:
            self.process.close()
            self.process = None

    def note_load(self, load: Loading | None) -> None:
        """Note how far the loading of a program is."""
        with self.crew.lock:
            if load is None:
                self.crew.loads.pop(self, None)
            else:
                self.crew.loads[self] = load


def _complaint(lost: list[str]) -> str:
    reasons = " and then ".join(dict.fromkeys(lost))
    return (
        f"this machine could not run the unit in {len(lost)} attempts: {reasons}; "
        "this says nothing about the unit: run it on another machine, or later"
    )


_CREWS: weakref.WeakSet[Crew] = weakref.WeakSet()


@atexit.register
def _finish_all() -> None:
    """Finish what is under way before the interpreter ends, unless the user interrupted it."""
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    for crew in list(_CREWS):
        crew.close(wait=True, cancel_queued=interrupted, stop_running=interrupted)
