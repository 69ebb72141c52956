"""What has happened on the chain lately, kept once for all filters and subscriptions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import structlog

from noria._core import Header, Transaction
from noria.chain.events import HeadEvent, PendingEvent
from noria.primitives.subscriptions import Subscription, SubscriptionClosed

if TYPE_CHECKING:
    from noria.chain.service import Chain

_log = structlog.get_logger(__name__)

HEADS_KEPT: Final = 8_192
PENDING_KEPT: Final = 65_536

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HeadChange:
    """Blocks that left the canonical chain (newest first) and that joined it (oldest first)."""

    removed: tuple[bytes, ...]
    added: tuple[Header, ...]


class Journal(Generic[T]):
    """The last entries of a sequence, numbered from 0; a reader remembers a position, not entries."""

    __slots__ = ("_entries", "end")

    def __init__(self, kept: int) -> None:
        self._entries: deque[T] = deque(maxlen=kept)
        self.end = 0

    def append(self, entry: T) -> None:
        """Add an entry; beyond the capacity the oldest one is forgotten."""
        self._entries.append(entry)
        self.end += 1

    def since(self, position: int) -> list[T] | None:
        """Return the entries from ``position`` on, ``None`` if some of them are forgotten."""
        wanted = self.end - position
        if wanted > len(self._entries):
            return None
        newest_first = list(islice(reversed(self._entries), wanted))
        newest_first.reverse()
        return newest_first


class ChainFeed:
    """Follows a chain's events: keeps a journal for the polled filters and tells the subscriptions."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.heads: Journal[HeadChange] = Journal(HEADS_KEPT)
        self.pending: Journal[bytes] = Journal(PENDING_KEPT)
        self._head_listeners: set[Callable[[HeadChange], None]] = set()
        self._pending_listeners: set[Callable[[list[Transaction]], None]] = set()
        self._heads: Subscription[HeadEvent] | None = None
        self._pending: Subscription[PendingEvent] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to follow; events from now on are seen."""
        self._heads = self._chain.events.subscribe_heads()
        self._pending = self._chain.events.subscribe_pending()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._follow_heads(), name="rpc-heads"),
            loop.create_task(self._follow_pending(), name="rpc-pending"),
        ]

    async def stop(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for events in (self._heads, self._pending):
            if events is not None:
                events.close()
        self._heads = self._pending = None

    def on_heads(self, listener: Callable[[HeadChange], None]) -> None:
        """Call ``listener`` at every change of the head until `off_heads`; it must not block or raise."""
        self._head_listeners.add(listener)

    def off_heads(self, listener: Callable[[HeadChange], None]) -> None:
        """Stop calling ``listener``."""
        self._head_listeners.discard(listener)

    def on_pending(self, listener: Callable[[list[Transaction]], None]) -> None:
        """Call ``listener`` with new pending transactions until `off_pending`; it must not block or raise."""
        self._pending_listeners.add(listener)

    def off_pending(self, listener: Callable[[list[Transaction]], None]) -> None:
        """Stop calling ``listener``."""
        self._pending_listeners.discard(listener)

    def catch_up(self) -> None:
        """Take in what the chain has told but the loop has not yet brought here.

        Whoever asks for what happens from now on must not be told what happened before, and whoever polls
        must be told what he already knows otherwise.
        """
        for moved in self._heads.drain() if self._heads is not None else ():
            self._head_changed(moved)
        for arrived in self._pending.drain() if self._pending is not None else ():
            self._arrived(arrived)

    async def _follow_heads(self) -> None:
        while self._heads is not None:
            try:
                while True:
                    self._head_changed(await self._heads.get())
            except SubscriptionClosed as ended:
                self._heads = self._chain.events.subscribe_heads() if _goes_on("heads", ended) else None

    async def _follow_pending(self) -> None:
        while self._pending is not None:
            try:
                while True:
                    self._arrived(await self._pending.get())
            except SubscriptionClosed as ended:
                self._pending = self._chain.events.subscribe_pending() if _goes_on("pending", ended) else None

    def _head_changed(self, event: HeadEvent) -> None:
        change = HeadChange(tuple(event.removed), tuple(event.added))
        self.heads.append(change)
        for listener in tuple(self._head_listeners):
            listener(change)

    def _arrived(self, event: PendingEvent) -> None:
        for transaction in event.transactions:
            self.pending.append(transaction.hash)
        for listener in tuple(self._pending_listeners):
            listener(event.transactions)


def _goes_on(topic: str, ended: SubscriptionClosed) -> bool:
    if ended.reason != "slow-subscriber":
        return False
    # The loop was held for very long. Filters have a gap then, which is better than none of the rest.
    _log.warning("rpc_events_lost", topic=topic)
    return True
