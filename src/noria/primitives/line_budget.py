"""How many lines of one kind a log takes, so that nobody can flood it with what is wrong."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

AT_ONCE: Final = 8
"""Lines of one kind that are written one after the other."""
SECONDS_EACH: Final = 10.0
"""After these, one more line per such time."""
KINDS_MAX: Final = 256


@dataclass(slots=True)
class _Kind:
    lines: float
    at: float
    left_out: int = 0


class LineBudget:
    """Decides which lines are written: a few of each kind at once, then one now and then."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[str, _Kind] = OrderedDict()

    def take(self, kind: str, now: float) -> int | None:
        """Ask whether a line is to be written.

        Parameters
        ----------
        kind
            What it is about. Of more than `KINDS_MAX` the one that was not heard of for longest is forgotten.
        now
            Seconds on any clock.

        Returns
        -------
        int or None
            How many lines of this kind were left out since the last one; `None` if this one is, too.
        """
        known = self._kinds.setdefault(kind, _Kind(AT_ONCE, now))
        self._kinds.move_to_end(kind)
        while len(self._kinds) > KINDS_MAX:
            self._kinds.popitem(last=False)
        known.lines = min(AT_ONCE, known.lines + max(0.0, now - known.at) / SECONDS_EACH)
        known.at = max(known.at, now)
        if known.lines < 1:
            known.left_out += 1
            return None
        known.lines -= 1
        left_out, known.left_out = known.left_out, 0
        return left_out
