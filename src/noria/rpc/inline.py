"""Which engine calls may run on the event loop itself.

To hand a call to a thread and take its result back costs about five times as much as a typical ``eth_call``.
So a kind of call that was quick the last time runs inline. A caller who makes one that is suddenly slow gains
little: a slow inline call closes this way for a hundred times as long as it took, so that never more than
about one per cent of the loop's time is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Final, ParamSpec, TypeVar

from noria.rpc.workers import Workers

P = ParamSpec("P")
R = TypeVar("R")

QUICK_SECONDS: Final = 0.000_5
"""Processor time below which a kind of call counts as quick."""
HELD_SECONDS: Final = 0.005
"""Time on the loop from which on the inline way is closed."""
CLOSED_FACTOR: Final = 100
_KINDS_KEPT: Final = 4_096


class InlineCalls:
    """Runs engine calls on the loop or in a thread, by what is known of their kind."""

    __slots__ = ("_open_from", "_quick", "_workers")

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._quick: dict[Hashable, None] = {}
        self._open_from = 0.0

    def may_run(self, kind: Hashable) -> bool:
        """Tell whether a call of this kind runs on the loop now."""
        return kind in self._quick and time.monotonic() >= self._open_from

    async def run(self, kind: Hashable, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``function``; ``kind`` stands for calls that are likely to take as long as each other."""
        if self.may_run(kind):
            began, processor = time.monotonic(), time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self._ran_inline(kind, time.monotonic() - began, time.thread_time() - processor)

        def timed() -> tuple[R, float]:
            processor = time.thread_time()
            result = function(*args, **kwargs)
            return result, time.thread_time() - processor

        result, took = await self._workers.run(timed)
        if took < QUICK_SECONDS:
            if len(self._quick) >= _KINDS_KEPT:
                self._quick.clear()
            self._quick[kind] = None
        return result

    def _ran_inline(self, kind: Hashable, held_seconds: float, processor_seconds: float) -> None:
        # A busy machine can take the processor away for a while; that says nothing about the kind of call.
        if processor_seconds > QUICK_SECONDS:
            self._quick.pop(kind, None)
        if held_seconds > HELD_SECONDS and processor_seconds > QUICK_SECONDS:
            self._open_from = time.monotonic() + CLOSED_FACTOR * held_seconds
