"""A job in the background: an event loop in a thread of its own, behind methods that any thread may call.

Results are made in a second thread: what users do in callbacks must not hold up the loop.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from noria.client.chain_setup import Connected, connect, fund, job_program, own_runs_of, setting_of
from noria.client.leftovers import close_leftovers
from noria.client.network_futures import AnyNetworkFuture
from noria.client.programs import GivenProgram
from noria.client.wallet import Wallet, open_wallet
from noria.market.access import ChainAccessError
from noria.market.requester.confidence import Choice
from noria.market.requester.errors import OPENING_MAY_COME, JobError
from noria.market.requester.evidence import Settled
from noria.market.requester.job import JobRunner
from noria.market.requester.journal import JobJournal, JournalError
from noria.market.requester.patience import PATIENCE_SECONDS
from noria.market.requester.reasons import JobView
from noria.market.requester.sampling import PoolRuns
from noria.market.requester.units import WorkUnit
from noria.network.transport import Transport
from noria.primitives.addresses import checksum_address
from noria.primitives.background import cancel_all
from noria.primitives.types import Address, Wei
from noria.work.runtimes import Runtime

T = TypeVar("T")

QUEUE_UNITS_MAX: Final = 10_000
QUEUE_BYTES_MAX: Final = 512 << 20
"""Units and bytes of their inputs that may wait; who submits more waits with them."""
CONNECT_SECONDS: Final = 60.0
TOP_UP_SECONDS: Final = 120.0
CLOSE_SECONDS: Final = 60.0
"""For the end of a job after its last unit."""
HURRY_SECONDS: Final = 30.0
TIDY_SECONDS: Final = 1.0
JOIN_SECONDS: Final = 5.0

LOGGER: Final = logging.getLogger("noria.jobs")


class BudgetRunsOut(UserWarning):
    """Most of a job's budget is spent."""


