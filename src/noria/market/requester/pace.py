"""How long copies take, and when one is so late that another place should run it, too."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Final

STRAGGLER_FACTOR: Final = 3.0
STRAGGLER_SECONDS: Final = 1.0
"""A copy that takes longer than this, and so many times as long as usual, is a straggler."""
STUCK_FACTOR: Final = 10.0
STUCK_SECONDS: Final = 30.0
"""The same while other units wait."""
COPIES: Final = 128
"""The latest copies, which tell what is usual."""


class Pace:
    """How long the latest copies of a job's units took."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=COPIES)

    def took(self, seconds: float) -> None:
        """Note how long a copy took from its order to its seal, or to its result."""
        self._durations.append(seconds)

    def patience(self, *, others_wait: bool) -> float:
        """Return for how many seconds a copy is waited for before it is given to another place, too."""
        usual = statistics.median(self._durations) if self._durations else 0.0
        if others_wait or not self._durations:
            return max(STUCK_SECONDS, STUCK_FACTOR * usual)
        return max(STRAGGLER_SECONDS, STRAGGLER_FACTOR * usual)
