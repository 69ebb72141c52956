"""What executors over miners have in common: one job, the units of its calls, a bar, and an end in order."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable
from typing import Any, Final

from rich.console import Console

from noria.client.job_handle import JobHandle
from noria.client.mapping import MapRun
from noria.client.network_futures import AnyNetworkFuture
from noria.client.progress import ProgressBar, Snapshot, is_wanted
from noria.client.session import Session, SessionSettings
from noria.client.tally import Ended, Tally
from noria.market.requester.evidence import Settled
from noria.market.requester.units import Part, WorkUnit
from noria.work.receipts import Status

FUEL_LIMIT_LONG: Final = 10**12
"""For a call that does not end within the fuel that carries weight; as `LocalExecutor` has it."""
WINDOW: Final = 512
"""Units of a map that wait or run at any time."""


class UnitsWithoutWeight(UserWarning):
    """Calls that earn miners no weight, for their fuel or their program: they run for the price alone."""


class JobFront:
    """One job, behind whatever makes units of a user's calls.

    Parameters
    ----------
    settings
        What the job shall be.
    fuel_limit
        Most fuel of a unit; None for what carries weight, and then more for a call that needs it.
    console
        Where a bar is shown; None for nowhere.

    Raises
    ------
    NoNode, WalletError, ChainAccessError, JobError
        Where the job could not even begin.
    """

    def __init__(self, settings: SessionSettings, fuel_limit: int | None, console: Console | None) -> None:
        self._owner = os.getpid()
        self._fuel_limit = fuel_limit
        self._console = console
        self._is_shut = False
        self._warned = False
        self.tally = Tally()
        self.runs: weakref.WeakSet[MapRun[Any, Any]] = weakref.WeakSet()
        self.session = Session(settings)
        self.job = JobHandle(self.session.view)
        self._bar: ProgressBar | None = None
        if console is not None:
            self._bar = ProgressBar(_look(self.tally, self.session), console)
        # An executor that nobody holds any more finishes what it has, and its job is ended.
        weakref.finalize(
            self, self.session.close, wait=False, cancel_waiting=False, stop_running=False
        ).atexit = False

    def check_open(self) -> None:
        """Refuse calls after `shutdown`, and of other processes."""
        if os.getpid() != self._owner:
            raise RuntimeError(
                f"this executor belongs to process {self._owner}; make one of your own after a fork"
            )
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def start(
        self,
        make: Callable[[], tuple[AnyNetworkFuture, tuple[Part, ...]]],
        calls: int = 1,
        *,
        is_expected: bool = False,
        is_own: bool = False,
        note: Callable[[Settled], None] | None = None,
        counts: bool = True,
    ) -> AnyNetworkFuture:
        """Make and queue one unit.

        Parameters
        ----------
        make
            Makes future and input; raises what is wrong with the call.
        calls
            How many calls it is.
        is_expected
            Whether they are counted already.
        is_own
            Whether the caller itself sees to it that few of its units wait.
        note
            Told how each attempt ended.
        counts
            Whether their end is counted here.
        """
        if not is_expected:
            self.tally.expect(calls)
        try:
            future, parts = make()
            limit = self._fuel_limit or self.session.facts.number("unit_fuel_max")
            # What ran out of the fuel that carries weight is tried again, but not as part of a chunk.
            may_grow = self._fuel_limit is None and calls == 1
            self._queue(future, parts, limit, may_grow=may_grow, note=note, is_own=is_own)
        except BaseException:
            if counts:
                self.tally.end(calls)
            raise
        if counts:
            future.add_done_callback(Ended(self.tally, calls))
        if self._bar is not None:
            self._bar.start()
        return future

    def _queue(
        self,
        future: AnyNetworkFuture,
        parts: tuple[Part, ...],
        limit: int,
        *,
        may_grow: bool,
        note: Callable[[Settled], None] | None,
        is_own: bool,
    ) -> None:
        def settled(result: Settled) -> None:
            if note is not None:
                note(result)
            if may_grow and result.status is Status.OUT_OF_FUEL and limit < FUEL_LIMIT_LONG:
                self._warn_of_long_calls(limit)
                future.charge(result)
                try:
                    self._queue(future, parts, FUEL_LIMIT_LONG, may_grow=False, note=note, is_own=True)
                except Exception as error:
                    future.fail(error)
                return
            future.settle(result)

        unit = WorkUnit(
            self.session.program.id,
            parts,
            limit,
            settled=settled,
            failed=future.fail,
            started=future.begin,
        )
        future.keeper, future.unit = self.session, unit
        self.session.add(unit, future, is_bounded=is_own)
        if future.is_stopping:
            # Stopped between two attempts: the one that has ended was all that could be stopped.
            self.session.stop_unit(unit)

    def _warn_of_long_calls(self, limit: int) -> None:
        # What carries no weight anyway loses none.
        if not self._warned and self.session.program.is_pinned:
            self._warned = True
            warnings.warn(
                f"a call burned {limit:,} fuel and did not end; it runs again with {FUEL_LIMIT_LONG:,}. "
                f"Units above {limit:,} fuel earn miners no weight, so that fewer take them: split the work",
                UnitsWithoutWeight,
                stacklevel=2,
            )

    def shutdown(self, *, wait: bool, cancel_futures: bool, stop_running: bool) -> None:
        """Take no more calls, and close the job when those that are there have ended."""
        self._is_shut = True
        cancel_futures = cancel_futures or stop_running
        if cancel_futures:
            for run in list(self.runs):
                run.cancel()
        try:
            self.session.close(wait=wait, cancel_waiting=cancel_futures, stop_running=stop_running)
        except BaseException:
            # Interrupted while it waits: nothing may go on behind the user's back.
            for run in list(self.runs):
                run.cancel()
            self.session.close(wait=False, cancel_waiting=True, stop_running=True)
            raise
        finally:
            if wait and self._bar is not None:
                self._bar.stop()
        if wait and self._console is not None:
            for line in self.session.summary():
                self._console.print(line, highlight=False)
            self._console = None


def console_for(progress: bool | None) -> Console | None:
    """Return where a bar is shown, if one is wanted."""
    console = Console(stderr=True)
    return console if progress or (progress is None and is_wanted(console)) else None


def _look(tally: Tally, session: Session) -> Callable[[], Snapshot]:
    def look() -> Snapshot:
        view = session.view()
        return Snapshot(tally.ended, tally.expected, view.fuel, None, session.note())

    return look
