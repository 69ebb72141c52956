"""MinerRegistry: who may mine, with what bond, and what becomes of it."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.execution.block_start import Ballot
from noria.execution.spec import GenesisAccount
from noria.execution.system_contracts import MINER_REGISTRY
from noria.primitives.hashes import keccak256
from noria.primitives.types import Address
from tests.contracts.chain import revert_reason
from tests.contracts.conftest import Start
from tests.contracts.network import (
    PASS_ON,
    PROPOSER,
    SMALL,
    Network,
    Reverted,
    accounts,
    address,
    base_spec,
    bls_key,
    calldata,
    genesis_miner,
    network_spec,
    possession,
)

UNBONDING = SMALL.unbonding_epochs
UPDATE = "update(bytes,uint256,uint256)"
REGISTER = "register(bytes,bytes,bytes,uint256,uint256)"
PENALISE = "penalise(address,uint256,address,uint256,address)"
WRONGED = Address(b"\x55" * 20)
DRAWN = "(address,uint256,bool)"


def capacity_of_all(network: Network) -> int:
    return int(network.ask(MINER_REGISTRY, "total_capacity()", "uint256"))


# ---------------------------------------------------------------- registration


def test_a_newcomer_is_registered_with_what_it_sends(network: Network) -> None:
    network.grow_to_epoch(2)
    network.register(5, bond=1_500, capacity=150, ask_price=9, peer_id=b"p" * 64)
    record = network.miner(5)
    key = bls_key(5).public_key
    assert record["bls_head"] + record["bls_tail"] == key
    assert (record["place"], record["bond"], record["unbonding"]) == (5, 1_500, 0)
    assert (record["capacity"], record["ask_price"], record["peer_id"]) == (150, 9, b"p" * 64)
    assert (record["life_epoch"], record["changed"], record["slashed"]) == (2, 3, 0)
    assert (
        network.ask(MINER_REGISTRY, "key_owner(bytes32)", "address", keccak256(key))
        == "0x" + address(5).hex()
    )
    state = network.state().miners[address(5)]
    assert (state.index, state.bls_key, state.bond_wei, state.life_epoch) == (4, key, 1_500, 2)
    assert network.balance(MINER_REGISTRY) == 4 * 1_000 + 1_500
    assert capacity_of_all(network) == 4 * 100 + 150


@pytest.mark.parametrize(
    ("sender", "change", "reason"),
    [
        (0, {}, "registered already"),
        (5, {"bond": 999}, "the bond is below the least one"),
        (5, {"bond": 0}, "the bond is below the least one"),
        (5, {"key": 0}, "the BLS key is somebody else's"),
        (5, {"capacity": 101}, "the bond does not cover the capacity"),
        (5, {"peer_id": b""}, "no peer id"),
        (5, {"proof": bytes(96)}, "proof of possession is wrong"),
        (5, {"proof": bytes(95)}, "a proof of possession has 96 bytes"),
        (5, {"root": bytes(32)}, "proof of possession is wrong"),
    ],
)
def test_who_cannot_be_a_miner_is_told_why(
    network: Network, sender: int, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Reverted, match=reason):
        network.register(sender, **change)
    assert network.balance(MINER_REGISTRY) == 4_000
    assert network.ask(MINER_REGISTRY, "count()", "uint256") == 4


def test_a_proof_is_good_for_one_address_and_one_key(network: Network) -> None:
    root = network.genesis_root()
    for proof in (possession(root, address(6), 5), possession(root, address(5), 6)):
        with pytest.raises(Reverted, match="proof of possession is wrong"):
            network.register(5, proof=proof)


def test_a_key_that_is_no_point_is_refused(network: Network) -> None:
    for key in (bytes(48), b"\xc0" + bytes(47), b"\xff" * 48):
        proof = possession(network.genesis_root(), address(5), 5)
        with pytest.raises(Reverted, match="proof of possession is wrong"):
            network.send(5, MINER_REGISTRY, REGISTER, key, proof, b"p", 0, 0, value=1_000)
    with pytest.raises(Reverted, match="a BLS key has 48 bytes"):
        network.send(5, MINER_REGISTRY, REGISTER, bytes(47), bytes(96), b"p", 0, 0, value=1_000)


def test_there_are_no_more_miners_than_there_may_be(start: Start) -> None:
    network = start(network_spec(3, parameters=dataclasses.replace(SMALL, miners_max=4)))
    network.extend()
    network.register(5)
    with pytest.raises(Reverted, match="as many miners as there may be"):
        network.register(6)
    # A place that becomes free is given again.
    network.send(5, MINER_REGISTRY, "unbond(uint256)", 1_000)
    network.grow_to_epoch(UNBONDING)
    network.send(6, MINER_REGISTRY, "withdraw(address)", address(5))
    network.register(6)
    assert network.miner(6)["place"] == 4
    assert list(network.state().miners) == [address(number) for number in (0, 1, 2, 6)]


# ---------------------------------------------------------------- terms


def test_terms_change_at_once_but_once_per_epoch(network: Network) -> None:
    network.register(5)
    with pytest.raises(Reverted, match="one change per epoch"):
        network.send(5, MINER_REGISTRY, UPDATE, b"new", 50, 8)
    network.grow_to_epoch(1)
    network.send(5, MINER_REGISTRY, UPDATE, b"new", 0, 8)
    network.send(0, MINER_REGISTRY, UPDATE, b"new", 50, 8)
    record = network.miner(0)
    assert (record["peer_id"], record["capacity"], record["ask_price"]) == (b"new", 50, 8)
    assert capacity_of_all(network) == 350
    with pytest.raises(Reverted, match="one change per epoch"):
        network.send(0, MINER_REGISTRY, UPDATE, b"new", 40, 8)
    network.send(1, MINER_REGISTRY, UPDATE, b"other", 40, 8)
    network.grow_to_epoch(2)
    network.send(0, MINER_REGISTRY, UPDATE, b"new", 40, 8)


def test_terms_must_be_covered_and_come_from_a_miner(network: Network) -> None:
    network.grow_to_epoch(1)
    with pytest.raises(Reverted, match="does not cover the capacity"):
        network.send(0, MINER_REGISTRY, UPDATE, b"new", 101, 8)
    with pytest.raises(Reverted, match="no peer id"):
        network.send(0, MINER_REGISTRY, UPDATE, b"", 100, 8)
    for call, arguments in (
        (UPDATE, (b"p", 0, 0)),
        ("wake()", ()),
        ("add_bond()", ()),
        ("unbond(uint256)", (1,)),
    ):
        with pytest.raises(Reverted, match="not registered"):
            network.send(7, MINER_REGISTRY, call, *arguments)


def test_more_bond_covers_more(network: Network) -> None:
    network.grow_to_epoch(1)
    network.send(0, MINER_REGISTRY, "add_bond()", value=500)
    network.send(0, MINER_REGISTRY, UPDATE, b"new", 150, 8)
    assert network.miner(0)["bond"] == 1_500
    assert capacity_of_all(network) == 450
    with pytest.raises(Reverted, match="nothing to add"):
        network.send(0, MINER_REGISTRY, "add_bond()")


# ---------------------------------------------------------------- leaving


def test_a_bond_leaves_after_the_window_and_not_before(network: Network) -> None:
    network.send(0, MINER_REGISTRY, "add_bond()", value=500)
    network.send(0, MINER_REGISTRY, "unbond(uint256)", 500)
    record = network.miner(0)
    assert (record["bond"], record["unbonding"], record["free_epoch"]) == (1_000, 500, UNBONDING)
    network.grow_to_epoch(UNBONDING - 1)
    with pytest.raises(Reverted, match="still bound"):
        network.send(0, MINER_REGISTRY, "withdraw(address)", address(0))
    network.grow_to_epoch(UNBONDING)
    before = network.balance(address(0))
    network.send(5, MINER_REGISTRY, "withdraw(address)", address(0))
    assert network.balance(address(0)) == before + 500
    assert network.miner(0)["place"] == 1
    with pytest.raises(Reverted, match="still bound"):
        network.send(0, MINER_REGISTRY, "withdraw(address)", address(0))
    assert network.balance(MINER_REGISTRY) == 4_000


def test_asking_again_makes_all_of_it_wait_anew(network: Network) -> None:
    network.send(0, MINER_REGISTRY, "add_bond()", value=500)
    network.send(0, MINER_REGISTRY, "unbond(uint256)", 400)
    network.grow_to_epoch(3)
    network.send(0, MINER_REGISTRY, "unbond(uint256)", 100)
    record = network.miner(0)
    assert (record["unbonding"], record["free_epoch"]) == (500, 3 + UNBONDING)


@pytest.mark.parametrize("amount", [0, 1_001, 1, 999])
def test_what_stays_is_nothing_or_a_whole_bond(network: Network, amount: int) -> None:
    with pytest.raises(Reverted, match=r"not an amount that|what stays is below"):
        network.send(0, MINER_REGISTRY, "unbond(uint256)", amount)


def test_capacity_shrinks_with_the_bond(network: Network) -> None:
    network.grow_to_epoch(1)
    network.send(0, MINER_REGISTRY, "add_bond()", value=1_000)
    network.send(0, MINER_REGISTRY, UPDATE, b"new", 180, 8)
    network.send(0, MINER_REGISTRY, "unbond(uint256)", 700)
    assert network.miner(0)["capacity"] == 130
    assert capacity_of_all(network) == 430
    network.send(0, MINER_REGISTRY, "unbond(uint256)", 1_300)
    assert network.miner(0)["capacity"] == 0
    assert capacity_of_all(network) == 300


def test_who_has_left_may_come_back_with_the_same_key_only(network: Network) -> None:
    network.send(0, MINER_REGISTRY, "unbond(uint256)", 1_000)
    network.grow_to_epoch(UNBONDING)
    network.send(0, MINER_REGISTRY, "withdraw(address)", address(0))
    assert network.miner(0)["place"] == 0
    assert address(0) not in network.state().miners
    with pytest.raises(Reverted, match="not registered"):
        network.send(0, MINER_REGISTRY, "withdraw(address)", address(0))
    with pytest.raises(Reverted, match="the BLS key is somebody else's"):
        network.register(5, key=0)
    with pytest.raises(Reverted, match="a miner keeps its BLS key"):
        network.register(0, key=8)
    network.register(0, bond=1_200, capacity=120)
    record = network.miner(0)
    assert (record["place"], record["bond"], record["free_epoch"], record["capacity"]) == (1, 1_200, 0, 120)


# ---------------------------------------------------------------- slashing


def test_a_full_slash_takes_everything_and_jails(network: Network) -> None:
    network.grow_to_epoch(1)
    network.send(0, MINER_REGISTRY, "add_bond()", value=1_001)
    network.send(0, MINER_REGISTRY, "unbond(uint256)", 500)
    before = network.balance(PROPOSER)
    network.extend(guilty=[address(0)])
    record = network.miner(0)
    assert (record["bond"], record["unbonding"], record["capacity"]) == (0, 0, 0)
    assert record["jailed_until"] == 1 + SMALL.jail_epochs
    assert record["slashed"] == 2
    assert network.state().miners[address(0)].slashed_epoch == 1
    # Half is burned, with the odd wei.
    assert network.burned() == 1_001
    assert network.balance(PROPOSER) == before + 1_000
    assert network.balance(MINER_REGISTRY) == 3_000
    assert capacity_of_all(network) == 300


def test_a_slashed_miner_keeps_its_place_until_nobody_counts_by_it(network: Network) -> None:
    network.extend(guilty=[address(0)])
    network.grow_to_epoch(UNBONDING - 1)
    with pytest.raises(Reverted, match="still bound"):
        network.send(5, MINER_REGISTRY, "withdraw(address)", address(0))
    network.grow_to_epoch(UNBONDING)
    network.send(5, MINER_REGISTRY, "withdraw(address)", address(0))
    assert network.miner(0)["place"] == 0
    # Leaving and coming back wipes out neither punishment nor jail.
    network.register(0)
    assert (network.miner(0)["slashed"], network.miner(0)["jailed_until"]) == (1, SMALL.jail_epochs)


def test_a_slashed_miner_may_bond_again_and_stay(network: Network) -> None:
    network.extend(guilty=[address(0)])
    network.send(0, MINER_REGISTRY, "add_bond()", value=1_000)
    network.grow_to_epoch(UNBONDING)
    network.send(5, MINER_REGISTRY, "withdraw(address)", address(0))
    record = network.miner(0)
    assert (record["place"], record["bond"], record["free_epoch"]) == (1, 1_000, 0)


def test_a_jailed_miner_is_drawn_but_not_eligible(network: Network) -> None:
    network.extend(guilty=[address(0)])
    network.send(0, MINER_REGISTRY, "add_bond()", value=1_000)
    network.send(0, MINER_REGISTRY, UPDATE, b"p", 100, 3)
    network.grow_to_epoch(1)
    seed = (0).to_bytes(32, "big")
    assert network.ask(MINER_REGISTRY, "draw(bytes32)", DRAWN, seed) == ("0x" + address(0).hex(), 3, False)
    network.grow_to_epoch(SMALL.jail_epochs)
    assert network.ask(MINER_REGISTRY, "draw(bytes32)", DRAWN, seed) == ("0x" + address(0).hex(), 3, True)


@pytest.mark.parametrize(
    ("penalty", "loss", "taken", "burned", "whole", "rest"),
    [
        (100, 30, 100, 50, 30, 20),
        (101, 0, 101, 51, 0, 50),
        (100, 80, 100, 50, 50, 0),
        (1, 5, 1, 1, 0, 0),
        (0, 5, 0, 0, 0, 0),
        (9_999, 10, 1_500, 750, 10, 740),
    ],
)
def test_a_penalty_is_split(
    network: Network, penalty: int, loss: int, taken: int, burned: int, whole: int, rest: int
) -> None:
    network.send(0, MINER_REGISTRY, "add_bond()", value=500)
    network.send(0, MINER_REGISTRY, "unbond(uint256)", 500)
    network.as_court(MINER_REGISTRY, PENALISE, address(0), penalty, WRONGED, loss, PROPOSER)
    record = network.miner(0)
    assert record["bond"] + record["unbonding"] == 1_500 - taken
    # What counts goes first.
    assert record["bond"] == max(1_000 - taken, 0)
    assert record["slashed"] == record["jailed_until"] == 0
    assert (network.burned(), network.balance(WRONGED), network.balance(PROPOSER)) == (burned, whole, rest)
    assert network.balance(MINER_REGISTRY) == 3_000 + 1_500 - taken
    assert record["capacity"] == (100 if record["bond"] >= 1_000 else 0)


def test_a_penalty_that_takes_all_frees_the_place_one_day(network: Network) -> None:
    network.as_court(MINER_REGISTRY, PENALISE, address(0), 5_000, WRONGED, 0, PROPOSER)
    assert network.miner(0)["free_epoch"] == UNBONDING
    network.grow_to_epoch(UNBONDING)
    network.send(5, MINER_REGISTRY, "withdraw(address)", address(0))
    assert network.ask(MINER_REGISTRY, "count()", "uint256") == 3


def test_a_place_is_not_free_before_its_weight_is_forgotten(network: Network) -> None:
    network.send(0, MINER_REGISTRY, "add_bond()", value=500)
    network.send(0, MINER_REGISTRY, "unbond(uint256)", 500)
    network.grow_to_epoch(UNBONDING - 1)
    network.as_court(MINER_REGISTRY, PENALISE, address(0), 1_000, WRONGED, 0, PROPOSER)
    network.grow_to_epoch(UNBONDING)
    with pytest.raises(Reverted, match="still bound"):
        network.send(5, MINER_REGISTRY, "withdraw(address)", address(0))
    # What is leaving already does not wait longer for a penalty.
    free = network.miner(0)["free_epoch"]
    network.as_court(MINER_REGISTRY, PENALISE, address(0), 100, WRONGED, 0, PROPOSER)
    assert network.miner(0)["free_epoch"] == free == 2 * UNBONDING - 1


def test_nothing_is_withdrawn_while_a_case_is_open(network: Network) -> None:
    network.send(0, MINER_REGISTRY, "unbond(uint256)", 1_000)
    network.as_court(MINER_REGISTRY, "hold(address)", address(0))
    network.as_court(MINER_REGISTRY, "hold(address)", address(0))
    network.grow_to_epoch(UNBONDING)
    for _ in range(2):
        with pytest.raises(Reverted, match="a case is open"):
            network.send(0, MINER_REGISTRY, "withdraw(address)", address(0))
        network.as_court(MINER_REGISTRY, "unhold(address)", address(0))
    network.send(0, MINER_REGISTRY, "withdraw(address)", address(0))


@pytest.mark.parametrize("refuses", [b"\x5f\x5f\xfd", b"\x5b\x5f\x56"])
def test_who_cannot_be_paid_is_owed(start: Start, refuses: bytes) -> None:
    spec = network_spec()
    prover = Address(b"\x66" * 20)
    account = GenesisAccount(nonce=1, code=refuses)
    network = start(dataclasses.replace(spec, alloc={**spec.alloc, prover: account}))
    network.fee_recipient = prover
    network.extend(guilty=[address(0)])
    assert network.balance(prover) == 0
    assert network.ask(MINER_REGISTRY, "owed(address)", "uint256", prover) == 500
    assert network.balance(MINER_REGISTRY) == 3_500


def test_what_is_owed_can_be_claimed_with_more_gas(start: Start) -> None:
    # A contract that writes to its storage when it is paid, which takes more than the stipend; it passes on
    # calls.
    code = bytes.fromhex("366009576001" + "5f55005b") + PASS_ON.replace(b"\x60\x1c\x57", b"\x60\x26\x57")
    spec = network_spec()
    account = GenesisAccount(nonce=1, code=code)
    network = start(dataclasses.replace(spec, alloc={**spec.alloc, WRONGED: account}))
    network.extend()
    network.as_court(MINER_REGISTRY, PENALISE, address(0), 400, WRONGED, 150, PROPOSER)
    assert network.balance(WRONGED) == 0
    assert network.ask(MINER_REGISTRY, "owed(address)", "uint256", WRONGED) == 150
    claim = MINER_REGISTRY.rjust(32, b"\0") + calldata("claim()")
    network.send_data(5, WRONGED, claim)
    assert network.ask(MINER_REGISTRY, "owed(address)", "uint256", WRONGED) == 0
    assert network.balance(WRONGED) == 150
    assert network.balance(MINER_REGISTRY) == 3_600
    with pytest.raises(Reverted, match="nothing is owed"):
        network.send_data(5, WRONGED, claim)


@pytest.mark.parametrize(
    ("signature", "arguments", "reason"),
    [
        ("slash(address,address)", (PROPOSER, PROPOSER), "only Consensus slashes"),
        (PENALISE, (PROPOSER, 1, PROPOSER, 1, PROPOSER), "only the Court penalises"),
        ("hold(address)", (PROPOSER,), "only the Court holds bonds"),
        ("unhold(address)", (PROPOSER,), "only the Court holds bonds"),
    ],
)
def test_only_the_protocols_contracts_punish(
    network: Network, signature: str, arguments: tuple[Any, ...], reason: str
) -> None:
    for sender in (PROPOSER, address(0), MINER_REGISTRY):
        result = network.call(MINER_REGISTRY, signature, *arguments, sender=sender)
        assert revert_reason(result) == f"MinerRegistry: {reason}"


def test_consensus_does_not_penalise_nor_the_court_slash(network: Network) -> None:
    with pytest.raises(Reverted):
        network.as_court(MINER_REGISTRY, "slash(address,address)", address(0), PROPOSER)
    assert network.miner(0)["bond"] == 1_000


# ---------------------------------------------------------------- draws


@given(
    capacities=st.lists(st.integers(0, 100), min_size=1, max_size=8).filter(any),
    seeds=st.lists(st.integers(0, 2**256 - 1), min_size=1, max_size=20),
)
@settings(max_examples=15)
def test_a_draw_finds_the_miner_that_a_sum_over_all_finds(
    capacities: list[int], seeds: list[int], tmp_path_factory: Any
) -> None:
    miners = tuple(genesis_miner(i, capacity=capacity) for i, capacity in enumerate(capacities))
    spec = dataclasses.replace(base_spec(), miners=miners)
    network = Network.start(tmp_path_factory.mktemp("draw"), spec)
    try:
        total = sum(capacities)
        assert capacity_of_all(network) == total
        for index in range(len(capacities) + 1):
            before = network.ask(MINER_REGISTRY, "capacity_before(uint256)", "uint256", index)
            assert before == sum(capacities[:index])
        # Every boundary between two miners, and seeds from anywhere.
        edges = [sum(capacities[:i]) + d for i in range(len(capacities)) for d in (-1, 0)]
        for seed in [*seeds, *(edge for edge in edges if edge >= 0), total - 1, total]:
            target, expected = seed % total, 0
            while target >= capacities[expected]:
                target -= capacities[expected]
                expected += 1
            drawn = network.ask(
                MINER_REGISTRY, "draw(bytes32)", "(address,uint256,bool)", seed.to_bytes(32, "big")
            )
            assert drawn == ("0x" + accounts()[expected].address.hex(), 7, True)
    finally:
        network.engine.close()


def draws(network: Network, seeds: Sequence[int]) -> list[tuple[str, int, bool]]:
    return [network.ask(MINER_REGISTRY, "draw(bytes32)", DRAWN, seed.to_bytes(32, "big")) for seed in seeds]


def test_nobody_who_knows_a_seed_can_change_whom_it_names(network: Network) -> None:
    """Within an epoch: neither with capacity, nor by coming or leaving, and a higher price takes no part."""
    network.grow_to_epoch(1)
    seeds = [*range(0, 400, 7), 2**256 - 1]
    before = draws(network, seeds)
    assert {name for name, _, _ in before} == {"0x" + address(number).hex() for number in range(4)}
    network.send(0, MINER_REGISTRY, UPDATE, b"p", 1, 3)
    network.register(5, capacity=90)
    network.send(1, MINER_REGISTRY, "unbond(uint256)", 1_000)
    assert capacity_of_all(network) == 1 + 0 + 100 + 100 + 90
    changed, left = "0x" + address(0).hex(), "0x" + address(1).hex()
    after = draws(network, seeds)
    assert [name for name, _, _ in after] == [name for name, _, _ in before]
    assert all(eligible == (name not in (changed, left)) for name, _, eligible in after)
    # From the next epoch on all of it counts.
    network.grow_to_epoch(2)
    total, capacities = 291, {0: 1, 2: 100, 3: 100, 5: 90}
    found = Counter(name for name, _, eligible in draws(network, range(total)) if eligible)
    assert found == {"0x" + address(number).hex(): capacity for number, capacity in capacities.items()}
    network.grow_to_epoch(4)
    assert Counter(name for name, _, _ in draws(network, range(total))) == found


CHANGES = st.dictionaries(st.integers(0, 4), st.integers(0, 100), max_size=5)
"""New capacities of an epoch, by miner."""


@given(epochs=st.lists(CHANGES, min_size=1, max_size=4))
@settings(max_examples=8)
def test_draws_go_by_the_capacities_with_which_the_epoch_began(
    epochs: list[dict[int, int]], tmp_path_factory: Any
) -> None:
    spec = dataclasses.replace(base_spec(), miners=tuple(map(genesis_miner, range(5))))
    network = Network.start(tmp_path_factory.mktemp("draw"), spec)
    try:
        network.extend()
        capacities = dict.fromkeys(range(5), 100)
        for epoch, changes in enumerate(epochs):
            if epoch:
                network.grow_to_epoch(epoch)
            entered = dict(capacities)
            expected = {"0x" + address(number).hex(): share for number, share in entered.items() if share}
            for number, capacity in changes.items():
                network.send(number, MINER_REGISTRY, UPDATE, b"p", capacity, 3)
                capacities[number] = capacity
                found = Counter(name for name, _, _ in draws(network, range(sum(entered.values()))))
                assert found == expected
            assert capacity_of_all(network) == sum(capacities.values())
    finally:
        network.engine.close()


def test_without_capacity_there_is_no_draw(start: Start) -> None:
    network = start(miners=0)
    network.extend()
    with pytest.raises(Reverted, match="no capacity to draw from"):
        network.ask(MINER_REGISTRY, "draw(bytes32)", "(address,uint256,bool)", bytes(32))


def test_honest_voting_costs_nothing(network: Network) -> None:
    for epoch in range(1, 6):
        network.grow_to_epoch(epoch)
        network.extend(votes=[Ballot(epoch, 0b1111, True)])
    assert network.balance(MINER_REGISTRY) == 4_000
    assert network.burned() == 0
    assert all(network.miner(number)["bond"] == 1_000 for number in range(4))
