"""How much of one core checking certificates may take, and so how many are checked (protocol 4.5).

Pure: it is told the time and handed its randomness, which must be private: nobody may know which certificates
a node looks at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from noria.consensus.parameters import WHOLE_PERCENT, ChainParameters
from noria.consensus.sampling import CERTAIN, check_chance

HORIZON_SECONDS: Final = 60.0
"""Over which demand is averaged, and how much budget can be saved up."""
SECONDS_PER_FUEL_AT_FIRST: Final = 1e-9
SECONDS_PER_FUEL_MAX: Final = 30e-9
"""What the slowest program that can be found takes, by calibration of the price of instructions."""
_LEARNING: Final = 0.2


class VerifyBudget:
    """The share of a core for one kind of checks.

    Parameters
    ----------
    parameters
        The chain's: ``VERIFY_SHARE`` and the length of an epoch.
    draw
        A private random number from 0 to 1, exclusive.
    now
        Seconds on any clock.
    """

    def __init__(self, parameters: ChainParameters, draw: Callable[[], float], now: float) -> None:
        self._parameters, self._draw = parameters, draw
        share = self._share = parameters.verify_share_percent / WHOLE_PERCENT
        self._seconds_per_fuel = SECONDS_PER_FUEL_AT_FIRST
        self._demand = 0.0
        self._demand_at = now
        self._saved = share * HORIZON_SECONDS
        self._saved_at = now

    @property
    def probability(self) -> float:
        """The probability with which a certificate is checked: the largest that keeps within the share."""
        epoch_seconds = self._parameters.epoch_slots * self._parameters.slot_seconds
        # Units differ in length: an epoch's certificates count as one that takes as long as all together.
        together = math.ceil(self._demand * epoch_seconds * 1000)
        return (
            check_chance(self._parameters, certificates_per_epoch=1, mean_run_milliseconds=together) / CERTAIN
        )

    def drawn(self, fuel: int, now: float) -> bool:
        """Take note of a certificate and tell whether it is to be checked."""
        self._demand *= math.exp(-max(0.0, now - self._demand_at) / HORIZON_SECONDS)
        self._demand_at = max(now, self._demand_at)
        self._demand += fuel * self._seconds_per_fuel / HORIZON_SECONDS
        return self.probability >= 1.0 or self._draw() < self.probability

    def seconds_until_free(self, now: float) -> float:
        """Return how long to wait before the next check may begin; 0 if it may."""
        self._save(now)
        return 0.0 if self._saved > 0 else -self._saved / self._share

    def spent(self, fuel: int, seconds: float, now: float) -> None:
        """Take note of a check that took this long."""
        self._save(now)
        self._saved -= seconds
        if fuel > 0:
            seen = min(seconds / fuel, SECONDS_PER_FUEL_MAX)
            self._seconds_per_fuel += _LEARNING * (seen - self._seconds_per_fuel)

    def _save(self, now: float) -> None:
        gained = self._share * max(0.0, now - self._saved_at)
        self._saved = min(self._saved + gained, self._share * HORIZON_SECONDS)
        self._saved_at = max(now, self._saved_at)
