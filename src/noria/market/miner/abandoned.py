"""Work that nobody pays for, because its units were taken back after they had begun."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

WAIT_FACTOR: Final = 8
"""How many times its own length a unit that was given up is remembered where nothing is paid for."""


class Abandoned:
    """Units of one place that were given up after they had begun, oldest first, until they are made up for.

    Work that is paid for makes up for as much worker time; otherwise time does, `WAIT_FACTOR` times as
    slowly, so that a requester who had good reasons can go on, and one who has none gets a small share of
    one worker.

    Parameters
    ----------
    clock
        Seconds, from anywhere.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: deque[float] = deque()
        self._made_up = 0.0
        self._looked = clock()

    def __len__(self) -> int:
        """Return how many there are now."""
        now = self._clock()
        waited, self._looked = now - self._looked, now
        self.make_up(waited / WAIT_FACTOR)
        return len(self._seconds)

    def add(self, seconds: float) -> None:
        """Note that a unit that has had so much worker time was given up."""
        len(self)
        self._seconds.append(seconds)

    def make_up(self, seconds: float) -> None:
        """Count so much worker time as paid."""
        self._made_up += seconds
        while self._seconds and self._made_up >= self._seconds[0]:
            self._made_up -= self._seconds.popleft()
        if not self._seconds:
            # What was paid for before gives no right to take anything back.
            self._made_up = 0.0
