"""How many calls there are, and how many have ended."""

from __future__ import annotations

import itertools
import threading


class Tally:
    """Counts calls; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._indices = itertools.count()
        self.expected = 0
        self.ended = 0

    def next_index(self) -> int:
        """Return the number of a call, from 0."""
        return next(self._indices)

    def expect(self, calls: int) -> None:
        """Count calls that are to come; a negative number those that are not wanted any more."""
        with self._lock:
            self.expected += calls

    def end(self, calls: int) -> None:
        """Count calls that have ended."""
        with self._lock:
            self.ended += calls


class Ended:
    """Counts the calls of a unit when it has ended: a callback of its future."""

    def __init__(self, tally: Tally, calls: int) -> None:
        self.tally = tally
        self.calls = calls

    def __call__(self, _: object) -> None:
        """Count them."""
        self.tally.end(self.calls)
