"""Which transaction a full mempool gives up first.

Only the last transaction of a sender can go, so that what stays remains executable. The order is by what the
sender's run pays at the current base fee; it is built when it is first needed and kept from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from itertools import count

from noria.execution.sender_queue import Entry, SenderQueue

Tail = Callable[[SenderQueue], Entry | None]


class EvictionOrder:
    """Senders' last transactions (``tail`` picks which), cheapest first; among equals the newest first."""

    __slots__ = ("_base_fee", "_heap", "_tail", "_ticket")

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._heap: list[tuple[int, int, int, Entry, SenderQueue]] | None = None
        self._base_fee = 0
        self._ticket = count()

    def forget(self) -> None:
        """Drop the order, because much has changed; the next use builds it anew."""
        self._heap = None

    def touch(self, queue: SenderQueue) -> None:
        """Take note that this sender's last transaction or its price may have changed."""
        if self._heap is not None:
            entry = self._tail(queue)
            if entry is not None:
                heappush(self._heap, self._item(entry, queue))

    def cheapest(
        self, queues: Mapping[bytes, SenderQueue], base_fee: int
    ) -> tuple[int, SenderQueue, Entry] | None:
        """Return price (wei per gas, may be negative), sender and entry of the first to go."""
        heap = self._heap
        if heap is None or base_fee != self._base_fee or len(heap) > 4 * len(queues) + 1_024:
            self._base_fee = base_fee
            heap = self._heap = [
                self._item(entry, queue)
                for queue in queues.values()
                if (entry := self._tail(queue)) is not None
            ]
            heapify(heap)
        while heap:
            price, _, _, entry, queue = heap[0]
            if (
                queues.get(queue.sender) is queue
                and self._tail(queue) is entry
                and run_price(entry, base_fee) == price
            ):
                return price, queue, entry
            heappop(heap)
        return None

    def _item(self, entry: Entry, queue: SenderQueue) -> tuple[int, int, int, Entry, SenderQueue]:
        return run_price(entry, self._base_fee), -entry.sequence, next(self._ticket), entry, queue


def run_price(entry: Entry, base_fee: int) -> int:
    """Return the least tip (wei per gas) of this entry and those before it; negative below the base fee."""
    return min(entry.run_tip_cap, entry.run_fee_cap - base_fee)
