"""Bonds, fees and credit against a plain model: no wei is made or lost, and nobody honest pays."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from noria.execution.system_contracts import MINER_REGISTRY, REWARD_POOL, WORK_LEDGER
from noria.primitives.types import Address
from tests.contracts.network import PROPOSER, SMALL, Network, Reverted, accounts, address, network_spec, root

MINERS = 5
BOND, PER_CAPACITY, UNBONDING = SMALL.bond_min_wei, SMALL.bond_per_capacity_wei, SMALL.unbonding_epochs
WRONGED = Address(b"\x55" * 20)
VAULT = 10**6
miners = st.integers(0, MINERS - 1)


@dataclass
class Miner:
    """What a miner has."""

    registered: bool = False
    bond: int = 0
    unbonding: int = 0
    free_epoch: int = 0
    capacity: int = 0
    known: bool = False
    changed: int = -1
    jailed_until: int = 0
    slashed: int | None = None
    offended: bool = False
    credit: list[tuple[int, int]] = field(default_factory=list)

    def fit(self) -> None:
        self.capacity = min(self.capacity, self.bond // PER_CAPACITY if self.bond >= BOND else 0)

    def take(self, penalty: int) -> int:
        taken = min(penalty, self.bond + self.unbonding)
        from_bond = min(taken, self.bond)
        self.bond -= from_bond
        self.unbonding -= taken - from_bond
        self.fit()
        return taken


class Money(RuleBasedStateMachine):
    """Five accounts, of which the first two mine at genesis."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.network = Network.start(Path(self.folder.name) / "engine", network_spec(2, vault=VAULT))
        self.miners = [Miner() for _ in range(MINERS)]
        for miner in self.miners[:2]:
            miner.registered, miner.known, miner.bond, miner.capacity = True, True, BOND, 100
        self.burned = self.paid = self.wronged = self.pool = self.fees = self.base_fees = 0
        self.vault = VAULT
        self.floor = SMALL.floor_min_wei
        self.batches = 0
        self.counted = 0

    def teardown(self) -> None:
        self.network.engine.close()
        self.folder.cleanup()

    # ------------------------------------------------------------ how time and blocks act

    def block(self, make: Callable[[], Any], allowed: bool) -> bool:
        """Make a block, with the reward that comes first; it must go through exactly where it is allowed."""
        self.reward()
        try:
            make()
        except Reverted:
            assert not allowed
            return False
        assert allowed
        return True

    def reward(self) -> None:
        """What the next block begins with."""
        if self.next_epoch > self.network.epoch:
            self.turn()
        self.pay()

    def turn(self) -> None:
        release = min(self.vault >> 14, self.fees // 4)
        self.vault -= release
        self.pool += release
        self.fees = 0

    def pay(self) -> None:
        amount = self.pool // SMALL.pool_rate
        self.pool -= amount
        self.paid += amount

    @property
    def next_epoch(self) -> int:
        return (self.network.slot + 1) // SMALL.epoch_slots

    @initialize()
    def first_block(self) -> None:
        self.network.extend()

    # ------------------------------------------------------------ rules

    @rule(number=miners, bond=st.integers(BOND - 1, 3 * BOND), share=st.integers(0, 101))
    def register(self, number: int, bond: int, share: int) -> None:
        miner, capacity = self.miners[number], bond // PER_CAPACITY * share // 100
        allowed = not miner.registered and bond >= BOND and capacity <= bond // PER_CAPACITY
        epoch = self.next_epoch
        if self.block(lambda: self.network.register(number, bond=bond, capacity=capacity), allowed):
            miner.registered, miner.bond, miner.unbonding, miner.free_epoch = True, bond, 0, 0
            miner.capacity, miner.changed, miner.known = capacity, epoch, True

    @rule(number=miners, capacity=st.integers(0, 300))
    def update(self, number: int, capacity: int) -> None:
        miner, epoch = self.miners[number], self.next_epoch
        covered = miner.bond // PER_CAPACITY if miner.bond >= BOND else 0
        allowed = miner.registered and miner.changed < epoch and capacity <= covered
        send = lambda: self.network.send(  # noqa: E731
            number, MINER_REGISTRY, "update(bytes,uint256,uint256)", b"p", capacity, 3
        )
        if self.block(send, allowed):
            miner.capacity, miner.changed = capacity, epoch

    @rule(number=miners, amount=st.integers(0, 2 * BOND))
    def add_bond(self, number: int, amount: int) -> None:
        miner = self.miners[number]
        send = lambda: self.network.send(number, MINER_REGISTRY, "add_bond()", value=amount)  # noqa: E731
        if self.block(send, miner.registered and amount > 0):
            miner.bond += amount

    @rule(number=miners, amount=st.integers(0, 3 * BOND), everything=st.booleans())
    def unbond(self, number: int, amount: int, everything: bool) -> None:
        miner, epoch = self.miners[number], self.next_epoch
        amount = miner.bond if everything else amount
        rest = miner.bond - amount
        allowed = miner.registered and amount > 0 and (rest == 0 or rest >= BOND)
        send = lambda: self.network.send(number, MINER_REGISTRY, "unbond(uint256)", amount)  # noqa: E731
        if self.block(send, allowed):
            miner.bond, miner.unbonding, miner.free_epoch = rest, miner.unbonding + amount, epoch + UNBONDING
            miner.fit()

    @rule(number=miners, caller=miners)
    def withdraw(self, number: int, caller: int) -> None:
        miner = self.miners[number]
        allowed = miner.registered and miner.free_epoch != 0 and self.next_epoch >= miner.free_epoch
        before = self.network.balance(address(number))
        send = lambda: self.network.send(  # noqa: E731
            caller, MINER_REGISTRY, "withdraw(address)", address(number)
        )
        if self.block(send, allowed):
            if caller != number:
                assert self.network.balance(address(number)) == before + miner.unbonding
            miner.unbonding = miner.free_epoch = 0
            miner.registered = miner.bond > 0

    @rule(number=miners)
    def slash(self, number: int) -> None:
        miner, epoch = self.miners[number], self.next_epoch
        self.reward()
        self.network.extend(guilty=[address(number)])
        if not miner.known:
            return
        taken = miner.take(10**30)
        self.burned += taken - taken // 2
        self.paid += taken // 2
        miner.free_epoch = epoch + UNBONDING
        miner.jailed_until = max(miner.jailed_until, epoch + SMALL.jail_epochs)
        miner.slashed, miner.offended = epoch, True

    @rule(number=miners, penalty=st.integers(0, 2 * BOND), loss=st.integers(0, BOND))
    def penalise(self, number: int, penalty: int, loss: int) -> None:
        miner, epoch = self.miners[number], self.next_epoch
        arguments = (address(number), penalty, WRONGED, loss, PROPOSER)
        signature = "penalise(address,uint256,address,uint256,address)"
        self.block(lambda: self.network.as_court(MINER_REGISTRY, signature, *arguments), True)
        whole_bond = 0 < miner.bond <= penalty
        taken = miner.take(penalty)
        if whole_bond:
            miner.free_epoch = epoch + UNBONDING
        whole = min(taken // 2, loss)
        self.burned += taken - taken // 2
        self.wronged += whole
        self.paid += taken // 2 - whole
        miner.offended = True

    @rule(fee=st.integers(0, 10**6))
    def feed(self, fee: int) -> None:
        self.block(lambda: self.network.as_settlement(REWARD_POOL, "feed()", value=fee), True)
        self.burned += fee - fee // 2
        self.pool += fee // 2
        self.fees += fee

    @rule(number=miners, weight=st.integers(0, 10_000), fee=st.integers(0, 10**6))
    def credit(self, number: int, weight: int, fee: int) -> None:
        epoch = self.next_epoch
        batch = root(self.batches)
        self.batches += 1
        send = lambda: self.network.credit(number, batch, weight=weight, price=0, fee=fee)  # noqa: E731
        self.block(send, True)
        credited = min(weight, fee * 10_000 // (SMALL.fee_basis_points * self.floor))
        if credited:
            self.miners[number].credit.append((epoch, credited))

    @rule(epochs=st.integers(1, UNBONDING))
    def pass_time(self, epochs: int) -> None:
        for _ in range(epochs):
            self.turn()
            self.pay()
            self.network.extend(slot=(self.network.epoch + 1) * SMALL.epoch_slots)

    @precondition(lambda self: self.network.engine.head.number > 0)
    @rule()
    def pass_a_slot(self) -> None:
        self.reward()
        self.network.extend()

    # ------------------------------------------------------------ what always holds

    @invariant()
    def records_are_as_in_the_model(self) -> None:
        for number, miner in enumerate(self.miners):
            record = self.network.miner(number)
            assert (record["place"] != 0) == miner.registered
            assert (record["bond"], record["unbonding"]) == (miner.bond, miner.unbonding)
            assert (record["free_epoch"], record["capacity"]) == (miner.free_epoch, miner.capacity)
            assert record["jailed_until"] == miner.jailed_until
            assert record["slashed"] == (0 if miner.slashed is None else miner.slashed + 1)

    @invariant()
    def every_contract_has_what_it_owes(self) -> None:
        owed = sum(miner.bond + miner.unbonding for miner in self.miners)
        assert self.network.balance(MINER_REGISTRY) == owed
        assert self.network.balance(REWARD_POOL) == self.pool + self.vault
        assert self.network.ask(REWARD_POOL, "vault()", "uint256") == self.vault
        assert self.network.balance(WORK_LEDGER) == 0
        assert self.network.burned() == self.burned
        assert self.network.balance(PROPOSER) == self.paid
        assert self.network.balance(WRONGED) == self.wronged

    @invariant()
    def no_wei_is_made_or_lost(self) -> None:
        network = self.network
        held = sum(network.balance(account.address) for account in accounts())
        held += sum(map(network.balance, (MINER_REGISTRY, REWARD_POOL, PROPOSER, WRONGED)))
        for number in range(self.counted + 1, network.engine.head.number + 1):
            self.base_fees += base_fee_burned(network, number)
        self.counted = network.engine.head.number
        assert held + network.burned() + self.base_fees == network.spec.supply

    @invariant()
    def capacities_add_up_and_are_covered(self) -> None:
        total = self.network.ask(MINER_REGISTRY, "total_capacity()", "uint256")
        assert total == sum(miner.capacity for miner in self.miners)
        assert all(miner.capacity * PER_CAPACITY <= miner.bond for miner in self.miners)

    @invariant()
    def weight_is_bounded_by_fees_and_bond(self) -> None:
        epoch = self.network.epoch + 2
        first = max(epoch - 1 - SMALL.window_epochs, 0)
        state = self.network.state()
        listed = [address(number) for number in range(MINERS)]
        windows = state.credit_windows(listed, first, epoch - 2)
        for miner, (lo, hi) in zip(self.miners, windows, strict=True):
            assert hi - lo == sum(c for at, c in miner.credit if first <= at <= epoch - 2)
            weight = min(hi - lo, miner.bond // SMALL.bond_per_weight_wei)
            assert weight * SMALL.bond_per_weight_wei <= miner.bond
        # All credit ever given is backed by fees at the least floor price or above.
        credited = sum(c for miner in self.miners for _, c in miner.credit)
        assert credited == sum(state.credits_until(listed, [epoch] * MINERS))

    @invariant()
    def nobody_honest_has_paid(self) -> None:
        for number, miner in enumerate(self.miners):
            if not miner.offended:
                record = self.network.miner(number)
                assert record["jailed_until"] == record["slashed"] == 0


def base_fee_burned(network: Network, number: int) -> int:
    """Wei that the base fee of a block has taken out of the world."""
    block = network.engine.canonical_hash(number)
    assert block is not None
    header = network.engine.header(block)
    assert header is not None
    return header.gas_used * header.base_fee_per_gas


Money.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestMoney = pytest.mark.slow(Money.TestCase)
