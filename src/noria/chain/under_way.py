"""Blocks that came by gossip and are being checked, or await their import: so many in all, and of one sender.

Otherwise whoever sends faster than blocks can be checked, or during a long write, would fill the memory.
"""

from __future__ import annotations

from typing import Final

from noria.chain.import_queue import Arrival

BLOCKS_MAX: Final = 256
BYTES_MAX: Final = 64 << 20
SHARE: Final = 4
"""One sender may take this part of either."""


class UnderWay:
    """Counts what is under way."""

    def __init__(self) -> None:
        self._sources: dict[str, tuple[int, int]] = {}
        self._count = self._bytes = 0

    def __len__(self) -> int:
        """Return how many blocks are under way."""
        return self._count

    @property
    def size_bytes(self) -> int:
        """What they take together."""
        return self._bytes

    def has_room(self, arrival: Arrival) -> bool:
        """Tell whether one more may be begun; the first of a sender wherever there is room at all."""
        if self._count >= BLOCKS_MAX or self._bytes + arrival.size > BYTES_MAX:
            return False
        count, size = self._sources.get(arrival.source, (0, 0))
        return not count or (count < BLOCKS_MAX // SHARE and size + arrival.size <= BYTES_MAX // SHARE)

    def begin(self, arrival: Arrival) -> None:
        """Count one."""
        self._add(arrival, 1)

    def end(self, arrival: Arrival) -> None:
        """Count one no more."""
        self._add(arrival, -1)

    def _add(self, arrival: Arrival, sign: int) -> None:
        self._count += sign
        self._bytes += sign * arrival.size
        count, size = self._sources.get(arrival.source, (0, 0))
        if count + sign:
            self._sources[arrival.source] = count + sign, size + sign * arrival.size
        else:
            del self._sources[arrival.source]
