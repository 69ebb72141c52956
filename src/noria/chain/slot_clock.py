"""When slots begin, by a clock that is handed in (protocol 4.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from noria.consensus.parameters import ChainParameters
from noria.consensus.slots import slot_start_seconds

_SLEEP_SECONDS_MIN = 0.001
"""Clocks differ in how finely they tick."""
_SLEEP_SECONDS_MAX = 60.0
"""The wall clock may be set meanwhile: nobody sleeps longer by what it said."""


class SlotClock:
    """A chain's slots on a wall clock.

    Parameters
    ----------
    parameters, genesis_seconds
        The chain's.
    wall
        Unix seconds.
    """

    def __init__(self, parameters: ChainParameters, genesis_seconds: int, wall: Callable[[], float]) -> None:
        self._parameters, self._genesis = parameters, genesis_seconds
        self._wall = wall

    def milliseconds(self) -> int:
        """Return the time, Unix milliseconds."""
        return int(self._wall() * 1000)

    def slot(self) -> int:
        """Return the slot that it is now; 0 before genesis."""
        return max(0, (self.milliseconds() - self._genesis * 1000) // (self._parameters.slot_seconds * 1000))

    def seconds_until(self, slot: int) -> float:
        """Return how long it is until a slot begins; negative once it has."""
        return slot_start_seconds(self._parameters, self._genesis, slot) - self._wall()

    async def wait_for(self, slot: int) -> None:
        """Wait until a slot begins."""
        while (rest := self.seconds_until(slot)) > 0:
            await asyncio.sleep(min(max(rest, _SLEEP_SECONDS_MIN), _SLEEP_SECONDS_MAX))
