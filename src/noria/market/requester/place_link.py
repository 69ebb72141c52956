"""What a dispatcher needs of a place, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from noria.market.requester.units import Copy


class PlaceLink(Protocol):
    """A miner's place, as far as it is given units."""

    @property
    def k(self) -> int:
        """Which."""
        ...

    @property
    def is_usable(self) -> bool:
        """Whether it takes units now."""
        ...

    def room(self) -> int:
        """Return how many more units it may have now."""
        ...

    def eagerness(self) -> float:
        """Return how soon it would run another one: the higher the sooner."""
        ...

    def order(self, copy: Copy) -> None:
        """Send a copy."""
        ...

    def open(self, copy: Copy) -> None:
        """Ask for a sealed result."""
        ...

    def cancel(self, copy: Copy) -> None:
        """Take a copy back."""
        ...

    def verified(self, copy: Copy) -> None:
        """Note that a claim was found right."""
        ...

    def ban(self, reason: str) -> None:
        """Have nothing more to do with this miner."""
        ...


@dataclass(slots=True)
class Counts:
    """What has become of the units."""

    units: int = 0
    done: int = 0
    failed: int = 0
    stopped: int = 0
    fuel: int = 0
    disputes: int = 0
    own_runs: int = 0
    replaced: int = 0
    news: int = 0
    """Seals and results that have come."""
