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

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

from noria.client.calls import CALL_EACH, conclusion, encode, prepare, prepare_with
from noria.client.chunks import CALL_SOME, Arguments, Chunk, ChunkFuture, ChunkSizer, each_result
from noria.client.executor import LocalExecutor
from noria.client.executor_settings import JobOptions, amount_of, settings_of
from noria.client.job_front import FUEL_LIMIT_LONG, WINDOW, JobFront, UnitsWithoutWeight, console_for
from noria.client.mapping import MapRun, chunked, each_of
from noria.client.network_estimate import NetworkEstimate
from noria.client.network_futures import AnyNetworkFuture, NetworkFuture
from noria.client.tally import Ended
from noria.client.wallet import Wallet
from noria.market.requester import confidence as guarantee
from noria.market.requester.evidence import Settled
from noria.market.requester.patience import PATIENCE_SECONDS
from noria.market.requester.reasons import JobView
from noria.market.requester.units import Part, make_part
from noria.primitives.types import Address
from noria.work.archive import join
from noria.work.functions import CapturedFunction
from noria.work.ids import ProgramId
from noria.work.runtimes import Runtime
from noria.work.workers import Outcome

P = ParamSpec("P")
T = TypeVar("T")

__all__ = ["Executor", "UnitsWithoutWeight"]


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
        console = console_for(progress)
        options = JobOptions(
            node=node,
            replicas=replicas,
            confidence=confidence,
            liars=liars,
            sample=sample,
            max_price=max_price,
            miners=miners,
            deadline=deadline,
            patience=patience,
            fuel_limit=fuel_limit,
            wallet=wallet,
            public=public,
            title=title,
        )
        settings = settings_of(budget, options, runtime=runtime, tells_waits=console is None)
        self.choice = settings.choice
        self._fuel_limit, self._runtime = fuel_limit, runtime
        self._shared: weakref.WeakKeyDictionary[CapturedFunction, Part] = weakref.WeakKeyDictionary()
        self._front = JobFront(settings, fuel_limit, console)
        self._session = self._front.session
        self.job = self._front.job

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
        self._front.check_open()
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
        self._front.check_open()
        for name, size in (("chunksize", chunksize), ("buffersize", buffersize)):
            if size is not None and size < 1:
                raise ValueError(f"{name} must be >= 1.")
        items: Iterator[Arguments] = zip(*iterables, strict=False)
        is_lazy = buffersize is not None
        if not is_lazy:
            everything = list(items)
            self._front.tally.expect(len(everything))
            items = iter(everything)

        def drop(chunks: list[list[Arguments]]) -> None:
            self._front.tally.expect(-sum(len(calls) for calls in chunks))

        run: MapRun[list[Arguments], Any]
        if chunksize is None:
            start, sizer = self._chunk_starter(fn, is_expected=not is_lazy)
            run = MapRun(start, chunked(items, sizer.size), buffersize or sizer.window, drop, is_lazy=is_lazy)
            self._front.runs.add(run)
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
        self._front.runs.add(run)
        results = run.results(timeout)
        return results if chunksize == 1 else each_of(results)

    @property
    def program(self) -> ProgramId:
        """The Python runtime, of which the job's units are."""
        return self._session.program.id

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
        self._front.check_open()

        def make() -> tuple[NetworkFuture[T], tuple[Part, ...]]:
            first = join(shared, b"") if shared else b""
            parts = (make_part(first, is_shared=True), make_part(archive[len(first) :])) if first else None
            return NetworkFuture(name, conclude), parts or (make_part(archive),)

        return self._front.start(make, is_own=True)

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
        self._front.shutdown(wait=wait, cancel_futures=cancel_futures, stop_running=stop_running)

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
            fuel_limit=self._fuel_limit or FUEL_LIMIT_LONG, runtime=self._runtime, progress=False
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
                self._front.tally.expect(len(calls))
            future = ChunkFuture(calls, start_unit)
            future.add_done_callback(Ended(self._front.tally, len(calls)))
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
        """Queue one unit of so many calls."""

        def make() -> tuple[AnyNetworkFuture, tuple[Part, ...]]:
            call = encode(captured, positional, named)
            return NetworkFuture(name, conclusion(name, call)), self._parts(captured, call.archive)

        return self._front.start(
            make, calls, is_expected=is_expected, is_own=is_own, note=note, counts=counts
        )

    def _parts(self, captured: CapturedFunction, archive: bytes) -> tuple[Part, ...]:
        """Divide an archive: the function travels once, the arguments with their unit."""
        shared = self._shared.get(captured)
        if shared is None:
            shared = self._shared[captured] = make_part(join(captured.part, b""), is_shared=True)
        return shared, make_part(archive[len(shared.data) :])
