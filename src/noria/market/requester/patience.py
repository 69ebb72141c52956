"""When a job counts as stalled: nothing of it moves, and nothing is known that could move it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

from noria.market.requester.reasons import Explanation

PATIENCE_SECONDS: Final = 300.0
NOTICE_SECONDS: Final = 20.0
"""After which whoever waits is told once what for."""


class Patience:
    """Measures for how long nothing has happened.

    Parameters
    ----------
    seconds
        After which a job is stalled.
    clock
        Seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self._clock = clock
        self._since = clock()
        self._seen: Hashable = None
        self._has_told = False

    @property
    def waited(self) -> float:
        """Seconds without progress, as of the last look."""
        return self._clock() - self._since

    @property
    def is_over(self) -> bool:
        """Whether it was long enough."""
        return self.waited > self.seconds

    def look(self, signs: Hashable, *, is_moving: bool) -> None:
        """Take note of how things are.

        Parameters
        ----------
        signs
            Differ from those of the last look where something has happened since.
        is_moving
            Whether something is under way that takes its time, or nothing is waited for.
        """
        if is_moving or signs != self._seen:
            self._seen, self._since = signs, self._clock()

    def begin_again(self) -> None:
        """Wait from now on."""
        self._since = self._clock()

    def should_tell(self) -> bool:
        """Tell once that it is time to say what is waited for."""
        if self._has_told or self.waited < NOTICE_SECONDS:
            return False
        self._has_told = True
        return True


def first_line(explanation: Explanation) -> str:
    """Return where a job stands and what holds it up most, in one line."""
    reasons = explanation.reasons[:1]
    return " ".join([explanation.summary, *(reason.message for reason in reasons)])


def stalled_message(explanation: Explanation, seconds: float) -> str:
    """Return what whoever waited in vain is told."""
    return (
        f"nothing has happened for {seconds:.0f} seconds, and no miner is left that could do something. "
        f"{explanation}\nSubmit the calls again when miners are back, hire others (a higher max_price, more "
        "miners), or wait longer (patience=…)."
    )
