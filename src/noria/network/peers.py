"""What is known of peers, and what is told about them."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Final, NewType, Self

from noria.network.errors import SubscriptionClosed

PeerId = NewType("PeerId", str)
"""A peer's name, made from its key: ``12D3KooW…``."""

EVENTS_CAPACITY: Final = 1_024
"""Events kept for a subscriber that does not read."""


class PeerEventKind(Enum):
    """What can happen to a peer."""

    CONNECTED = "connected"
    IDENTIFIED = "identified"
    """It has said what it runs and speaks; `Transport.peers` tells."""
    DISCONNECTED = "disconnected"
    BANNED = "banned"
    UNBANNED = "unbanned"
    LISTENING = "listening"
    """This node listens on a further address."""
    LAGGED = "lagged"
    """Events were lost, because the event loop was too busy: read `Transport.peers` again."""


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """Something that has happened to a peer.

    Attributes
    ----------
    kind
        What it is.
    peer
        To whom; of ``LISTENING`` and ``LAGGED`` this node itself.
    address
        The other end of the connection; empty where there is none.
    reason
        Why, where there is a reason.
    """

    kind: PeerEventKind
    peer: PeerId
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A connected peer.

    Attributes
    ----------
    peer
        Its name.
    address
        The other end of the connection.
    listens
        Where it says that it can be reached, as far as that is believable.
    outbound
        Whether this node has dialled it.
    agent, protocols
        What it says it runs and speaks; empty until it has been identified.
    score
        What gossip and the application think of it together, at most a second old.
    round_trip_seconds
        Of the last ping.
    connected_seconds
        Since the first connection.
    """

    peer: PeerId
    address: str
    listens: tuple[str, ...]
    outbound: bool
    agent: str
    protocols: tuple[str, ...]
    score: float
    round_trip_seconds: float | None
    connected_seconds: float


@dataclass(frozen=True, slots=True)
class Ban:
    """A banned peer: it is not connected to until its time is up."""

    peer: PeerId
    seconds_left: float
    reason: str


class PeerEvents:
    """A bounded queue of events; an asynchronous context manager and an asynchronous iterator.

    A subscriber that does not empty it in time is dropped with a named reason.
    """

    __slots__ = ("_closed", "_feed", "_queue", "_wakeup")

    def __init__(self, feed: PeerFeed) -> None:
        self._feed = feed
        self._queue: deque[PeerEvent] = deque()
        self._wakeup = asyncio.Event()
        self._closed: str | None = None

    async def get(self) -> PeerEvent:
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

    def offer(self, event: PeerEvent) -> None:
        """Queue an event without waiting; a full queue ends the subscription."""
        if len(self._queue) >= EVENTS_CAPACITY:
            self._queue.clear()
            self.close("slow-subscriber")
            return
        self._queue.append(event)
        self._wakeup.set()

    def close(self, reason: str = "unsubscribed") -> None:
        """End the subscription; events that are already queued can still be read."""
        if self._closed is None:
            self._closed = reason
            self._feed.forget(self)
            self._wakeup.set()

    def __aiter__(self) -> Self:
        """Iterate over events until the subscription ends."""
        return self

    async def __anext__(self) -> PeerEvent:
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


class PeerFeed:
    """Everybody who listens to what happens to peers."""

    __slots__ = ("_subscribers",)

    def __init__(self) -> None:
        self._subscribers: dict[int, PeerEvents] = {}

    def subscribe(self) -> PeerEvents:
        """Return a subscription that sees every event from now on."""
        events = PeerEvents(self)
        self._subscribers[id(events)] = events
        return events

    def forget(self, events: PeerEvents) -> None:
        """Stop telling this subscriber."""
        self._subscribers.pop(id(events), None)

    def publish(self, event: PeerEvent) -> None:
        """Queue the event for every subscriber; never waits."""
        for events in tuple(self._subscribers.values()):
            events.offer(event)

    def close(self, reason: str) -> None:
        """End every subscription."""
        for events in tuple(self._subscribers.values()):
            events.close(reason)
