"""What was asked of the swarm, and whoever waits for what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from noria._core import NetworkError, NetworkOutcome, NetworkStream
from noria.network.errors import (
    InvalidAddress,
    RequestTimeout,
    TransportClosed,
    TransportError,
    not_asked,
    not_done,
)

T = TypeVar("T")


def asked(call: Callable[[], T]) -> T:
    """Return what a call of the swarm returns; its errors have their names."""
    try:
        return call()
    except NetworkError as error:
        raise not_asked(error) from None
    except ValueError as error:
        raise InvalidAddress(str(error)) from None


class Outcomes:
    """Futures by the tickets that the swarm gives."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._closed = False

    def expect(self, call: Callable[[], int]) -> asyncio.Future[Any]:
        """Ask for something now, and return what will come of it: bytes, or a stream."""
        if self._closed:
            raise TransportClosed("the network is closed")
        ticket = asked(call)
        outcome = self._waiting[ticket] = self._loop.create_future()

        def ended(future: asyncio.Future[Any]) -> None:
            self._waiting.pop(ticket, None)
            if not future.cancelled():
                future.exception()  # Whoever asked may have stopped waiting: that is no news for the log.

        outcome.add_done_callback(ended)
        return outcome

    async def wait(
        self, call: Callable[[], int], limit_seconds: float, late: type[TransportError] = RequestTimeout
    ) -> Any:
        """Ask for something and wait for what comes of it.

        Parameters
        ----------
        call
            Asks, and returns the ticket.
        limit_seconds
            Somewhat longer than the swarm's own limit.
        late
            Raised where the swarm has not kept its limit.

        Returns
        -------
        Any
            Bytes, or a stream.
        """
        try:
            async with asyncio.timeout(limit_seconds):
                return await self.expect(call)
        except TimeoutError:
            raise late(f"nothing came of it within {limit_seconds} seconds") from None

    def tell(self, event: NetworkOutcome | NetworkStream) -> None:
        """Give what has come to whoever waits for it. A stream that nobody waits for any more is reset."""
        outcome = None if event.ticket is None else self._waiting.get(event.ticket)
        if outcome is None or outcome.done():
            return
        if isinstance(event, NetworkStream):
            outcome.set_result(event)
        elif event.failure is None:
            outcome.set_result(event.data)
        else:
            outcome.set_exception(not_done(event.failure, event.message))

    def close(self) -> None:
        """Tell everybody that nothing will come any more."""
        self._closed = True
        for outcome in self._waiting.values():
            if not outcome.done():
                outcome.set_exception(TransportClosed("the network is closed"))
