"""Money: whatever is asked, received or claimed, nothing is allowed beyond cap and budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from noria.market.requester.money import START_UNITS, OverBudget, PlaceLedger, Purse, first_share

FUEL = st.integers(0, 10**10)
LIMIT = 10**9


def test_before_anything_is_known_a_part_of_the_cap_is_allowed() -> None:
    ledger = PlaceLedger(price=10, cap=1_000_000)
    wanted = ledger.want(outstanding=4, window=100, fuel_limit=10**12, expected_fuel=None)
    assert wanted == 1_000_000 // 8
    small = ledger.want(outstanding=4, window=100, fuel_limit=1_000, expected_fuel=None)
    assert small == 10_000


def test_the_allow_grows_with_what_was_verified() -> None:
    ledger = PlaceLedger(price=1, cap=10**12)
    wants = []
    for _ in range(8):
        total = ledger.want(outstanding=60, window=60, fuel_limit=LIMIT, expected_fuel=1_000.0)
        wants.append(total - ledger.verified)
        ledger.allow(total)
        ledger.receive(1_000)
        ledger.verify(1_000)
    assert wants[0] == 4 * 1_500
    assert wants == sorted(wants)
    assert wants[-1] == 14 * 1_500


def test_what_the_miner_says_it_needs_is_believed_up_to_one_unit() -> None:
    ledger = PlaceLedger(price=1, cap=10**12)
    ledger.verify(100)
    ledger.receive(100)
    total = ledger.want(outstanding=1, window=9, fuel_limit=5_000, expected_fuel=100.0, needed=10**11)
    assert total == 100 + 5_000


def test_claims_that_nobody_has_confirmed_are_believed_for_a_few_units() -> None:
    ledger = PlaceLedger(price=2, cap=10**6)
    most = 5_000 * ledger.price

    def claim_all(awaited_fuel: int = 0) -> int:
        """Claim as much as there is to be had, each unit at its limit."""
        while True:
            ledger.allow(
                ledger.want(
                    outstanding=60,
                    window=60,
                    fuel_limit=5_000,
                    expected_fuel=100.0,
                    needed=ledger.received + most,
                    awaited_fuel=awaited_fuel,
                )
            )
            if ledger.received + most > ledger.allowed:
                return ledger.received - ledger.verified
            ledger.receive(5_000)

    assert claim_all() == (START_UNITS + 1) * most
    # One that is confirmed makes room for another.
    ledger.verify(5_000)
    assert claim_all() == (START_UNITS + 1) * most
    # Others wait for this one: they may have what it holds behind what it claims now.
    assert claim_all(awaited_fuel=10_000) == (START_UNITS + 3) * most


def test_a_banned_place_gets_nothing_more() -> None:
    ledger = PlaceLedger(price=1, cap=10**6, is_banned=True)
    assert ledger.want(outstanding=4, window=9, fuel_limit=LIMIT, expected_fuel=10.0) == 0
    assert ledger.allow(500) is None


@given(
    cap=st.integers(0, 10**15),
    totals=st.lists(st.integers(0, 10**16), max_size=30),
)
def test_an_allow_never_falls_and_never_passes_the_cap(cap: int, totals: list[int]) -> None:
    ledger = PlaceLedger(price=1, cap=cap)
    last = 0
    for total in totals:
        signed = ledger.allow(total)
        if signed is not None:
            assert last < signed <= cap
            last = signed
        assert ledger.allowed == last


def test_a_budget_is_told_of_once_when_most_is_spent() -> None:
    purse = Purse(budget=100, free=50, share=25)
    purse.add_place(0, 1, 50).receive(79)
    assert not purse.should_warn()
    purse.places[0].receive(1)
    assert purse.should_warn()
    assert not purse.should_warn()
    purse.top_up(100)
    purse.places[0].receive(100)
    assert purse.should_warn()


def test_shares_leave_half_free() -> None:
    assert first_share(1_000, 4) == 125


@pytest.mark.parametrize("amount", [0, -1, 101])
def test_a_cap_is_raised_by_what_is_free(amount: int) -> None:
    purse = Purse(budget=200, free=100, share=10)
    purse.add_place(0, 1, 100)
    with pytest.raises(OverBudget):
        purse.begin_raise(0, amount)


class Jobs(RuleBasedStateMachine):
    """Random work of some miners within a budget."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = 10**9
        share = first_share(self.budget, 3)
        self.purse = Purse(budget=self.budget, free=self.budget, share=share)
        for k in range(3):
            self.purse.free -= share
            self.purse.add_place(k, price=k + 1, cap=share)
        self.signed = {0: 0, 1: 0, 2: 0}

    @rule(
        k=st.integers(0, 2),
        outstanding=st.integers(0, 64),
        needed=st.integers(0, 10**10),
        known=st.booleans(),
    )
    def allow(self, k: int, outstanding: int, needed: int, known: bool) -> None:
        ledger = self.purse.places[k]
        expected = 50_000.0 if known else None
        total = ledger.want(
            outstanding=outstanding, window=60, fuel_limit=10**7, expected_fuel=expected, needed=needed
        )
        signed = ledger.allow(total)
        if signed is not None:
            assert signed > self.signed[k]
            self.signed[k] = signed

    @rule(k=st.integers(0, 2), fuel=st.integers(0, 10**7), right=st.booleans())
    def receive(self, k: int, fuel: int, right: bool) -> None:
        """A miner releases only what is allowed."""
        ledger = self.purse.places[k]
        if ledger.received + fuel * ledger.price > ledger.allowed:
            return
        ledger.receive(fuel)
        if right:
            ledger.verify(fuel)

    @rule(k=st.integers(0, 2), wanted=st.integers(0, 10**10))
    def begin_raise(self, k: int, wanted: int) -> None:
        amount = self.purse.plan_raise(k, wanted, others=2)
        assert 0 <= amount <= self.purse.free
        if amount:
            self.purse.begin_raise(k, amount)

    @precondition(lambda self: self.purse.raising)
    @rule(ok=st.booleans())
    def end_raise(self, ok: bool) -> None:
        self.purse.end_raise(next(iter(self.purse.raising)), ok=ok)

    @rule(amount=st.integers(1, 10**8))
    def top_up(self, amount: int) -> None:
        self.purse.top_up(amount)
        self.budget += amount

    @rule(k=st.integers(0, 2))
    def ban(self, k: int) -> None:
        self.purse.places[k].is_banned = True

    @invariant()
    def nothing_beyond(self) -> None:
        purse = self.purse
        assert purse.free + sum(ledger.cap for ledger in purse.places.values()) == purse.budget == self.budget
        assert sum(purse.raising.values()) <= purse.free
        for ledger in purse.places.values():
            assert ledger.verified <= ledger.received <= ledger.allowed <= ledger.cap


TestJobs = Jobs.TestCase
