"""Subscriptions to what happens on the chain.

What a subscriber dropped for slowness has missed it can read from the chain again, which is cheaper than
remembering it for everybody.
"""

from __future__ import annotations

from dataclasses import dataclass

from noria._core import Header, Transaction
from noria.primitives.subscriptions import Subscription, Topic

HEADS_CAPACITY = 1_024
"""Head changes kept for a subscriber that does not read."""
PENDING_CAPACITY = 4_096
"""Batches of pending transactions kept for a subscriber that does not read."""


@dataclass(frozen=True, slots=True)
class HeadEvent:
    """The canonical head has moved.

    Attributes
    ----------
    removed
        Hashes of the blocks that are no longer canonical, newest first; empty unless the chain reorganised.
    added
        Headers of the blocks that became canonical, oldest first; the last one is the new head. Empty when
        the head was set back to an ancestor.
    head
        The new head.
    """

    removed: list[bytes]
    added: list[Header]
    head: Header


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """Transactions that became executable in the mempool, in the order in which they did."""

    transactions: list[Transaction]


class Events:
    """What a chain tells: new heads (with reorganisations) and pending transactions."""

    __slots__ = ("heads", "pending")

    def __init__(self) -> None:
        self.heads: Topic[HeadEvent] = Topic()
        self.pending: Topic[PendingEvent] = Topic()

    def subscribe_heads(self, capacity: int = HEADS_CAPACITY) -> Subscription[HeadEvent]:
        """Subscribe to every change of the canonical head from now on."""
        return self.heads.subscribe(capacity)

    def subscribe_pending(self, capacity: int = PENDING_CAPACITY) -> Subscription[PendingEvent]:
        """Subscribe to every transaction that becomes executable from now on."""
        return self.pending.subscribe(capacity)

    def close(self, reason: str = "chain-stopped") -> None:
        """End every subscription."""
        self.heads.close(reason)
        self.pending.close(reason)
