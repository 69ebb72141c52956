"""One `map` of an executor: many calls, of which only a few exist at any time."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
A = TypeVar("A")


class MapFuture(Protocol[T_co]):
    """What a map needs of the future of a call."""

    def result(self, timeout: float | None = None) -> T_co:
        """Wait for the result."""
        ...

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        """Have something called when it has ended."""
        ...

    def cancel(self) -> bool:
        """Cancel it if it has not begun."""
        ...

    def stop(self) -> bool:
        """Cancel it even if it runs."""
        ...


class MapRun(Generic[A, T]):
    """Feeds calls to the workers as earlier ones end, and keeps their results in order.

    Parameters
    ----------
    submit
        Makes and queues the call for one item; raises what is wrong with the item.
    items
        The arguments of the calls.
    window
        Most calls that wait or run at any time, or what tells it.
    drop
        Told the items that are left when no more calls are wanted.
    is_lazy
        Take items as results are taken, in the thread that takes them, rather than as calls end.
    """

    def __init__(
        self,
        submit: Callable[[A], MapFuture[T]],
        items: Iterator[A],
        window: int | Callable[[], int],
        drop: Callable[[list[A]], None],
        *,
        is_lazy: bool,
    ) -> None:
        self._submit = submit
        self._items = items
        self._window = window if callable(window) else lambda: window
        self._drop = drop
        self._is_lazy = is_lazy
        # Reentrant, because a call that ended already calls back at once.
        self._changed = threading.Condition(threading.RLock())
        self._futures: deque[MapFuture[T] | Exception] = deque()
        self._under_way = 0
        self._is_feeding = False
        self._is_exhausted = False
        self.feed()

    def feed(self) -> None:
        """Queue calls until the window is full."""
        with self._changed:
            if self._is_feeding:
                return
            self._is_feeding = True
            try:
                while not self._is_exhausted and self._has_room():
                    self._next()
            finally:
                self._is_feeding = False
                self._changed.notify_all()

    def _has_room(self) -> bool:
        return (len(self._futures) if self._is_lazy else self._under_way) < self._window()

    def _next(self) -> None:
        try:
            item = next(self._items)
        except StopIteration:
            self._is_exhausted = True
            return
        except BaseException:
            self._is_exhausted = True
            raise
        try:
            future = self._submit(item)
        except Exception as error:
            # It is raised where the item's result would stand, as if the call itself had failed.
            self._futures.append(error.with_traceback(None))
            return
        self._futures.append(future)
        self._under_way += 1
        future.add_done_callback(self._ended)

    def _ended(self, _: object) -> None:
        with self._changed:
            self._under_way -= 1
        if not self._is_lazy:
            self.feed()

    def results(self, timeout: float | None) -> Iterator[T]:
        """Yield the results in the order of the items; stop what is left when nobody wants it any more."""
        end = None if timeout is None else time.monotonic() + timeout
        return self._results(end)

    def _results(self, end: float | None) -> Iterator[T]:
        try:
            while True:
                taken = self._take(end)
                if not taken:
                    return
                if self._is_lazy:
                    self.feed()
                # Neither the future nor its result may be held here while somebody works on it.
                yield _outcome(taken, end)
        finally:
            self.cancel(stop_running=True)

    def _take(self, end: float | None) -> list[MapFuture[T] | Exception]:
        with self._changed:
            while not self._futures:
                if self._is_exhausted:
                    return []
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._changed.wait(left)
            return [self._futures.popleft()]

    def cancel(self, *, stop_running: bool = False) -> None:
        """Queue no more calls and cancel those that wait."""
        with self._changed:
            if not self._is_exhausted:
                self._is_exhausted = True
                # Whoever still takes results finds that there are fewer.
                self._futures.append(CancelledError())
                self._drop([] if self._is_lazy else list(self._items))
            futures = [future for future in self._futures if not isinstance(future, Exception)]
            self._changed.notify_all()
        for future in reversed(futures):
            if stop_running:
                future.stop()
            else:
                future.cancel()


def _outcome(taken: list[MapFuture[T] | Exception], end: float | None) -> T:
    """Return the result of the only future in a list, which is emptied."""
    future = taken.pop()
    if isinstance(future, Exception):
        raise future
    try:
        try:
            return future.result(None if end is None else end - time.monotonic())
        finally:
            # It would end too late to be of use.
            future.stop()
    finally:
        del future


def chunked(items: Iterator[A], size: Callable[[], int]) -> Iterator[list[A]]:
    """Yield the items in lists, each as long as it is said to be when it is made."""
    while chunk := list(itertools.islice(items, size())):
        yield chunk


def each_of(lists: Iterator[list[T]]) -> Iterator[T]:
    """Yield the items of lists without holding on to them."""
    for items in lists:
        items.reverse()
        while items:
            yield items.pop()
