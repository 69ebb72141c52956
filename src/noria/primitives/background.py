"""Tasks of an event loop that run beside what started them, and end with it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

Result = TypeVar("Result")

_log = structlog.get_logger(__name__)


class BackgroundTasks:
    """Tasks that nobody need await: they are kept alive, and a failure is logged.

    Parameters
    ----------
    owner
        Who runs them, for the log.
    expected
        Failures that are no news, because somebody awaits the task.
    """

    __slots__ = ("_expected", "_owner", "_tasks")

    def __init__(self, owner: str, *, expected: tuple[type[Exception], ...] = ()) -> None:
        self._owner = owner
        self._expected = expected
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Return how many run."""
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run something until it ends or is stopped."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def cancel(self) -> None:
        """Cancel all that run."""
        for task in tuple(self._tasks):
            task.cancel()

    async def wait(self) -> None:
        """Wait until all have ended, however they end."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Cancel all and wait for their end."""
        self.cancel()
        await self.wait()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, self._expected):
            _log.error("background_task_failed", owner=self._owner, error=repr(error), exc_info=error)


def cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel every task of a loop that does not run, and what these begin in order to end well.

    Parameters
    ----------
    loop
        It is to be closed next: what is left in it would be destroyed while it waits.
    """
    while pending := asyncio.all_tasks(loop):
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
