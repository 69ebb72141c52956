"""`Executor`: the interface of `concurrent.futures` over miners, every result checked.

::

    from noria import Executor

    with Executor(budget="2 NOR") as executor:
        for area in executor.map(simulate, grids):
            print(area)

Functions are ordinary ones; `docs/executor.md` tells what is different, `docs/guarantee.md` what a result is
worth.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from types import TracebackType
from typing import Any, Final, Literal, ParamSpec, TypeVar

from rich.console import Console

from noria.client.calls import CALL_EACH, conclusion, encode, prepare, prepare_with
from noria.client.chunks import CALL_SOME, Arguments, Chunk, ChunkFuture, ChunkSizer, each_result
from noria.client.executor import LocalExecutor
from noria.client.executor_settings import amount_of, chosen, program_name
from noria.client.job_handle import JobHandle
from noria.client.mapping import MapRun, chunked, each_of
from noria.client.network_estimate import NetworkEstimate
from noria.client.network_futures import AnyNetworkFuture, NetworkFuture
from noria.client.progress import ProgressBar, Snapshot, is_wanted
from noria.client.session import Session, SessionSettings
from noria.client.tally import Ended, Tally
from noria.client.wallet import Wallet
from noria.market.contracts import MINERS_MAX
from noria.market.requester import confidence as guarantee
from noria.market.requester.evidence import Settled
from noria.market.requester.patience import PATIENCE_SECONDS
from noria.market.requester.reasons import JobView
from noria.market.requester.units import Part, WorkUnit, make_part
from noria.primitives.types import UINT64_MAX, Address
from noria.work.archive import join
from noria.work.functions import CapturedFunction
from noria.work.ids import ProgramId
from noria.work.receipts import Status
from noria.work.runtimes import Runtime
from noria.work.workers import Outcome

P = ParamSpec("P")
T = TypeVar("T")

MINERS_MIN: Final = 4
FUEL_LIMIT_LONG: Final = 10**12
"""For a call that does not end within the fuel that carries weight; as `LocalExecutor` has it."""
WINDOW: Final = 512
"""Units of a map that wait or run at any time."""


class UnitsWithoutWeight(UserWarning):
    """Calls burn more fuel than a unit that carries weight may: miners run them for the price alone."""


class Executor(futures.Executor):
    """Runs plain Python functions on miners' machines, each result checked before it is returned.

    The node is asked at once; the job is opened when the first call is submitted. On a local network nothing
    need be set up: a wallet is made and filled there.

    Parameters
    ----------
    budget
        Most that all calls together may cost: ``"2 NOR"``, or wei as an integer. What is not used comes back.
    node
        URL of a node, or folder of a local network; `noria.client.local_network.find_nodes` tells what is
        taken if left out.
    replicas
        Miners that run each call, 2 if left out. They seal their results before any is shown.
    confidence
        Least probability that a result is right; chooses `replicas` and `sample` as cheaply as possible.
    liars
        Share of miners that may lie, for `confidence`.
    sample
        Share of calls that this machine runs again, chosen at random.
    max_price
        Most that a miner may ask for, wei per fuel (``"3 gwei"`` or an integer); some times what is usual if
        left out.
    miners
        How many to draw, or accounts of miners to hire by name. Named miners earn no weight.
    deadline
        Seconds from now after which anybody may close the job.
    patience
        Seconds in which nothing happens, and no miner is at work, after which the calls that wait fail with
        `JobStalled`; ``math.inf`` to wait for ever.
    fuel_limit
        Most fuel of a call. If left out, the most that carries weight, and again with more for a call that
        needs it.
    runtime
        The Python runtime; the installed one if left out.
    progress
        Whether to show a bar, and a summary at the end; in terminals and notebooks if left out.
    wallet
        Who pays; the user's own if left out.
    public
        Whether inputs may be shown to whoever checks the miners' work. Without it the work earns no weight.

    Raises
    ------
    ValueError
        If a number makes no sense.
    NoNode
        If no node answers; the message says how to start one.
    WalletError, ChainAccessError
        If there is no wallet, or the node is none.
    """

    def __init__(
        self,
        budget: str | int = "2 NOR",
        *,
        node: str | None = None,
        replicas: int | None = None,
        confidence: float | None = None,
        liars: float = guarantee.LIARS,
        sample: float | None = None,
        max_price: str | int | None = None,
        miners: int | Sequence[Address] | None = None,
        deadline: float | None = None,
        patience: float = PATIENCE_SECONDS,
        fuel_limit: int | None = None,
        runtime: Runtime | None = None,
        progress: bool | None = None,
        wallet: Wallet | None = None,
        public: bool = True,
        title: str = "",
    ) -> None:
        if fuel_limit is not None and not 0 < fuel_limit <= UINT64_MAX >> 1:
            raise ValueError(f"fuel_limit must be 1 to 2^63 - 1, not {fuel_limit}")
        self.choice = chosen(replicas, confidence, sample, liars)
        named = () if miners is None or isinstance(miners, int) else tuple(miners)
        count = miners if isinstance(miners, int) else len(named) or max(MINERS_MIN, self.choice.replicas + 1)
        if not self.choice.replicas <= count <= MINERS_MAX:
            raise ValueError(
                f"miners must be {self.choice.replicas} to {MINERS_MAX} for {self.choice.replicas} replicas, "
                f"not {count}"
            )
        if deadline is not None and deadline <= 0:
            raise ValueError(f"deadline must be above 0 seconds from now, not {deadline}")
        if not patience > 0:
            raise ValueError(f"patience must be above 0 seconds, not {patience}")
        console = Console(stderr=True)
        self._console = console if progress or (progress is None and is_wanted(console)) else None
        settings = SessionSettings(
            budget=amount_of("budget", budget),
            node=node,
            choice=self.choice,
            max_price=None if max_price is None else amount_of("max_price", max_price),
            miners=count,
            named=named,
            deadline_seconds=deadline,
            runtime=runtime,
            wallet=wallet,
            public=public,
            title=title or program_name(),
            patience_seconds=patience,
            tells_waits=self._console is None,
        )
        self._owner = os.getpid()
        self._fuel_limit = fuel_limit
        self._tally = Tally()
        self._runs: weakref.WeakSet[MapRun[Any, Any]] = weakref.WeakSet()
        self._is_shut = False
        self._warned = False
        self._shared: weakref.WeakKeyDictionary[CapturedFunction, Part] = weakref.WeakKeyDictionary()
        self._session = Session(settings)
        self.job = JobHandle(self._session.view)
        self._bar: ProgressBar | None = None
        if self._console is not None:
            self._bar = ProgressBar(_look(self._tally, self._session), self._console)
        # An executor that nobody holds any more finishes what it has, and its job is ended.
        weakref.finalize(
            self, self._session.close, wait=False, cancel_waiting=False, stop_running=False
        ).atexit = False

    # ------------------------------------------------------------ concurrent.futures

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> NetworkFuture[T]:
        """Schedule ``fn(*args, **kwargs)``.

        Function and arguments are copied now. For many calls of one function use `map`, which copies the
        function once, and joins calls that are short.

        Returns
        -------
        NetworkFuture

        Raises
        ------
        CannotTravel, UnencodableValue
            If the function or an argument cannot be sent.
        RuntimeError
            After `shutdown`.
        """
        self._check_open()
        name, captured = prepare(fn)
        return self._start(name, captured, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return the results of ``fn`` over the items, in order, as the builtin ``map`` does.

        The function is copied once. Calls begin at once; however many there are, only some wait at any time.
        A caller that stops taking results, or takes none in time, stops the calls that are left.

        Parameters
        ----------
        fn
            The function, which gets one item of each iterable.
        iterables
            Taken whole at once, unless there is a `buffersize`.
        timeout
            Seconds from now, after which `TimeoutError` is raised where a result is still missing.
        chunksize
            Calls in one unit. If left out, as many as make a unit worth handing out, and each result,
            exception and traceback is as if its call had been alone. If given, an exception takes the place
            of its chunk.
        buffersize
            Most units of which the result has not been taken; items are taken only as results are.

        Raises
        ------
        CannotTravel
            If the function cannot be sent. An item that cannot be raises where its result would be.
        ValueError
            If a size is below 1.
        """
        self._check_open()
        for name, size in (("chunksize", chunksize), ("buffersize", buffersize)):
            if size is not None and size < 1:
                raise ValueError(f"{name} must be >= 1.")
        items: Iterator[Arguments] = zip(*iterables, strict=False)
        is_lazy = buffersize is not None
        if not is_lazy:
            everything = list(items)
            self._tally.expect(len(everything))
            items = iter(everything)

        def drop(chunks: list[list[Arguments]]) -> None:
            self._tally.expect(-sum(len(calls) for calls in chunks))

        run: MapRun[list[Arguments], Any]
        if chunksize is None:
            start, sizer = self._chunk_starter(fn, is_expected=not is_lazy)
            run = MapRun(start, chunked(items, sizer.size), buffersize or sizer.window, drop, is_lazy=is_lazy)
            self._runs.add(run)
            chunks: Iterator[Chunk] = run.results(timeout)
            return iter(each_result(chunks))
        name, captured = prepare(fn) if chunksize == 1 else prepare_with(CALL_EACH, fn)

        def start_unit(calls: list[Arguments]) -> AnyNetworkFuture:
            arguments = calls[0] if chunksize == 1 else (calls,)
            return self._start(
                name, captured, arguments, {}, len(calls), is_expected=not is_lazy, is_own=True
            )

        run = MapRun(
            start_unit, chunked(items, lambda: chunksize), buffersize or WINDOW, drop, is_lazy=is_lazy
        )
        self._runs.add(run)
        results = run.results(timeout)
        return results if chunksize == 1 else each_of(results)

    @property
    def program(self) -> ProgramId:
        """The Python runtime, of which the job's units are."""
        return self._session.program

    def submit_archive(
        self, name: str, archive: bytes, conclude: Callable[[Outcome], T], shared: bytes = b""
    ) -> NetworkFuture[T]:
        """Schedule a unit whose input was made elsewhere, as `noria.work.scripts` makes it.

        Parameters
        ----------
        name
            Of what is called, for people.
        archive
            The input.
        conclude
            Makes the result of how the unit ended.
        shared
            The function part of the archive, which travels once for all units that have it.

        Raises
        ------
        RuntimeError
            After `shutdown`.
        """
        self._check_open()
        self._tally.expect(1)
        try:
            future: NetworkFuture[T] = NetworkFuture(name, conclude)
            first = join(shared, b"") if shared else b""
            parts = (make_part(first, is_shared=True), make_part(archive[len(first) :])) if first else None
            limit = self._fuel_limit or self._session.facts.number("unit_fuel_max")
            self._queue(
                future,
                parts or (make_part(archive),),
                limit,
                may_grow=self._fuel_limit is None,
                note=None,
                is_own=True,
            )
        except BaseException:
            self._tally.end(1)
            raise
        future.add_done_callback(Ended(self._tally, 1))
        return future

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, stop_running: bool = False
    ) -> None:
        """Take no more calls, and close the job when those that are there have ended.

        Parameters
        ----------
        wait
            Return when all of this is done.
        cancel_futures
            Cancel the calls that no miner has yet.
        stop_running
            Stop those that run, too: miners charge nothing for what has not ended.
        """
        self._is_shut = True
        cancel_futures = cancel_futures or stop_running
        if cancel_futures:
            for run in list(self._runs):
                run.cancel()
        try:
            self._session.close(wait=wait, cancel_waiting=cancel_futures, stop_running=stop_running)
        except BaseException:
            # Interrupted while it waits: nothing may go on behind the user's back.
            for run in list(self._runs):
                run.cancel()
            self._session.close(wait=False, cancel_waiting=True, stop_running=True)
            raise
        finally:
            if wait and self._bar is not None:
                self._bar.stop()
        if wait and self._console is not None:
            for line in self._session.summary():
                self._console.print(line, highlight=False)
            self._console = None

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> Literal[False]:
        """Shut down: at once after Ctrl-C and the like, otherwise after the last call."""
        is_interrupted = exc_type is not None and not issubclass(exc_type, Exception)
        self.shutdown(stop_running=is_interrupted)
        return False

    # ------------------------------------------------------------ more than the standard library has

    def estimate(self, fn: Callable[..., Any], sample: Iterable[Any]) -> NetworkEstimate:
        """Run ``fn`` over a sample on this machine, and tell what a call takes and costs.

        Parameters
        ----------
        fn
            A function of one argument.
        sample
            Arguments that stand for all; some ten are enough where calls are alike.

        Raises
        ------
        ValueError
            If the sample is empty.
        RuntimeMissing
            If the Python runtime is not installed here.
        Exception
            What a call raises.
        """
        with LocalExecutor(
            fuel_limit=self._fuel_limit or FUEL_LIMIT_LONG, runtime=self._session.runtime, progress=False
        ) as local:
            taken = local.estimate(fn, sample)
        return NetworkEstimate(
            local=taken,
            price=self._session.usual_price(),
            replicas=self.choice.replicas,
            workers=sum(place.workers for place in self._session.view().places),
        )

    def stats(self) -> JobView:
        """Return what has been done so far: units, fuel, money, places."""
        return self._session.view()

    def top_up(self, amount: str | int) -> None:
        """Add to the budget: ``"1 NOR"``, or wei as an integer.

        Returns when a block has it.

        Raises
        ------
        InvalidAmount
            If it is no amount.
        JobError, ChainAccessError
            If the account has less, or the job is over.
        """
        self._session.top_up(amount_of("amount", amount))

    # ------------------------------------------------------------ inside

    def _check_open(self) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError(
                f"this executor belongs to process {self._owner}; make one of your own after a fork"
            )
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _chunk_starter(
        self, fn: Callable[..., Any], *, is_expected: bool
    ) -> tuple[Callable[[list[Arguments]], ChunkFuture], ChunkSizer]:
        name, captured = prepare_with(CALL_SOME, fn)
        sizer = ChunkSizer(self._session.facts.number("unit_fuel_max"))

        def start_unit(calls: list[Arguments]) -> AnyNetworkFuture:
            def note(settled: Settled) -> None:
                slowest = max((signed.milliseconds for signed in settled.replicas), default=0)
                sizer.note(len(calls), settled.fuel, slowest)

            return self._start(
                name,
                captured,
                (calls,),
                {},
                len(calls),
                is_expected=True,
                is_own=True,
                note=note,
                counts=False,
            )

        def start(calls: list[Arguments]) -> ChunkFuture:
            if not is_expected:
                self._tally.expect(len(calls))
            future = ChunkFuture(calls, start_unit)
            future.add_done_callback(Ended(self._tally, len(calls)))
            return future

        return start, sizer

    def _start(
        self,
        name: str,
        captured: CapturedFunction,
        positional: tuple[Any, ...],
        named: dict[str, Any],
        calls: int = 1,
        *,
        is_expected: bool = False,
        is_own: bool = False,
        note: Callable[[Settled], None] | None = None,
        counts: bool = True,
    ) -> AnyNetworkFuture:
        """Queue one unit of so many calls, unless they are counted already."""
        if not is_expected:
            self._tally.expect(calls)
        try:
            call = encode(captured, positional, named)
            parts = self._parts(captured, call.archive)
            future: AnyNetworkFuture = NetworkFuture(name, conclusion(name, call))
            limit = self._fuel_limit or self._session.facts.number("unit_fuel_max")
            # What ran out of the fuel that carries weight is tried again, but not as part of a chunk.
            may_grow = self._fuel_limit is None and calls == 1
            self._queue(future, parts, limit, may_grow=may_grow, note=note, is_own=is_own)
        except BaseException:
            if counts:
                self._tally.end(calls)
            raise
        if counts:
            future.add_done_callback(Ended(self._tally, calls))
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
            self._session.program,
            parts,
            limit,
            settled=settled,
            failed=future.fail,
            started=future.begin,
        )
        future.keeper, future.unit = self._session, unit
        self._session.add(unit, future, is_bounded=is_own)

    def _parts(self, captured: CapturedFunction, archive: bytes) -> tuple[Part, ...]:
        """Divide an archive: the function travels once, the arguments with their unit."""
        shared = self._shared.get(captured)
        if shared is None:
            shared = self._shared[captured] = make_part(join(captured.part, b""), is_shared=True)
        return shared, make_part(archive[len(shared.data) :])

    def _warn_of_long_calls(self, limit: int) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"a call burned {limit:,} fuel and did not end; it runs again with {FUEL_LIMIT_LONG:,}. "
                f"Units above {limit:,} fuel earn miners no weight, so that fewer take them: split the work",
                UnitsWithoutWeight,
                stacklevel=2,
            )


def _look(tally: Tally, session: Session) -> Callable[[], Snapshot]:
    def look() -> Snapshot:
        view = session.view()
        return Snapshot(tally.ended, tally.expected, view.fuel, None, session.note())

    return look
