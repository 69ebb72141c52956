"""WorkLedger: what is credited, for how long it counts, and the floor price."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.execution.consensus_state import CreditLine
from noria.execution.system_contracts import WORK_LEDGER
from tests.contracts.chain import revert_reason
from tests.contracts.conftest import Start
from tests.contracts.network import (
    PROPOSER,
    SMALL,
    Network,
    Reverted,
    address,
    network_spec,
    root,
)
from tests.contracts.real_work import real_batch

FLOOR, WINDOW = SMALL.floor_min_wei, SMALL.window_epochs
FEE_PER_FUEL = FLOOR * SMALL.fee_basis_points // 10_000
"""Wei of protocol fee that back one fuel at the least floor price."""
CREDIT = "credit(address,uint256,uint32,uint64,uint16,bytes32,uint64,uint64,uint256,uint256)"


def lines(network: Network, miner: int) -> list[CreditLine]:
    return list(network.state().credits(address(miner)))


# ---------------------------------------------------------------- credit


def test_a_batch_is_credited_with_its_commitment(network: Network) -> None:
    network.grow_to_epoch(2)
    network.credit(
        0, root(1), weight=700, fuel=900, job=2**256 - 1, k=2**32 - 1, first_index=2**64 - 1, count=4096
    )
    assert lines(network, 0) == [CreditLine(root(1), 2, 700)]
    batch = network.state().batch(root(1))
    assert batch is not None
    assert (batch.miner, batch.job, batch.k, batch.first_index) == (
        address(0),
        2**256 - 1,
        2**32 - 1,
        2**64 - 1,
    )
    assert (batch.count, batch.fuel, batch.weight, batch.genesis, batch.void) == (
        4096,
        900,
        700,
        False,
        False,
    )
    assert network.state().batch(root(2)) is None


@pytest.mark.parametrize(
    ("weight", "fee", "credited"),
    [
        (1_000, 1_000 * FEE_PER_FUEL, 1_000),
        (1_000, 1_000 * FEE_PER_FUEL - 1, 999),
        (1_000, 10 * FEE_PER_FUEL, 10),
        (5, 1_000 * FEE_PER_FUEL, 5),
        (2**64 - 1, 10**30, 2**64 - 1),
    ],
)
def test_credit_is_no_more_than_its_fee_backs(network: Network, weight: int, fee: int, credited: int) -> None:
    network.credit(0, root(1), weight=weight, fee=fee)
    assert [line.cumulative for line in lines(network, 0)] == [credited]


@pytest.mark.parametrize(("weight", "fee"), [(1_000, FEE_PER_FUEL - 1), (0, 10**9), (1_000, 0)])
def test_zero_credit_appends_nothing(network: Network, weight: int, fee: int) -> None:
    network.credit(0, root(1), weight=weight, fuel=1_000, fee=fee)
    assert lines(network, 0) == []
    assert network.state().batch(root(1)) is None
    assert network.ask(WORK_LEDGER, "sums(uint256)", "(uint256,uint256,uint256)", 9) == (0, 0, 0)
    # It may still be credited once there is something to credit.
    network.credit(0, root(1), weight=1_000, fee=10**9)
    assert len(lines(network, 0)) == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"count": 0}, "a batch has 1 to 4096 receipts"),
        ({"count": 4097}, "a batch has 1 to 4096 receipts"),
        ({"weight": 11, "fuel": 10}, "a batch weighs no more than its fuel"),
    ],
)
def test_what_is_no_batch_is_refused(network: Network, fields: dict[str, int], reason: str) -> None:
    with pytest.raises(Reverted, match=reason):
        network.credit(0, root(1), **fields)


def test_a_batch_is_credited_once(network: Network) -> None:
    network.credit(0, root(1))
    for miner in (0, 1):
        with pytest.raises(Reverted, match="credited already"):
            network.credit(miner, root(1))


def test_only_settlement_credits_and_only_the_court_voids(network: Network) -> None:
    arguments = (address(0), 1, 0, 0, 1, root(1), 10, 10, 10**9, 10**9)
    for sender in (PROPOSER, address(0), WORK_LEDGER):
        result = network.call(WORK_LEDGER, CREDIT, *arguments, sender=sender)
        assert revert_reason(result) == "WorkLedger: only Settlement credits"
        result = network.call(WORK_LEDGER, "void(bytes32)", root(1), sender=sender)
        assert revert_reason(result) == "WorkLedger: only the Court voids"
        result = network.call(WORK_LEDGER, "begin_epoch(uint256)", 5, sender=sender)
        assert revert_reason(result) == "WorkLedger: only Consensus begins an epoch"
    with pytest.raises(Reverted, match="only Settlement credits"):
        network.as_court(WORK_LEDGER, CREDIT, *arguments)


def test_a_voided_batch_keeps_its_place(network: Network) -> None:
    network.credit(0, root(1), weight=10)
    network.credit(0, root(2), weight=20)
    before = lines(network, 0)
    network.as_court(WORK_LEDGER, "void(bytes32)", root(1))
    assert lines(network, 0) == before
    batch = network.state().batch(root(1))
    assert batch is not None
    assert (batch.void, batch.weight) == (True, 10)
    other = network.state().batch(root(2))
    assert other is not None
    assert not other.void
    with pytest.raises(Reverted, match="no such batch"):
        network.as_court(WORK_LEDGER, "void(bytes32)", root(3))
    with pytest.raises(Reverted, match="credited already"):
        network.credit(0, root(1))


# ---------------------------------------------------------------- what is asked of it


@given(steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(1, 50)), max_size=14))
@settings(max_examples=15)
def test_windows_and_positions_are_as_a_plain_list_says(steps: Any, tmp_path_factory: Any) -> None:
    network = Network.start(tmp_path_factory.mktemp("windows"), network_spec())
    model: dict[int, list[tuple[int, int]]] = {0: [], 1: []}
    try:
        network.extend()
        for number, (epochs, miner, weight) in enumerate(steps):
            network.grow_to_epoch(network.epoch + epochs)
            network.credit(miner, root(number), weight=weight)
            model[miner].append((network.epoch, weight))
        state = network.state()

        def until(miner: int, epoch: int) -> int:
            return sum(weight for at, weight in model[miner] if at <= epoch)

        for first in range(network.epoch + 2):
            for last in range(first, network.epoch + 2):
                found = state.credit_windows([address(0), address(1)], first, last)
                assert found == [(until(miner, first - 1), until(miner, last)) for miner in (0, 1)]
        assert state.credits_until([address(0), address(1)], [1, 2]) == [until(0, 1), until(1, 2)]
        for miner in (0, 1):
            ledger, position = state.credits(address(miner)), 0
            assert len(ledger) == len(model[miner])
            for line, (epoch, weight) in enumerate(model[miner]):
                assert (ledger[line].epoch, ledger[line].cumulative) == (epoch, position + weight)
                for at in (position, position + weight - 1):
                    located = state.locate(address(miner), at)
                    assert located is not None
                    assert (located.line, located.before, located.cumulative) == (
                        line,
                        position,
                        position + weight,
                    )
                    assert (located.epoch, located.batch_root) == (epoch, ledger[line].batch_root)
                position += weight
            assert state.locate(address(miner), position) is None
    finally:
        network.engine.close()


def test_a_ledger_is_a_sequence_of_pages(network: Network) -> None:
    for number in range(5):
        network.credit(0, root(number), weight=10)
    ledger = network.state().credits(address(0))
    assert [line.cumulative for line in ledger[1:3]] == [20, 30]
    assert ledger[-1].cumulative == 50
    with pytest.raises(IndexError):
        ledger[5]
    answer = network.call(WORK_LEDGER, "entries(address,uint256,uint256)", address(0), 3, 256)
    assert len(answer.output) == 64 + 2 * 96


# ---------------------------------------------------------------- floor price


def floor_price(network: Network) -> int:
    return network.state().floor_price_wei


def test_the_floor_rises_by_an_eighth_towards_half_the_mean_price(network: Network) -> None:
    assert floor_price(network) == FLOOR
    network.grow_to_epoch(1)
    network.credit(0, root(1), weight=1_000, price=1_000 * 2_300)
    network.grow_to_epoch(2)
    # Only what was credited two epochs ago and before is in the window.
    assert floor_price(network) == FLOOR
    network.grow_to_epoch(3)
    assert floor_price(network) == FLOOR + FLOOR // 8
    network.grow_to_epoch(4)
    # Half of the mean price.
    assert floor_price(network) == 1_150
    network.grow_to_epoch(5)
    assert floor_price(network) == 1_150


def test_the_floor_falls_by_an_eighth_and_never_below_the_least(network: Network) -> None:
    network.grow_to_epoch(1)
    network.credit(0, root(1), weight=1_000, price=10**9)
    network.grow_to_epoch(2 + WINDOW)
    top = floor_price(network)
    assert top > FLOOR * 3 // 2
    # The batch has left the window.
    network.grow_to_epoch(3 + WINDOW)
    assert floor_price(network) == top - top // 8
    network.grow_to_epoch(30)
    assert floor_price(network) == FLOOR


def test_a_higher_floor_backs_less(network: Network) -> None:
    network.grow_to_epoch(1)
    network.credit(0, root(1), weight=1_000, price=10**9)
    network.grow_to_epoch(4)
    floor = floor_price(network)
    assert floor > FLOOR
    network.credit(0, root(2), weight=10**9, fee=10**6)
    assert lines(network, 0)[-1].cumulative - 1_000 == 10**6 * 10_000 // (500 * floor)


def test_epochs_without_blocks_are_one_step(network: Network) -> None:
    network.grow_to_epoch(1)
    network.credit(0, root(1), weight=1_000, price=10**9)
    network.extend(slot=4 * SMALL.epoch_slots)
    assert floor_price(network) == FLOOR + FLOOR // 8


@given(
    steps=st.lists(
        st.tuples(
            st.integers(1, 4), st.lists(st.tuples(st.integers(1, 99), st.integers(0, 10**6)), max_size=2)
        ),
        max_size=12,
    )
)
@settings(max_examples=15)
def test_the_floor_is_as_the_formula_says(steps: Any, tmp_path_factory: Any) -> None:
    network = Network.start(tmp_path_factory.mktemp("floor"), network_spec())
    batches: list[tuple[int, int, int]] = []
    floor = FLOOR
    try:
        network.extend()
        for epochs, credited in steps:
            network.extend(slot=(network.epoch + epochs) * SMALL.epoch_slots)
            epoch = network.epoch
            last = max(epoch - 2, 0)
            inside = [(p, c) for at, p, c in batches if max(last + 1 - WINDOW, 0) <= at <= last]
            credit = sum(c for _, c in inside)
            goal = sum(p for p, _ in inside) // (2 * credit) if credit else 0
            floor = max(FLOOR, min(max(goal, floor - floor // 8), floor + floor // 8))
            assert floor_price(network) == floor
            for weight, price in credited:
                network.credit(0, root(len(batches)), weight=weight, price=price)
                batches.append((network.epoch, price, weight))
    finally:
        network.engine.close()


def test_genesis_work_says_nothing_about_prices(start: Start) -> None:
    network = start(network_spec(work=[real_batch(0)]))
    network.extend()
    assert network.ask(WORK_LEDGER, "sums(uint256)", "(uint256,uint256,uint256)", 9) == (0, 0, 0)
    network.credit(0, root(1), weight=10, price=10 * 3_000)
    network.grow_to_epoch(1)
    # With the genesis work in the mean, the goal would lie below the floor.
    assert floor_price(network) == FLOOR + FLOOR // 8
