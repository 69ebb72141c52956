"""`LocalExecutor`: the interface of `concurrent.futures` over the sandbox, on this machine's cores.

::

    from noria import LocalExecutor

    with LocalExecutor() as executor:
        for area in executor.map(simulate, grids):
            print(area)

Functions are ordinary ones; `docs/executor.md` tells what is different.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, ParamSpec, TypeVar

from rich.console import Console

from noria.client.calls import conclusion, encode, prepare
from noria.client.estimate import Estimate, Spread
from noria.client.futures import CallFuture
from noria.client.mapping import MapRun, chunked, each_of
from noria.client.progress import ProgressBar, Snapshot, is_wanted
from noria.client.tally import Ended, Tally
from noria.primitives.types import FUEL_MAX
from noria.work.folders import compiled_folder
from noria.work.functions import CapturedFunction
from noria.work.runtimes import Runtime, installed
from noria.work.workers import PoolStats, ProgramSource, WorkerPool

P = ParamSpec("P")
T = TypeVar("T")

FUEL_LIMIT: Final = 10**12
"""A minute or two of plain Python on one core."""
WINDOW_PER_WORKER: Final = 4
"""Calls of a map that wait or run at any time, for each worker."""


class LocalExecutor(Executor):
    """Runs plain Python functions in the sandbox, each call with a receipt.

    Parameters
    ----------
    max_workers
        Calls at once, each in a process of its own; as many as this process may use cores if left out.
    fuel_limit
        Most fuel that a call may burn.
    progress
        Whether to show a bar; in terminals and notebooks if left out.
    runtime
        The Python runtime; the installed one if left out.
    cache
        Folder of compiled code; the user's own if left out.
    engine
        As for `noria._core.Sandbox`.
    wall_seconds
        Longest time for a call, on the clock: a machine that takes longer has failed.

    Raises
    ------
    ValueError
        If a number makes no sense.
    RuntimeMissing, RuntimeDamaged
        If the runtime is not installed; the message says how to.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        fuel_limit: int = FUEL_LIMIT,
        progress: bool | None = None,
        runtime: Runtime | None = None,
        cache: Path | None = None,
        engine: str = "wasmtime",
        wall_seconds: float = 3600.0,
    ) -> None:
        workers = len(os.sched_getaffinity(0)) if max_workers is None else max_workers
        if workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if not 0 < fuel_limit <= FUEL_MAX:
            raise ValueError(f"fuel_limit must be 1 to {FUEL_MAX}, not {fuel_limit}")
        runtime = runtime or installed()
        self._program = ProgramSource(runtime.program_id, runtime.path)
        self._fuel_limit = fuel_limit
        self._pool = WorkerPool(
            workers, cache=cache or compiled_folder(), engine=engine, wall_seconds=wall_seconds
        )
        self._workers = workers
        self._tally = Tally()
        self._runs: weakref.WeakSet[MapRun[Any, Any]] = weakref.WeakSet()
        self._is_shut = False
        console = Console(stderr=True)
        self._bar: ProgressBar | None = None
        if progress or (progress is None and is_wanted(console)):
            self._bar = ProgressBar(_look(self._tally, self._pool), console)
            weakref.finalize(self, self._bar.stop)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> CallFuture[T]:
        """Schedule ``fn(*args, **kwargs)``.

        Function and arguments are copied now. For many calls of one function use `map`, which copies the
        function once.

        Returns
        -------
        CallFuture

        Raises
        ------
        CannotTravel, UnencodableValue
            If the function or an argument cannot be sent to the sandbox.
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
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return the results of ``fn`` over the items, in order, as the builtin ``map`` does.

        The function is copied once. Calls begin at once; however many there are, only a few wait at any time.
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
            Calls in one unit: more are quicker for functions that take less than some ten milliseconds. An
            exception then takes the place of its whole chunk, and a receipt is one of a chunk.
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
        name, captured = prepare(fn, calls_per_unit=chunksize)
        items: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if buffersize is None:
            everything = list(items)
            self._tally.expect(len(everything))
            items = iter(everything)

        def start(calls: list[tuple[Any, ...]]) -> CallFuture[Any]:
            arguments = calls[0] if chunksize == 1 else (calls,)
            return self._start(
                name, captured, arguments, {}, len(calls), is_expected=buffersize is None, is_bounded=True
            )

        def drop(chunks: list[list[tuple[Any, ...]]]) -> None:
            self._tally.expect(-sum(len(calls) for calls in chunks))

        run = MapRun(
            start,
            chunked(items, lambda: chunksize),
            buffersize or WINDOW_PER_WORKER * self._workers,
            drop,
            is_lazy=buffersize is not None,
        )
        self._runs.add(run)
        results = run.results(timeout)
        return results if chunksize == 1 else each_of(results)

    def estimate(self, fn: Callable[..., Any], sample: Iterable[Any]) -> Estimate:
        """Run ``fn`` over a sample and tell what a call takes.

        Parameters
        ----------
        fn
            A function of one argument.
        sample
            Arguments that stand for all; some ten are enough where calls are alike.

        Returns
        -------
        Estimate

        Raises
        ------
        ValueError
            If the sample is empty.
        Exception
            What a call raises.
        """
        self._check_open()
        name, captured = prepare(fn)
        futures: list[CallFuture[Any]] = []
        try:
            for argument in sample:
                futures.append(self._start(name, captured, (argument,), {}))
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.stop()
        if not futures:
            raise ValueError("the sample is empty: give some arguments that stand for all")
        return Estimate(
            function=name,
            calls=len(futures),
            fuel=Spread.of([future.fuel for future in futures]),
            seconds=Spread.of([future.seconds for future in futures]),
            workers=self._workers,
        )

    def stats(self) -> PoolStats:
        """Return what the workers have done so far."""
        return self._pool.stats()

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, stop_running: bool = False
    ) -> None:
        """Take no more calls and end the workers when those that are there have ended.

        Parameters
        ----------
        wait
            Return when all of this is done and no process is left.
        cancel_futures
            Cancel the calls that have not begun.
        stop_running
            Stop those that run, too.
        """
        self._is_shut = True
        cancel_futures = cancel_futures or stop_running
        if cancel_futures:
            for run in list(self._runs):
                run.cancel()
        try:
            self._pool.close(wait=wait, cancel_queued=cancel_futures, stop_running=stop_running)
        except BaseException:
            # Interrupted while it waits: nothing may go on behind the user's back.
            self._drop_everything()
            raise
        finally:
            if wait and self._bar is not None:
                self._bar.stop()

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

    def _drop_everything(self) -> None:
        for run in list(self._runs):
            run.cancel()
        self._pool.close(wait=False, cancel_queued=True, stop_running=True)

    def _check_open(self) -> None:
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _start(
        self,
        name: str,
        captured: CapturedFunction,
        positional: tuple[Any, ...],
        named: dict[str, Any],
        calls: int = 1,
        *,
        is_expected: bool = False,
        is_bounded: bool = False,
    ) -> CallFuture[Any]:
        """Queue one unit of so many calls, unless they are counted already."""
        if not is_expected:
            self._tally.expect(calls)
        try:
            call = encode(captured, positional, named)
            future: CallFuture[Any] = CallFuture(
                self._program,
                call.archive,
                self._fuel_limit,
                conclusion(name, call),
                self._tally.next_index(),
            )
            self._pool.put(future, is_bounded=is_bounded)
        except BaseException:
            self._tally.end(calls)
            raise
        future.add_done_callback(Ended(self._tally, calls))
        if self._bar is not None:
            self._bar.start()
        return future


def _look(tally: Tally, pool: WorkerPool) -> Callable[[], Snapshot]:
    def look() -> Snapshot:
        return Snapshot(tally.ended, tally.expected, pool.stats().fuel, pool.loading())

    return look
