"""Whether this machine's clock is the one that is wrong: compared with what peers say."""

from __future__ import annotations

from collections.abc import Collection
from statistics import median
from typing import Final

import structlog

from noria.network.peers import PeerId

CLOCK_SHARE: Final = 0.5
"""Of a slot: how far this clock may differ from most peers' before the operator is told."""

_log = structlog.get_logger(__name__)


class PeerClocks:
    """By how much this clock is ahead of each peer's.

    Parameters
    ----------
    slot_seconds
        Of the chain.

    Attributes
    ----------
    ahead_seconds
        By how much this clock is ahead of most peers'; `None` while nobody has been asked.
    """

    def __init__(self, slot_seconds: float) -> None:
        self._limit = CLOCK_SHARE * slot_seconds
        self._clocks: dict[PeerId, float] = {}
        self.ahead_seconds: float | None = None

    def note(self, peer: PeerId, ahead_milliseconds: float, present: Collection[PeerId]) -> None:
        """Compare, and tell the operator once where most peers' clocks say something else.

        Parameters
        ----------
        peer
            Whose clock was read.
        ahead_milliseconds
            By so much this one is ahead of it.
        present
            Other peers that are still there; the rest are forgotten.
        """
        self._clocks[peer] = ahead_milliseconds / 1000
        kept = {*present, peer}
        self._clocks = {known: ahead for known, ahead in self._clocks.items() if known in kept}
        ahead, before = median(self._clocks.values()), self.ahead_seconds
        if abs(ahead) > self._limit and (before is None or abs(before) <= self._limit):
            _log.warning(
                "clock_differs",
                ahead_seconds=round(ahead, 3),
                advice="most peers' clocks say otherwise: synchronise this machine's clock (NTP)",
            )
        self.ahead_seconds = ahead
