"""Threads for work that would hold the event loop too long."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from noria.rpc.errors import limit_exceeded

P = ParamSpec("P")
R = TypeVar("R")

_Job = tuple[asyncio.Future[Any], Callable[[], Any]]
_Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]


class Workers:
    """A few threads that share one queue.

    Unlike `concurrent.futures`, a busy event loop is woken once for all results that have come in since it
    last looked: under load, the wake-ups are what a short engine call would mostly cost.
    """

    def __init__(self, threads: int, max_waiting: int) -> None:
        self._threads = threads
        self._max_waiting = max_waiting
        self._waiting = 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._outcomes: deque[_Outcome] = deque()
        self._wakeup_sent = False
        self._running: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def threads(self) -> int:
        """Calls that can run at a time."""
        return self._threads

    def start(self) -> None:
        """Start the threads; their results go to the running loop."""
        self._loop = asyncio.get_running_loop()
        for number in range(self._threads):
            thread = threading.Thread(target=self._work, name=f"noria-rpc-{number}", daemon=True)
            thread.start()
            self._running.append(thread)

    async def stop(self, limit_seconds: float) -> None:
        """End the threads after the calls that they have begun; those still waiting are cancelled.

        A call that takes longer than the limit is left to end by itself; its result goes nowhere.
        """
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is not None:
                job[0].cancel()
        for _ in self._running:
            self._jobs.put(None)
        ends = time.monotonic() + limit_seconds
        for thread in self._running:
            await asyncio.to_thread(thread.join, max(0.0, ends - time.monotonic()))
        self._running.clear()

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``function`` in a thread.

        A caller that is cancelled stops waiting; a call that has begun runs to its end.

        Raises
        ------
        RpcError
            -32005 if too many calls are waiting.
        """
        if self._loop is None or not self._running:
            raise RuntimeError("the workers are not running")
        if self._waiting >= self._max_waiting:
            raise limit_exceeded("server busy: too many requests are waiting, try again later")
        future: asyncio.Future[R] = self._loop.create_future()
        self._waiting += 1
        try:
            self._jobs.put((future, lambda: function(*args, **kwargs)))
            return await future
        finally:
            self._waiting -= 1

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call = job
            if future.cancelled():
                continue
            try:
                outcome: _Outcome = (future, call(), None)
            except BaseException as error:
                outcome = (future, None, error)
            self._deliver(outcome)

    def _deliver(self, outcome: _Outcome) -> None:
        self._outcomes.append(outcome)
        # `_resolve` lowers the flag before it empties the queue, so no outcome is left behind; two threads
        # that raise it together cost a spare wake-up.
        if not self._wakeup_sent and self._loop is not None:
            self._wakeup_sent = True
            # The loop may have closed while a call ran on past the shutdown.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        self._wakeup_sent = False
        while self._outcomes:
            future, result, error = self._outcomes.popleft()
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
