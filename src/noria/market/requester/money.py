"""How much a miner may charge: never beyond its cap, and never far ahead of what it has shown.

All amounts are wei, all totals are cumulative. A `PlaceLedger` decides the next allow of one place, a `Purse`
which cap is raised when. Nothing here signs or sends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from noria.primitives.types import Wei

START_UNITS: Final = 4
"""Units for which a miner is trusted before it has shown any."""
MARGIN_NUMERATOR: Final = 3
MARGIN_DENOMINATOR: Final = 2
"""Units differ: allow half as much again as is expected."""
UNKNOWN_SHARE: Final = 8
"""Part of a cap that is allowed before it is known what a unit burns."""
WARN_NUMERATOR: Final = 4
WARN_DENOMINATOR: Final = 5
"""Share of the budget after which somebody should be told."""


class OverBudget(AssertionError):
    """A rule of this module is broken: something would be allowed that is not there."""


@dataclass(slots=True)
class PlaceLedger:
    """What one place may charge, has charged, and has shown to be right.

    Attributes
    ----------
    price
        Wei per fuel, royalty included.
    cap
        Most that it may charge, as the chain has it.
    allowed
        Highest total that was signed.
    received
        Price of all receipts that have arrived.
    verified
        Price of those that were found right.
    units
        Receipts found right.
    fuel
        Their fuel.
    is_banned
        Nothing more is allowed.
    """

    price: int
    cap: int
    allowed: int = 0
    received: int = 0
    verified: int = 0
    units: int = 0
    fuel: int = 0
    is_banned: bool = False

    def receive(self, fuel: int) -> Wei:
        """Count a receipt that has arrived; return its price."""
        price = fuel * self.price
        self.received += price
        return Wei(price)

    def verify(self, fuel: int) -> None:
        """Count a receipt that was found right."""
        self.verified += fuel * self.price
        self.units += 1
        self.fuel += fuel

    @property
    def expected_fuel(self) -> float | None:
        """Fuel of a unit here, as far as that is known."""
        return self.fuel / self.units if self.units else None

    def want(
        self,
        *,
        outstanding: int,
        window: int,
        fuel_limit: int,
        expected_fuel: float | None,
        needed: int = 0,
        awaited_fuel: int = 0,
    ) -> int:
        """Return the total that should be allowed, cap or not.

        Parameters
        ----------
        outstanding
            Units that are ordered and not received.
        window
            Most of them at a time.
        fuel_limit
            Largest limit among them.
        expected_fuel
            Of a unit, from any place; None while nobody knows.
        needed
            What the miner says that it needs for the next result. It is believed up to one unit's limit, as
            long as what it has claimed and nobody has confirmed is worth a few units at most.
        awaited_fuel
            What others have claimed for units that wait for this place. So much more of its own may wait for
            others: places that release units in different orders would wait for each other for ever.
        """
        if self.is_banned or not outstanding:
            return self.allowed
        most = fuel_limit * self.price
        trusted = min(outstanding, window, max(START_UNITS, 2 * self.units))
        if expected_fuel is None:
            # Nothing is known: the miner will say what it needs.
            ahead = min(most, self.cap // UNKNOWN_SHARE)
        else:
            ahead = int(min(expected_fuel, fuel_limit) * self.price) * trusted
            ahead = ahead * MARGIN_NUMERATOR // MARGIN_DENOMINATOR
        total = max(self.allowed, self.verified + ahead)
        if needed > total:
            unconfirmed = (START_UNITS + 1) * most + awaited_fuel * self.price
            total = max(total, min(needed, self.received + most, self.verified + unconfirmed))
        return total

    def allow(self, total: int) -> int | None:
        """Settle on a total; None if there is nothing new to sign.

        Parameters
        ----------
        total
            What is wanted; what goes beyond the cap is left out.

        Raises
        ------
        OverBudget
            If more were allowed than the cap.
        """
        total = min(total, self.cap)
        if self.is_banned or total <= self.allowed:
            return None
        self.allowed = total
        if self.allowed > self.cap:
            raise OverBudget(f"{self.allowed} wei are allowed, the cap is {self.cap}")
        return total


@dataclass(slots=True)
class Purse:
    """A job's money: what is free, and the caps that were made of the rest.

    Attributes
    ----------
    budget
        In all, top-ups included.
    free
        Not given to any place yet.
    share
        First cap of a place.
    places
        Ledgers by place.
    raising
        Amounts under way to a cap, by place.
    """

    budget: int
    free: int
    share: int
    places: dict[int, PlaceLedger] = field(default_factory=dict)
    raising: dict[int, int] = field(default_factory=dict)
    _warned: bool = False

    def add_place(self, k: int, price: int, cap: int) -> PlaceLedger:
        """Note a place as the chain has it."""
        ledger = self.places[k] = PlaceLedger(price=price, cap=cap)
        return ledger

    @property
    def spent(self) -> int:
        """Price of all receipts that have arrived."""
        return sum(ledger.received for ledger in self.places.values())

    @property
    def allowed(self) -> int:
        """What miners may charge by now."""
        return sum(ledger.allowed for ledger in self.places.values())

    def plan_raise(self, k: int, wanted: int, *, others: int) -> int:
        """Return by how much a cap should be raised now; 0 if not at all.

        Parameters
        ----------
        k
            Which place's.
        wanted
            Total that it should be able to charge.
        others
            Places that work beside it: each shall have its part of what is free.
        """
        ledger = self.places[k]
        if ledger.is_banned or k in self.raising:
            return 0
        # In good time: a raise takes a block or two.
        soon = wanted + (wanted - ledger.verified)
        if soon <= ledger.cap:
            return 0
        available = self.free - sum(self.raising.values())
        missing = wanted - ledger.cap
        part = max(missing, min(self.share, available // (others + 1)))
        return max(0, min(part, available))

    def begin_raise(self, k: int, amount: int) -> None:
        """Note that a raise is under way.

        Raises
        ------
        OverBudget
            If so much is not free.
        """
        if amount <= 0 or amount > self.free - sum(self.raising.values()):
            raise OverBudget(f"a cap is to be raised by {amount} wei, {self.free} are free")
        self.raising[k] = amount

    def end_raise(self, k: int, *, ok: bool) -> None:
        """Note what became of it."""
        amount = self.raising.pop(k, 0)
        if ok:
            self.free -= amount
            self.places[k].cap += amount

    def top_up(self, amount: int) -> None:
        """Note that money was added."""
        self.budget += amount
        self.free += amount
        self._warned = False

    def cannot_pay(self, k: int, wanted: int) -> bool:
        """Tell whether a place wants more than it can ever have now."""
        ledger = self.places[k]
        return wanted > ledger.cap and self.free - sum(self.raising.values()) <= 0 and k not in self.raising

    def should_warn(self) -> bool:
        """Tell once that most of the budget is spent."""
        if self._warned or self.spent * WARN_DENOMINATOR < self.budget * WARN_NUMERATOR:
            return False
        self._warned = True
        return True


def first_share(budget: int, miners: int) -> int:
    """Return the cap that each place has at first: half of the budget in equal parts, the rest stays free."""
    return budget // (2 * miners)