class JobWaits(UserWarning):
    """Nothing has happened in a job for a while; the message says what it waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """What a job shall be, as the user said it; see `noria.client.network_executor.Executor`.

    `program` is what its units are of; None for the Python runtime.
    """

    budget: Wei
    node: str | None
    choice: Choice
    max_price: int | None
    miners: int
    named: tuple[Address, ...]
    deadline_seconds: float | None
    runtime: Runtime | None
    wallet: Wallet | None
    public: bool
    title: str
    program: GivenProgram | None = None
    patience_seconds: float = PATIENCE_SECONDS
    tells_waits: bool = True
    """Whether the user is warned when nothing happens; where a bar is shown, it says so."""


class Session:
    """One job, and the thread that it runs in.

    Parameters
    ----------
    settings
        What it shall be.

    Raises
    ------
    NoNode, WalletError, ChainAccessError
        Where it could not even begin.
    """

    def __init__(self, settings: SessionSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._waiting_units = 0
        self._waiting_bytes = 0
        self._live: dict[WorkUnit, AnyNetworkFuture] = {}
        self._early: list[WorkUnit] = []
        self._ending = threading.Lock()
        self._none_left = threading.Condition(self._lock)
        self._runner: JobRunner | None = None
        self._running: asyncio.Task[None] | None = None
        self._transport: Transport | None = None
        self._own_runs: PoolRuns | None = None
        self._journal: JobJournal | None = None
        self._error: Exception | None = None
        self._is_closed = False
        self._final: JobView | None = None
        self._results: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.wallet = settings.wallet or open_wallet()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="noria-job", daemon=True)
        self._finisher = threading.Thread(target=self._finish_all, name="noria-results", daemon=True)
        self._thread.start()
        self._finisher.start()
        try:
            self._connected: Connected = self._ask(connect(settings.node), CONNECT_SECONDS)
            self.facts = self._connected.access.facts
            self.program = job_program(self.facts, settings.program, settings.runtime)
        except BaseException:
            self._end_threads()
            raise
        _OPEN.add(self)

    # ------------------------------------------------------------ units

    def add(self, unit: WorkUnit, owner: AnyNetworkFuture, *, is_bounded: bool = False) -> None:
        """Queue a unit; wait while too much is queued.

        Parameters
        ----------
        unit
            What to run.
        owner
            Who waits for it.
        is_bounded
            Whether the caller itself sees to it that few of its units wait.

        Raises
        ------
        RuntimeError
            Where the session is closed.
        """
        settled, failed, started = unit.settled, unit.failed, unit.started
        size = sum(len(part.data) for part in unit.parts if part.blob is None)
        waits = [True]

        def left() -> None:
            """Count it as no longer waiting, once."""
            if waits:
                waits.clear()
                with self._room:
                    self._waiting_units -= 1
                    self._waiting_bytes -= size
                    self._room.notify_all()

        def on_started() -> bool:
            left()
            return started()

        def on_settled(result: Settled) -> None:
            self._results.put(lambda: self._ended(unit, lambda: settled(result)))

        def on_failed(error: Exception) -> None:
            left()
            self._results.put(lambda: self._ended(unit, lambda: failed(error)))

        unit.settled, unit.failed, unit.started = on_settled, on_failed, on_started
        is_own = threading.current_thread() in (self._thread, self._finisher)
        with self._room:
            while not (self._is_closed or is_own or is_bounded or self._has_room(size)):
                self._room.wait()
            if self._is_closed and not is_own:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting_units += 1
            self._waiting_bytes += size
            self._live[unit] = owner
        self._loop.call_soon_threadsafe(self._add, unit)

    def _has_room(self, size: int) -> bool:
        units = self._waiting_units
        return not units or (units < QUEUE_UNITS_MAX and self._waiting_bytes + size <= QUEUE_BYTES_MAX)

    def _ended(self, unit: WorkUnit, tell: Callable[[], None]) -> None:
        try:
            tell()
        finally:
            with self._none_left:
                self._live.pop(unit, None)
                self._none_left.notify_all()

    def stop_unit(self, unit: WorkUnit) -> None:
        """Let nobody run a unit any more."""
        self._soon(lambda: self._stop(unit))

    def _stop(self, unit: WorkUnit) -> None:
        if self._runner is not None:
            self._runner.stop(unit)
        elif unit in self._early:
            self._early.remove(unit)
            unit.failed(CancelledError())

    def _add(self, unit: WorkUnit) -> None:
        if self._running is None:
            self._running = self._loop.create_task(self._run())
        if self._runner is None:
            self._early.append(unit)
        else:
            self._runner.add(unit)

    # ------------------------------------------------------------ the job

    async def _run(self) -> None:
        """Open the job with the first unit."""
        settings, connected = self.settings, self._connected
        try:
            self._journal = JobJournal()
            await fund(connected, self.wallet, settings.budget)
            self._transport = await connected.transport()
            self._own_runs = own_runs_of(self.program.source)
            setting = await setting_of(connected, self.program, settings)
            self._runner = JobRunner(
                connected.job_chain(self.wallet),
                self._transport,
                setting,
                own_runs=self._own_runs,
                journal=self._journal,
                warn=lambda message: self._warn(message, BudgetRunsOut),
                tell_wait=self._tell_wait,
            )
        except Exception as error:
            self._error = error
            failure = error if isinstance(error, JobError) else JobError(str(error))
            self._fail_early(failure)
            self._running = None
            return
        self._add_early(self._runner)
        tidying = self._loop.create_task(self._tidy(self._journal))
        try:
            await self._runner.run()
        finally:
            tidying.cancel()

    def _fail_early(self, error: Exception) -> None:
        early, self._early = self._early, []
        for unit in early:
            unit.started()
            unit.failed(error)

    def _add_early(self, runner: JobRunner) -> None:
        early, self._early = self._early, []
        for unit in early:
            runner.add(unit)

    async def _tidy(self, journal: JobJournal) -> None:
        """See to jobs that earlier programs left behind, once this one has its miners."""
        while self._runner is not None and self._runner.state in ("new", "opening", "assigning"):
            await asyncio.sleep(TIDY_SECONDS)
        try:
            await close_leftovers(self._connected.access, self.wallet, journal)
        except (JournalError, ChainAccessError) as error:
            LOGGER.info("what earlier programs left could not be seen to: %s", error)

    def view(self) -> JobView:
        """Return the job's snapshot."""
        runner = self._runner
        if self._final is not None:
            return self._final
        if runner is not None:
            return runner.view()
        settings = self.settings
        return JobView(
            state="new" if self._running is None else "opening",
            requester=checksum_address(self.wallet.address),
            budget=str(settings.budget),
            max_price=str(settings.max_price or 0),
            miners=settings.miners,
            replicas=settings.choice.replicas,
            sample=settings.choice.sample,
            is_directed=bool(settings.named),
            problem="" if self._error is None else str(self._error),
        )

    def _warn(self, message: str, kind: type[UserWarning]) -> None:
        """Tell the user in the thread in which results are told."""
        self._results.put(lambda: warnings.warn(message, kind, stacklevel=1))

    def _tell_wait(self, message: str) -> None:
        LOGGER.info("nothing has happened for a while: %s", message)
        if self.settings.tells_waits:
            self._warn(f"nothing has happened for a while. {message}", JobWaits)

    def note(self) -> str:
        """Return what is waited for, for a progress bar; empty while results come."""
        view = self.view()
        if view.state in ("new", "opening"):
            return "opening the job"
        if view.state == "assigning":
            return "drawing miners"
        if view.state == "running" and not view.done:
            notes = {place.note for place in view.places if place.note}
            return notes.pop() if notes else "waiting for the first result"
        return ""

    def usual_price(self) -> int:
        """Return what a miner's fuel costs with royalty, wei: of this job's miners, or as is usual."""
        prices = [int(place.price) for place in self.view().places]
        if prices:
            return round(sum(prices) / len(prices))
        return self._ask(self._connected.floor_price(), CONNECT_SECONDS) + self.royalty()

    def royalty(self) -> int:
        """Return what the program's developer asks of jobs that are opened now, wei per fuel."""
        return self._ask(self._connected.royalty(self.program.id), CONNECT_SECONDS)

    def top_up(self, amount: int) -> None:
        """Add to the budget."""
        runner = self._runner
        if runner is None:
            raise JobError("the job is not open yet: it is opened with the first call; try again then")
        self._ask(runner.top_up(amount), TOP_UP_SECONDS)

    # ------------------------------------------------------------ the end

    def close(self, *, wait: bool, cancel_waiting: bool, stop_running: bool) -> None:
        """Take no more units, and end the job when those that are there have ended.

        Parameters
        ----------
        wait
            Return when all of this is done.
        cancel_waiting
            Cancel those that no miner has.
        stop_running
            Stop those that run, too.
        """
        with self._room:
            was_closed, self._is_closed = self._is_closed, True
            live = list(self._live.values())
            self._room.notify_all()
        if cancel_waiting:
            for owner in live:
                if stop_running:
                    owner.stop()
                else:
                    owner.cancel()
        if was_closed and not self._thread.is_alive():
            return
        if not wait:
            threading.Thread(target=self._end, args=(stop_running,), name="noria-close", daemon=True).start()
            return
        self._end(stop_running)

    def _end(self, hurry: bool) -> None:
        with self._none_left:
            deadline = time.monotonic() + HURRY_SECONDS if hurry else None
            while self._live:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._none_left.wait(left)
        with self._ending:
            if not self._thread.is_alive():
                return
            try:
                self._ask(self._leave(hurry), HURRY_SECONDS if hurry else CLOSE_SECONDS)
            except TimeoutError:
                LOGGER.warning("job %s could not be ended in time; it will be with the next", self.view().job)
            finally:
                self._end_threads()

    async def _leave(self, hurry: bool) -> None:
        if self._runner is not None and self._running is not None:
            await self._runner.close(hurry=hurry)
            await asyncio.gather(self._running, return_exceptions=True)
        elif self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)
        self._final = self.view()
        if self._own_runs is not None:
            self._own_runs.close()
        if self._transport is not None:
            # The last of its threads cannot be awaited when the interpreter ends.
            with suppress(RuntimeError):
                await self._transport.close()
        await self._connected.access.close()
        if self._journal is not None:
            self._journal.close()

    def summary(self) -> list[str]:
        """Return what was done and what it cost, for people; empty if nothing was."""
        view = self.view()
        if not view.units:
            return []
        if view.job is None and view.state == "opening":
            return [OPENING_MAY_COME]
        miners = sum(place.done > 0 for place in view.places)
        spent, budget = int(view.spent) / 10**18, int(view.budget) / 10**18
        line = (
            f"job {view.job}: {view.done:,} units by {miners} miners in {view.seconds:.1f} s, "
            f"{spent:.4g} of {budget:.4g} NOR"
        )
        liars = [place for place in view.places if place.state == "banned"]
        return [line, *(f"{place.miner} was banned: {place.reason}" for place in liars)]

    # ------------------------------------------------------------ threads

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            cancel_all(self._loop)
            self._loop.close()

    def _finish_all(self) -> None:
        while (finish := self._results.get()) is not None:
            try:
                finish()
            except BaseException:
                # What a callback of the user does must not end this thread.
                LOGGER.critical("a callback of a call failed", exc_info=True)
            del finish

    def _soon(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            # The loop has ended, and with it whatever this was about.
            return

    def _ask(self, work: Coroutine[Any, Any, T], timeout_seconds: float) -> T:
        """Have the loop do something, and wait for it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_seconds)
        except BaseException:
            future.cancel()
            raise

    def _end_threads(self) -> None:
        _OPEN.discard(self)
        self._soon(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN_SECONDS)
        self._results.put(None)
        if threading.current_thread() is not self._finisher:
            self._finisher.join(JOIN_SECONDS)


_OPEN: Final[set[Session]] = set()
"""Sessions that are not over: nobody need hold them."""


@atexit.register
def _close_all() -> None:
    """Finish what is under way before the interpreter ends, unless the user interrupted it."""
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    for session in list(_OPEN):
        session.close(wait=True, cancel_waiting=interrupted, stop_running=interrupted)
