"""Several calls of a map in one unit, as many as are worth it; results and errors as if each stood alone."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import FunctionType
from typing import Any, Final, TypeAlias, TypeVar

from noria.client.errors import UnitFailed
from noria.client.network_futures import AnyNetworkFuture
from noria.work.guest.kinds import UnencodableValue

T = TypeVar("T")

Arguments: TypeAlias = tuple[Any, ...]
Chunk: TypeAlias = tuple[list[Any], Exception | None]
"""Results of the first calls, and the exception of the one after them, if any raised."""

TARGET_SECONDS: Final = 0.075
"""Of a unit: long beside what it costs to hand one out, short beside anybody's patience."""
FUEL_PER_SECOND: Final = 1e10
"""Assumed until miners have said how long units take."""
FUEL_PER_SECOND_BOUNDS: Final = (1e9, 4e10)
CHUNK_MAX: Final = 4096
WINDOW_UNKNOWN: Final = 8
WINDOW: Final = 256
"""Units of a map that wait or run at any time, before and after something is known of them."""
FUEL_SHARE: Final = 2
"""A unit is aimed at this part of the largest fuel limit that carries weight."""
MEMORY: Final = 0.7
"""How much of what was known of a call's fuel stays when another chunk has ended."""


def _call_some(function: Callable[..., T], calls: Iterable[Arguments]) -> list[T]:
    results: list[T] = []
    for call in calls:
        try:
            results.append(function(*call))
        except Exception:
            if not results:
                raise
            break
    return results


CALL_SOME: Final = FunctionType(
    _call_some.__code__, {"__name__": "noria_calls", "__builtins__": builtins}, "call_some"
)
"""Calls a function several times in one unit, up to the first that raises. It has a module of its own."""


class ChunkSizer:
    """Decides how many calls go into the next unit.

    Parameters
    ----------
    unit_fuel_max
        Largest fuel limit that carries weight.
    """

    def __init__(self, unit_fuel_max: int) -> None:
        self._most = unit_fuel_max / FUEL_SHARE
        self._lock = threading.Lock()
        self._fuel: float | None = None
        self._worst = 0.0
        self._rate = FUEL_PER_SECOND

    def note(self, calls: int, fuel: int, milliseconds: int) -> None:
        """Take note of a unit that has ended."""
        each = fuel / calls
        with self._lock:
            self._fuel = each if self._fuel is None else MEMORY * self._fuel + (1 - MEMORY) * each
            self._worst = max(self._worst * MEMORY, each)
            if milliseconds > 0:
                rate = min(
                    max(1000 * fuel / milliseconds, FUEL_PER_SECOND_BOUNDS[0]), FUEL_PER_SECOND_BOUNDS[1]
                )
                self._rate = MEMORY * self._rate + (1 - MEMORY) * rate

    def window(self) -> int:
        """Return how many units may wait or run: few until it is known how long they should be."""
        with self._lock:
            return WINDOW_UNKNOWN if self._fuel is None else WINDOW

    def size(self) -> int:
        """Return how many calls the next unit should have: 1 until something is known."""
        with self._lock:
            if self._fuel is None:
                return 1
            wanted = min(self._rate * TARGET_SECONDS, self._most) / max(self._fuel, 1.0)
            safe = self._most / max(self._worst, 1.0)
            return max(1, min(CHUNK_MAX, int(min(wanted, safe))))


class ChunkFuture(Future[Chunk]):
    """Calls in one unit; what fails together is tried again apart.

    A unit that ran out of fuel, say, or whose results together are too long, is divided. A call that raises
    is run alone, so that its exception, its log and its traceback are its own.

    Parameters
    ----------
    calls
        Arguments of each call, at least one.
    start
        Queues some of the calls as one unit whose result is a list: shorter where a later call raised.
    """

    def __init__(self, calls: list[Arguments], start: Callable[[list[Arguments]], AnyNetworkFuture]) -> None:
        super().__init__()
        self._start_unit = start
        self._lock = threading.RLock()
        self._results: list[Any] = []
        self._left = [calls]
        self._inner: AnyNetworkFuture | None = None
        self._is_stopping = False
        self._next()

    def cancel(self) -> bool:
        """Cancel the calls if no miner has them yet."""
        with self._lock:
            inner = self._inner
            if self.done() or inner is None or self._results:
                return super().cancelled()
        return inner.cancel()

    def stop(self) -> bool:
        """Cancel the calls even if they run."""
        with self._lock:
            self._is_stopping = True
            inner = self._inner
        return inner.stop() if inner is not None else self.cancelled()

    def _next(self) -> None:
        """Start what is left; the first of it first."""
        with self._lock:
            if self._is_stopping:
                self._end_cancelled()
                return
            if not self._left:
                self._end(None)
                return
            calls = self._left.pop(0)
            try:
                self._inner = self._start_unit(calls)
            except Exception as error:
                self._end(error.with_traceback(None))
                return
        self._inner.add_done_callback(lambda inner: self._ended(calls, inner))

    def _ended(self, calls: list[Arguments], inner: Future[Any]) -> None:
        if inner.cancelled():
            self._end_cancelled()
            return
        error = inner.exception()
        if error is None:
            results: list[Any] = inner.result()
            if len(results) > len(calls) or not results:
                self._end(UnexpectedChunk(f"a unit of {len(calls)} calls gave {len(results)} results"))
                return
            self._results += results
            rest = calls[len(results) :]
            if rest:
                self._left[:0] = [rest[:1], rest[1:]] if len(rest) > 1 else [rest]
            self._next()
        elif len(calls) > 1 and isinstance(error, UnitFailed | UnencodableValue):
            half = len(calls) // 2
            self._left[:0] = [calls[:half], calls[half:]]
            self._next()
        elif isinstance(error, Exception):
            self._end(error)
        else:
            self.set_exception(error)

    def _end(self, error: Exception | None) -> None:
        with self._lock:
            self._inner = None
            self._left.clear()
            results, self._results = self._results, []
        if self.set_running_or_notify_cancel():
            self.set_result((results, error))

    def _end_cancelled(self) -> None:
        with self._lock:
            self._inner = None
            self._left.clear()
            self._results = []
        if not self.done():
            super().cancel()
            self.set_running_or_notify_cancel()


class UnexpectedChunk(ValueError):
    """A unit of several calls did not give their results."""


def each_result(chunks: Iterable[Chunk]) -> Iterable[Any]:
    """Yield the results of chunks one by one, and raise where one call raised; hold on to none."""
    for results, error in chunks:
        results.reverse()
        while results:
            yield results.pop()
        if error is not None:
            raise error
