"""Consensus: the prevRandao history of the last 8192 blocks, on our own engine."""

import json
from collections.abc import Iterator

import pytest
from eth_account import Account
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria._core import Engine, InvalidBlock, decode_transaction
from noria.execution.accounts import DevAccount
from noria.execution.spec import ChainSpec
from noria.execution.system_contracts import (
    CONSENSUS,
    PREV_RANDAO_HISTORY,
    SYSTEM_CALLER,
    begin_block_calldata,
)
from tests.contracts.chain import STRANGER, ConsensusChain, randao, revert_reason

FUTURE = "Consensus: block is in the future"
TOO_OLD = "Consensus: block is older than 8192 blocks"
NO_HISTORY = "Consensus: block is before the history"
NOT_SYSTEM = "Consensus: only the protocol may begin a block"
OTHER_RANDAO = "Consensus: not the prevRandao of this block"


@pytest.fixture
def chain(engine: Engine) -> ConsensusChain:
    return ConsensusChain(engine)


@pytest.fixture(scope="module")
def long_chain(tmp_path_factory: pytest.TempPathFactory, spec: ChainSpec) -> Iterator[ConsensusChain]:
    """A chain whose ring has wrapped around and been overwritten in part."""
    engine = Engine(str(tmp_path_factory.mktemp("long") / "engine"), spec.engine_json(), sync=False)
    chain = ConsensusChain(engine)
    chain.grow_to(PREV_RANDAO_HISTORY + 100)
    yield chain
    engine.close()


def test_genesis_has_no_history(chain: ConsensusChain) -> None:
    assert chain.prev_randao(1) == FUTURE
    # The genesis block itself is the current one: its header answers.
    assert chain.prev_randao(0) == chain.engine.head.prev_randao


def test_every_block_since_the_first_is_remembered(chain: ConsensusChain) -> None:
    chain.grow_to(20)
    assert [chain.prev_randao(number) for number in range(1, 21)] == [
        randao(number) for number in range(1, 21)
    ]


def test_blocks_before_the_first_call_and_after_the_head_are_refused(chain: ConsensusChain) -> None:
    chain.grow_to(3)
    assert chain.prev_randao(0) == NO_HISTORY
    for number in (4, 5, 3 + PREV_RANDAO_HISTORY, 2**64, 2**256 - 1):
        assert chain.prev_randao(number) == FUTURE


def test_a_prev_randao_of_zero_is_an_answer(chain: ConsensusChain) -> None:
    chain.extend(prev_randao=bytes(32))
    chain.extend()
    assert chain.prev_randao(1) == bytes(32)


def test_the_ring_wraps_around_at_8192(chain: ConsensusChain) -> None:
    chain.grow_to(PREV_RANDAO_HISTORY - 1)
    assert chain.prev_randao(0) == NO_HISTORY
    assert chain.prev_randao(1) == randao(1)
    chain.extend()  # 8192 takes the slot that block 0 would have had.
    assert chain.prev_randao(0) == TOO_OLD
    assert chain.prev_randao(1) == randao(1)
    chain.extend()  # 8193 overwrites block 1.
    assert chain.prev_randao(1) == TOO_OLD
    assert chain.prev_randao(2) == randao(2)
    assert chain.prev_randao(PREV_RANDAO_HISTORY) == randao(PREV_RANDAO_HISTORY)
    assert chain.prev_randao(PREV_RANDAO_HISTORY + 1) == randao(PREV_RANDAO_HISTORY + 1)


