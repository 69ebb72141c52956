"""On a development chain nothing is drawn, but the contracts are there and the clock turns their epochs."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account

from noria._core import BlockAttributes, Engine, decode_transaction
from noria.execution.consensus_state import ConsensusState
from noria.execution.parameters import DEVNET
from noria.execution.spec import dev_spec
from noria.execution.system_contracts import CONSENSUS, MINER_REGISTRY, REWARD_POOL, block_start_calls
from noria.primitives.types import NOR, Wei
from tests.contracts.chain import PROPOSER
from tests.contracts.network import GENESIS_SECONDS, accounts, address, bls_key, calldata, possession

EPOCH_SECONDS = DEVNET.epoch_slots * DEVNET.slot_seconds


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    spec = dev_spec([account.address for account in accounts()], GENESIS_SECONDS)
    spec = dataclasses.replace(spec, reward_vault=Wei(10**18))
    engine = Engine(str(tmp_path / "engine"), spec.engine_json(), sync=False)
    yield engine
    engine.close()


def extend(engine: Engine, seconds: int = 1, data: bytes | None = None, value: int = 0) -> None:
    """Make a block of a development chain; ``data`` is sent to MinerRegistry."""
    head, account = engine.head, accounts()[0]
    transactions = []
    if data is not None:
        signed = Account.sign_transaction(
            {
                "type": 2,
                "chainId": engine.chain_id,
                "nonce": engine.account(head.hash, account.address).nonce,
                "to": MINER_REGISTRY,
                "value": value,
                "gas": 2_000_000,
                "maxFeePerGas": 10**10,
                "maxPriorityFeePerGas": 0,
                "data": data,
            },
            account.private_key,
        )
        transactions.append(decode_transaction(bytes(signed.raw_transaction)))
    randao = bytes(31) + bytes([head.number % 256])
    attributes = BlockAttributes(
        timestamp=head.timestamp + seconds,
        fee_recipient=PROPOSER,
        prev_randao=randao,
        parent_beacon_block_root=head.hash,
        gas_limit=head.gas_limit,
        system_calls=block_start_calls(randao),
    )
    block = engine.build(head.hash, attributes, transactions)
    engine.commit(block, make_head=True)
    for index in range(len(transactions)):
        assert json.loads(engine.receipt_json(block.header.hash, index) or b"{}")["status"] == "0x1"


def state(engine: Engine) -> ConsensusState:
    return ConsensusState(engine, engine.head.hash, DEVNET.leak_epochs)


def test_epochs_turn_by_the_clock(engine: Engine) -> None:
    extend(engine)
    assert state(engine).randomness.epoch == 0
    extend(engine, EPOCH_SECONDS)
    assert state(engine).randomness.epoch == 1
    # A long silence is one step.
    extend(engine, 100 * EPOCH_SECONDS)
    assert state(engine).randomness.epoch == 101
    assert state(engine).open_tallies == ()


def test_a_miner_can_register(engine: Engine) -> None:
    genesis = engine.head.hash
    extend(engine)
    assert state(engine).genesis_root == genesis
    data = calldata(
        "register(bytes,bytes,bytes,uint256,uint256)",
        bls_key(0).public_key,
        possession(genesis, address(0), 0),
        b"peer",
        10**9,
        1,
    )
    extend(engine, 2 * EPOCH_SECONDS, data, value=5_000 * NOR)
    miner = state(engine).miners[address(0)]
    assert (miner.bond_wei, miner.life_epoch) == (5_000 * NOR, 2)
    extend(engine, 1, calldata("unbond(uint256)", 5_000 * NOR))
    extend(engine, DEVNET.unbonding_epochs * EPOCH_SECONDS, calldata("withdraw(address)", address(0)))
    assert dict(state(engine).miners) == {}
    assert engine.account(engine.head.hash, MINER_REGISTRY).balance == 0


def test_without_fees_nothing_is_paid(engine: Engine) -> None:
    for _ in range(3):
        extend(engine, EPOCH_SECONDS)
    assert engine.account(engine.head.hash, REWARD_POOL).balance == 10**18
    assert engine.account(engine.head.hash, PROPOSER).balance == 0
    assert engine.account(engine.head.hash, CONSENSUS).balance == 0
