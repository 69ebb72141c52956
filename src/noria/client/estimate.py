"""What many calls of a function would take, judged by a few that really ran."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """How a quantity is spread over a sample.

    Parameters
    ----------
    least, median, mean, most
        Of the sample.
    deviation
        Standard deviation; 0 for a sample of one.
    """

    least: float
    median: float
    mean: float
    most: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(
            least=min(values),
            median=statistics.median(values),
            mean=statistics.fmean(values),
            most=max(values),
            deviation=statistics.stdev(values) if len(values) > 1 else 0.0,
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a call of a function takes.

    Parameters
    ----------
    function
        Qualified name.
    calls
        How many ran for this.
    fuel
        Fuel of one call, the same on every machine.
    seconds
        Time of one call on one core of this machine.
    workers
        How many run at once here.
    """

    function: str
    calls: int
    fuel: Spread
    seconds: Spread
    workers: int

    def total_fuel(self, calls: int) -> float:
        """Return the fuel that so many calls would burn, if they are like the sample."""
        return calls * self.fuel.mean

    def total_seconds(self, calls: int) -> float:
        """Return how long so many calls would take on this machine with all workers."""
        return calls * self.seconds.mean / min(self.workers, max(1, calls))

    def __str__(self) -> str:
        fuel, seconds = self.fuel, self.seconds
        return (
            f"{self.function}, {self.calls} calls: "
            f"{fuel.mean:.3g} fuel each (± {fuel.deviation:.2g}, {fuel.least:.3g} to {fuel.most:.3g}), "
            f"{seconds.mean:.3g} seconds each (± {seconds.deviation:.2g}, "
            f"{seconds.least:.3g} to {seconds.most:.3g}), {self.workers} at once"
        )
