"""What many calls of a function would cost, judged by a few that ran on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from noria.client.estimate import Estimate, Spread
from noria.primitives.amounts import format_amount
from noria.primitives.types import Wei

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class NetworkEstimate:
    """What a call of a function takes and costs.

    Parameters
    ----------
    local
        What the sample took here.
    price
        Wei per fuel of one miner, royalty included.
    replicas
        Miners that run each call.
    workers
        Units that the job's miners run at once; 0 while no miner is known.
    """

    local: Estimate
    price: int
    replicas: int
    workers: int

    @property
    def fuel(self) -> Spread:
        """Fuel of one call, the same on every machine."""
        return self.local.fuel

    @property
    def seconds(self) -> Spread:
        """Time of one call on one core of this machine."""
        return self.local.seconds

    @property
    def cost(self) -> Wei:
        """What one call costs, all replicas together."""
        return self.total_cost(1)

    @property
    def cost_per_core_hour(self) -> Wei:
        """What one hour of a core costs, as fast as this machine's, all replicas together."""
        if not self.seconds.mean:
            return Wei(0)
        fuel_per_hour = self.fuel.mean / self.seconds.mean * SECONDS_PER_HOUR
        return Wei(round(fuel_per_hour * self.price * self.replicas))

    def total_cost(self, calls: int) -> Wei:
        """Return what so many calls would cost, if they are like the sample."""
        return Wei(round(calls * self.fuel.mean * self.price * self.replicas))

    def total_seconds(self, calls: int) -> float:
        """Return how long so many calls would take, if miners' cores are like this machine's."""
        at_once = max(1, (self.workers or self.local.workers) // self.replicas)
        return calls * self.seconds.mean / min(at_once, max(1, calls))

    def __str__(self) -> str:
        return (
            f"{self.local}; {format_amount(self.cost)} each with {self.replicas} replicas, "
            f"{self.cost_per_core_hour / 10**18:.3g} NOR per core-hour"
        )
