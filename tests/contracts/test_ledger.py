"""WorkLedger: what is credited, for how long it counts, and the floor price."""

from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.execution.consensus_state import CreditLine
from noria.execution.system_contracts import COURT, WORK_LEDGER
from noria.primitives.hashes import keccak256
from tests.contracts.chain import revert_reason
from tests.contracts.conftest import Start
from tests.contracts.network import (
    CREDIT,
    PROPOSER,
    SMALL,
    Network,
    Reverted,
    address,
    call_request,
    network_spec,
    root,
)
from tests.contracts.real_work import real_batch

FLOOR, WINDOW = SMALL.floor_min_wei, SMALL.window_epochs
FEE_PER_FUEL = FLOOR * SMALL.fee_basis_points // 10_000
"""Wei of protocol fee that back one fuel at the least floor price."""
CREDIT_TYPES = ["address", "(bytes32,uint256,uint256,uint256)[]"]
CREDIT_SELECTOR = keccak256(CREDIT.encode())[:4]


def lines(network: Network, miner: int) -> list[CreditLine]:
    return list(network.state().credits(address(miner)))


# ---------------------------------------------------------------- credit


def test_a_batch_is_credited(network: Network) -> None:
    network.grow_to_epoch(2)
    network.credit(0, root(1), weight=700)
    assert lines(network, 0) == [CreditLine(root(1), 2, 700)]


def test_batches_are_credited_together(network: Network) -> None:
    items = [
        (root(1), 100, 1_000, 100 * FEE_PER_FUEL),
        (root(2), 50, 2_000, 0),
        (root(3), 50, 3_000, 20 * FEE_PER_FUEL),
    ]
    network.credit(0, root(0), weight=7, price=0)
    receipt = network.credit_all(0, items)
    assert [line.cumulative for line in lines(network, 0)] == [7, 107, 127]
    assert [line.batch_root for line in lines(network, 0)] == [root(0), root(1), root(3)]
    # What was paid without credit says nothing about prices.
    assert network.ask(WORK_LEDGER, "sums(uint256)", "(uint256,uint256,uint256)", 9) == (0, 4_000, 127)
    assert len(receipt["logs"]) == 2


def test_credit_ends_before_its_place_in_a_word(network: Network) -> None:
    network.credit(0, root(1), weight=2**96 - 2, fee=10**40)
    with pytest.raises(Reverted, match="too much credit"):
        network.credit(0, root(2), weight=2, fee=10**40)
    network.credit(0, root(2), weight=1, fee=10**40)
    assert [line.cumulative for line in lines(network, 0)] == [2**96 - 2, 2**96 - 1]


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
    network.credit(0, root(1), weight=weight, fee=fee)
    assert lines(network, 0) == []
    assert network.ask(WORK_LEDGER, "sums(uint256)", "(uint256,uint256,uint256)", 9) == (0, 0, 0)
    # It may still be credited once there is something to credit.
    network.credit(0, root(1), weight=1_000, fee=10**9)
    assert len(lines(network, 0)) == 1


def test_only_settlement_credits_and_only_the_court_voids(network: Network) -> None:
    data = CREDIT_SELECTOR + encode(CREDIT_TYPES, [address(0), [(root(1), 10, 10**9, 10**9)]])
    for sender in (PROPOSER, address(0), WORK_LEDGER):
        request = call_request(WORK_LEDGER, data, sender)
        result = network.engine.call(network.engine.head.hash, request, gas_cap=10**9)
        assert revert_reason(result) == "WorkLedger: only Settlement credits"
        result = network.call(WORK_LEDGER, "void(address,bytes32)", address(0), root(1), sender=sender)
        assert revert_reason(result) == "WorkLedger: only the Court voids"
        result = network.call(WORK_LEDGER, "begin_epoch(uint256)", 5, sender=sender)
        assert revert_reason(result) == "WorkLedger: only Consensus begins an epoch"
    with pytest.raises(Reverted, match="only Settlement credits"):
        network.send_data(9, COURT, WORK_LEDGER.rjust(32, b"\0") + data)


def test_genesis_work_that_is_voided_keeps_its_place(start: Start) -> None:
    work = real_batch(0)
    network = start(network_spec(work=[work]))
    network.extend()
    before = lines(network, 0)
    network.as_court(WORK_LEDGER, "void(address,bytes32)", address(0), work.root)
    assert lines(network, 0) == before
    batch = network.state().batch(address(0), work.root)
    assert batch is not None
    assert (batch.void, batch.weight, batch.genesis) == (True, work.weight, True)


# ---------------------------------------------------------------- what is asked of it


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 1), st.lists(st.integers(0, 50), min_size=1, max_size=5)),
        max_size=10,
    )
)
@settings(max_examples=15)
def test_windows_and_positions_are_as_a_plain_list_says(steps: Any, tmp_path_factory: Any) -> None:
    network = Network.start(tmp_path_factory.mktemp("windows"), network_spec())
    model: dict[int, list[tuple[int, int]]] = {0: [], 1: []}
    try:
        network.extend()
        for number, (epochs, miner, weights) in enumerate(steps):
            network.grow_to_epoch(network.epoch + epochs)
            items = [(root(100 * number + i), weight, 1, 10**9) for i, weight in enumerate(weights)]
            network.credit_all(miner, items)
            model[miner] += [(network.epoch, weight) for weight in weights if weight]
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
