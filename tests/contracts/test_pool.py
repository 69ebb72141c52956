"""RewardPool: what blocks earn, and what is burned."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.execution.spec import GenesisAccount
from noria.execution.system_contracts import REWARD_POOL
from noria.primitives.types import Address
from tests.contracts.chain import revert_reason
from tests.contracts.conftest import Start
from tests.contracts.network import PROPOSER, SMALL, Network, Reverted, address, network_spec

RATE = SMALL.pool_rate
VAULT = 10**9


def vault(network: Network) -> int:
    return int(network.ask(REWARD_POOL, "vault()", "uint256"))


def test_half_of_a_fee_is_burned_and_half_feeds_the_pool(network: Network) -> None:
    network.as_settlement(REWARD_POOL, "feed()", value=1_001)
    # The odd wei is burned.
    assert (network.burned(), network.pool()) == (501, 500)
    network.as_settlement(REWARD_POOL, "feed()", value=0)
    assert network.ask(REWARD_POOL, "fees()", "uint256") == 1_001


def test_a_proposer_gets_its_part_of_what_is_there(network: Network) -> None:
    network.as_settlement(REWARD_POOL, "feed()", value=20_000)
    pool, paid = network.pool(), network.balance(PROPOSER)
    assert pool == 10_000
    for _ in range(5):
        network.extend()
        paid += pool // RATE
        pool -= pool // RATE
        assert (network.pool(), network.balance(PROPOSER)) == (pool, paid)


def test_the_vault_never_outweighs_the_fees(start: Start) -> None:
    network = start(vault=VAULT)
    network.extend()
    assert (vault(network), network.pool(), network.balance(REWARD_POOL)) == (VAULT, 0, VAULT)
    network.grow_to_epoch(1)
    # Without fees there is no subsidy.
    assert vault(network) == VAULT
    network.as_settlement(REWARD_POOL, "feed()", value=4_003)
    network.grow_to_epoch(2)
    assert vault(network) == VAULT - 4_003 // 4
    network.grow_to_epoch(3)
    assert vault(network) == VAULT - 4_003 // 4


def test_the_vault_gives_a_16384th_at_most(start: Start) -> None:
    network = start(vault=VAULT)
    network.extend()
    network.as_settlement(REWARD_POOL, "feed()", value=10**9)
    network.grow_to_epoch(1)
    assert vault(network) == VAULT - VAULT // 2**14
    assert network.ask(REWARD_POOL, "fees()", "uint256") == 0


def test_the_vault_pays_nobody_by_itself(start: Start) -> None:
    network = start(vault=VAULT)
    for _ in range(3):
        network.extend()
    assert network.balance(PROPOSER) == 0


def test_only_settlement_feeds_and_only_consensus_pays(network: Network) -> None:
    for sender in (PROPOSER, address(0), REWARD_POOL):
        for signature, arguments, reason in (
            ("feed()", (), "only Settlement pays fees"),
            ("begin_epoch()", (), "only Consensus begins an epoch"),
            ("pay_proposer(address)", (PROPOSER,), "only Consensus pays proposers"),
        ):
            result = network.call(REWARD_POOL, signature, *arguments, sender=sender)
            assert revert_reason(result) == f"RewardPool: {reason}"
    with pytest.raises(Reverted):
        network.send_data(0, REWARD_POOL, b"", value=1)


@pytest.mark.parametrize("code", ["5f5ffd", "5b5f56", "60015f55"])
def test_a_proposer_that_refuses_gets_nothing_and_spoils_nothing(start: Start, code: str) -> None:
    spec = network_spec()
    refuser = Address(b"\x66" * 20)
    account = GenesisAccount(nonce=1, code=bytes.fromhex(code))
    network = start(dataclasses.replace(spec, alloc={**spec.alloc, refuser: account}))
    network.extend()
    network.as_settlement(REWARD_POOL, "feed()", value=20_000)
    network.fee_recipient = refuser
    before = network.pool()
    network.extend()
    assert (network.pool(), network.balance(refuser)) == (before, 0)


def test_tips_that_reach_the_pool_are_pool(network: Network) -> None:
    network.fee_recipient = REWARD_POOL
    network.as_settlement(REWARD_POOL, "feed()", value=20_000)
    # The pool is its own proposer, and refuses a plain payment.
    network.extend()
    assert network.pool() == 10_000


@given(fees=st.lists(st.integers(0, 10**9), max_size=8), amount=st.integers(0, 10**12))
@settings(max_examples=15)
def test_money_only_moves(fees: list[int], amount: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    network = Network.start(tmp_path_factory.mktemp("pool"), network_spec(vault=amount))
    try:
        network.extend()
        for fee in fees:
            network.as_settlement(REWARD_POOL, "feed()", value=fee)
            network.grow_to_epoch(network.epoch + 1)
        paid = network.balance(PROPOSER)
        assert paid + network.burned() + network.balance(REWARD_POOL) == amount + sum(fees)
        assert network.burned() == sum(fee - fee // 2 for fee in fees)
        assert vault(network) >= amount - sum(fee // 4 for fee in fees)
        assert vault(network) + network.pool() == network.balance(REWARD_POOL)
    finally:
        network.engine.close()
