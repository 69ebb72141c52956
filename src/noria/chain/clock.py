"""What time the next block says it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from noria.chain.errors import InvalidTimestamp

TIMESTAMP_MAX: Final = 2**40
"""Unix seconds; far beyond any use, far below what would overflow somewhere."""


class ChainClock:
    """The wall clock with an offset that a developer may move forward; whole seconds.

    Parameters
    ----------
    wall
        Unix seconds.
    """

    __slots__ = ("_next", "_offset", "_wall")

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._offset = 0
        self._next: int | None = None

    @property
    def offset(self) -> int:
        """Seconds by which the chain's clock is ahead of the wall clock."""
        return self._offset

    def now(self) -> int:
        """Return the chain's time in Unix seconds."""
        return int(self._wall()) + self._offset

    def increase(self, seconds: int) -> int:
        """Move the clock forward and return the whole offset.

        Raises
        ------
        InvalidTimestamp
            ``seconds`` is negative or leads too far.
        """
        if seconds < 0:
            raise InvalidTimestamp(f"cannot go back by {-seconds} s: time on a chain only increases")
        if self.now() + seconds > TIMESTAMP_MAX:
            raise InvalidTimestamp(f"{seconds} s is too far: block times end at {TIMESTAMP_MAX}")
        self._offset += seconds
        return self._offset

    def set_next(self, timestamp: int, *, parent: int) -> None:
        """Fix the time of the next block; the clock goes on from there.

        Raises
        ------
        InvalidTimestamp
            It is not later than the parent's time, or too far.
        """
        self._next = _checked(timestamp, parent)

    def next_timestamp(self, parent: int, requested: int | None = None) -> int:
        """Return the time for the block after one with time ``parent``; changes nothing.

        Raises
        ------
        InvalidTimestamp
            The requested time is not later than the parent's, or too far.
        """
        if requested is not None:
            return _checked(requested, parent)
        if self._next is not None and self._next > parent:
            return self._next
        # Blocks can come faster than one a second; each still has a later time than its parent.
        return max(self.now(), parent + 1)

    def sealed(self, timestamp: int, *, requested: bool) -> None:
        """Take note that a block with this time was stored; ``requested``: somebody asked for this time."""
        if requested or self._next is not None:
            self._offset = timestamp - int(self._wall())
        self._next = None


def _checked(timestamp: int, parent: int) -> int:
    if timestamp <= parent:
        raise InvalidTimestamp(f"timestamp {timestamp} is not later than the parent block's, {parent}")
    if timestamp > TIMESTAMP_MAX:
        raise InvalidTimestamp(f"timestamp {timestamp} is too far: block times end at {TIMESTAMP_MAX}")
    return timestamp