@given(number=st.integers(0, PREV_RANDAO_HISTORY + 200) | st.integers(0, 2**256 - 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_exactly_the_last_8192_blocks_are_answered(long_chain: ConsensusChain, number: int) -> None:
    head = long_chain.engine.head.number
    answer = long_chain.prev_randao(number)
    if number > head:
        assert answer == FUTURE
    elif number <= head - PREV_RANDAO_HISTORY:
        assert answer == TOO_OLD
    else:
        assert answer == long_chain.randaos[number]


def test_a_block_that_is_still_to_be_built_is_answered_from_its_header(long_chain: ConsensusChain) -> None:
    head = long_chain.engine.head
    following = head.number + 1
    request = {
        "to": "0x" + CONSENSUS.hex(),
        "data": "0xb72bf0e9" + following.to_bytes(32, "big").hex(),
    }
    overrides = {"number": hex(following), "prevRandao": "0x" + "5a" * 32}
    result = long_chain.engine.call(
        head.hash,
        json.dumps(request).encode(),
        gas_cap=1_000_000,
        block_overrides=json.dumps(overrides).encode(),
    )
    # Its slot still holds the value of the block that is 8192 older.
    assert result.output == b"\x5a" * 32


@given(caller=st.binary(min_size=20, max_size=20).filter(lambda caller: caller != SYSTEM_CALLER))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nobody_but_the_protocol_begins_a_block(engine: Engine, caller: bytes) -> None:
    chain = ConsensusChain(engine)
    result = chain.call("begin_block(bytes32)", engine.head.prev_randao, sender=caller)
    assert revert_reason(result) == NOT_SYSTEM


def test_a_transaction_cannot_write_the_history(chain: ConsensusChain, dev_keys: list[DevAccount]) -> None:
    chain.grow_to(2)
    signed = Account.sign_transaction(
        {
            "type": 2,
            "chainId": chain.engine.chain_id,
            "nonce": 0,
            "to": CONSENSUS,
            "value": 0,
            "gas": 200_000,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 10**9,
            "data": begin_block_calldata(randao(3)),
        },
        dev_keys[0].private_key,
    )
    header = chain.extend([decode_transaction(bytes(signed.raw_transaction))])
    receipt = chain.engine.receipt_json(header.hash, 0)
    assert receipt is not None
    assert json.loads(receipt)["status"] == "0x0"
    assert [chain.prev_randao(number) for number in (1, 2, 3)] == [randao(1), randao(2), randao(3)]


def test_a_block_whose_call_tells_another_prev_randao_is_invalid(chain: ConsensusChain) -> None:
    with pytest.raises(InvalidBlock) as raised:
        chain.build(told=randao(99))
    assert raised.value.args[0] == "system-call"
    assert chain.engine.head.number == 0


def test_each_block_writes_one_slot_of_the_ring(chain: ConsensusChain) -> None:
    chain.grow_to(5)
    slots = [chain.engine.storage(chain.engine.head.hash, CONSENSUS, n.to_bytes(32, "big")) for n in range(8)]
    assert slots == [bytes(32), *(randao(number) for number in range(1, 6)), bytes(32), bytes(32)]
    first_block = chain.engine.storage(
        chain.engine.head.hash, CONSENSUS, PREV_RANDAO_HISTORY.to_bytes(32, "big")
    )
    assert int.from_bytes(first_block, "big") == 1


def test_unknown_calls_and_plain_payments_are_refused(chain: ConsensusChain) -> None:
    for data in ("0x", "0x12345678"):
        request = {
            "from": "0x" + STRANGER.hex(),
            "to": "0x" + CONSENSUS.hex(),
            "data": data,
        }
        result = chain.engine.call(chain.engine.head.hash, json.dumps(request).encode(), gas_cap=1_000_000)
        assert result.status == "revert"


def test_the_history_is_part_of_each_branch(chain: ConsensusChain) -> None:
    chain.grow_to(1)
    left = chain.build(prev_randao=b"\x01" * 32)
    right = chain.build(prev_randao=b"\x02" * 32)
    chain.engine.commit(left, make_head=True)
    chain.engine.commit(right, make_head=False)
    assert chain.prev_randao(2) == b"\x01" * 32
    chain.engine.set_head(right.header.hash)
    assert chain.prev_randao(2) == b"\x02" * 32
