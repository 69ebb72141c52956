"""Subscriptions to what happens, for any kind of event.

Whoever publishes never waits for a subscriber: each one has a bounded queue, and one that does not empty it
in time is dropped with a named reason.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Generic, Self, TypeVar

Event = TypeVar("Event")


class SubscriptionClosed(Exception):
    """No further events will come.

    Attributes
    ----------
    reason
        ``"slow-subscriber"`` where the queue was full, ``"unsubscribed"`` where the subscriber left;
        otherwise what whoever publishes gave as its own, such as ``"chain-stopped"``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the subscription has ended: {reason}")
        self.reason = reason


class Subscription(Generic[Event]):
    """A bounded queue of events; an asynchronous context manager and an asynchronous iterator.

    Examples
    --------
    >>> async def watch(numbers: Topic[int]) -> None:
    ...     async with numbers.subscribe(capacity=100) as subscription:
    ...         async for number in subscription:
    ...             print(number)
    """

    __slots__ = ("_capacity", "_closed", "_queue", "_topic", "_wakeup")

    def __init__(self, topic: Topic[Event], capacity: int) -> None:
        self._topic: Topic[Event] = topic
        self._capacity = capacity
        self._queue: deque[Event] = deque()
        self._wakeup: asyncio.Event = asyncio.Event()
        self._closed: str | None = None

    @property
    def closed(self) -> str | None:
        """Why the subscription has ended, or ``None`` while it lives."""
        return self._closed

    async def get(self) -> Event:
        """Return the next event, waiting for it.

        Raises
        ------
        SubscriptionClosed
            After the last queued event, if the subscription has ended.
        """
        while not self._queue:
            if self._closed is not None:
                raise SubscriptionClosed(self._closed)
            self._wakeup.clear()
            await self._wakeup.wait()
        return self._queue.popleft()

    def drain(self) -> list[Event]:
        """Return the events that are queued now, without waiting."""
        events = list(self._queue)
        self._queue.clear()
        return events

    def close(self, reason: str = "unsubscribed") -> None:
        """End the subscription; events that are already queued can still be read."""
        if self._closed is None:
            self._closed = reason
            self._topic.forget(self)
            self._wakeup.set()

    def offer(self, event: Event) -> None:
        """Queue an event without waiting; a full queue ends the subscription (`SubscriptionClosed`)."""
        if len(self._queue) >= self._capacity:
            # What is queued is of no use to somebody who has to start again anyway.
            self._queue.clear()
            self.close("slow-subscriber")
            return
        self._queue.append(event)
        self._wakeup.set()

    def __aiter__(self) -> Self:
        """Iterate over events until the subscription ends."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event; a subscription dropped for slowness raises `SubscriptionClosed`."""
        try:
            return await self.get()
        except SubscriptionClosed as ended:
            if ended.reason == "slow-subscriber":
                raise
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        """Return the subscription, which has been live since it was made."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unsubscribe."""
        self.close()


class Topic(Generic[Event]):
    """One kind of event and those who listen to it."""

    __slots__ = ("_subscribers",)

    def __init__(self) -> None:
        self._subscribers: dict[int, Subscription[Event]] = {}

    def __len__(self) -> int:
        """Return the number of live subscriptions."""
        return len(self._subscribers)

    def subscribe(self, capacity: int) -> Subscription[Event]:
        """Return a new subscription that sees every event from now on."""
        subscription = Subscription(self, capacity)
        self._subscribers[id(subscription)] = subscription
        return subscription

    def forget(self, subscription: Subscription[Event]) -> None:
        """Stop telling this subscriber."""
        self._subscribers.pop(id(subscription), None)

    def publish(self, event: Event) -> None:
        """Queue the event for every subscriber; never waits."""
        for subscription in tuple(self._subscribers.values()):
            subscription.offer(event)

    def close(self, reason: str) -> None:
        """End every subscription."""
        for subscription in tuple(self._subscribers.values()):
            subscription.close(reason)
