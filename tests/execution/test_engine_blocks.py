"""Building, checking and storing blocks; every rule of a header has a test that breaks it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria._core import (
    Engine,
    InvalidBlock,
    StoreForeign,
    StoreLocked,
    UnknownBlock,
    keccak256,
    rlp_decode,
    rlp_encode,
)
from noria.execution.accounts import DevAccount
from noria.execution.spec import ChainSpec
from tests.execution.blocks import FEE_RECIPIENT, GWEI, attributes, extend, sign, system_calls

FIELDS = [
    "parent_hash", "ommers", "fee_recipient", "state_root", "transactions_root", "receipts_root", "bloom",
    "difficulty", "number", "gas_limit", "gas_used", "timestamp", "extra_data", "prev_randao", "nonce",
    "base_fee", "withdrawals", "blob_gas_used", "excess_blob_gas", "beacon_root", "requests",
]  # fmt: skip


def change(rlp: bytes, **fields: bytes) -> bytes:
    """The block with other header fields."""
    block = rlp_decode(rlp)
    for name, value in fields.items():
        block[0][FIELDS.index(name)] = value
    return rlp_encode(block)


def number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


@pytest.fixture
def candidate(engine: Engine, dev_keys: list[DevAccount]) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """RLP and system calls of a valid block with one transfer on top of genesis, which is not stored."""
    parent = engine.head
    built = engine.build(
        parent.hash, attributes(parent), [sign(dev_keys[0], 0, to="0x" + "11" * 20, value=5)]
    )
    return built.rlp(), system_calls(built.header.prev_randao)


def test_a_built_block_executes_to_the_same_header(
    engine: Engine, candidate: tuple[bytes, list[tuple[bytes, bytes]]]
) -> None:
    rlp, calls = candidate
    executed = engine.execute(rlp, calls)
    assert executed.rlp() == rlp
    assert keccak256(rlp_encode(rlp_decode(rlp)[0])) == executed.header.hash
    engine.commit(executed, make_head=True)
    assert engine.head.hash == executed.header.hash
    assert engine.account(engine.head.hash, bytes.fromhex("11" * 20)).balance == 5


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"number": number(2)}, "number"),
        ({"timestamp": number(1_700_000_000)}, "timestamp"),
        ({"extra_data": b"x" * 33}, "extra-data"),
        ({"gas_limit": number(36_000_000 + 36_000_000 // 1024)}, "gas-limit"),
        ({"gas_limit": number(36_000_000 - 36_000_000 // 1024)}, "gas-limit"),
        ({"gas_used": number(36_000_001)}, "gas-used"),
        ({"gas_used": number(21_001)}, "gas-used"),
        ({"base_fee": number(GWEI + 1)}, "base-fee"),
        ({"ommers": b"\1" * 32}, "ommers"),
        ({"difficulty": b"\1"}, "difficulty"),
        ({"nonce": b"\0" * 7 + b"\1"}, "nonce"),
        ({"withdrawals": b"\1" * 32}, "withdrawals"),
        ({"blob_gas_used": number(131_072)}, "blob-gas"),
        ({"excess_blob_gas": b"\1"}, "blob-gas"),
        ({"requests": b"\1" * 32}, "requests"),
        ({"transactions_root": b"\1" * 32}, "transactions-root"),
        ({"receipts_root": b"\1" * 32}, "receipts-root"),
        ({"bloom": b"\1" * 256}, "logs-bloom"),
        ({"state_root": b"\1" * 32}, "state-root"),
        ({"fee_recipient": b"\1" * 20}, "state-root"),
        ({"beacon_root": b"\1" * 32}, "state-root"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_wrong_header_field_is_refused_by_name(
    engine: Engine,
    candidate: tuple[bytes, list[tuple[bytes, bytes]]],
    fields: dict[str, bytes],
    kind: str,
) -> None:
    rlp, calls = candidate
    with pytest.raises(InvalidBlock) as caught:
        engine.execute(change(rlp, **fields), calls)
    assert caught.value.args[0] == kind


def test_the_system_calls_are_part_of_the_state(
    engine: Engine, candidate: tuple[bytes, list[tuple[bytes, bytes]]]
) -> None:
    rlp, _ = candidate
    with pytest.raises(InvalidBlock) as caught:
        engine.execute(rlp, [])
    assert caught.value.args[0] == "state-root"
    with pytest.raises(InvalidBlock) as caught:
        engine.execute(rlp, [(system_calls(b"\0" * 32)[0][0], b"\xff" * 36)])
    assert caught.value.args[0] == "system-call"


def test_an_unknown_parent_is_not_an_invalid_block(
    engine: Engine, candidate: tuple[bytes, list[tuple[bytes, bytes]]]
) -> None:
    rlp, calls = candidate
    with pytest.raises(UnknownBlock):
        engine.execute(change(rlp, parent_hash=b"\7" * 32), calls)


def drop_ommers(block: list[object]) -> None:
    block[2] = [b"\1"]


def drop_withdrawals(block: list[object]) -> None:
    del block[3]


def spoil_transaction(block: list[object]) -> None:
    block[1] = [b"\x02\x01"]


def blob_transaction(block: list[object]) -> None:
    block[1] = [b"\x03\xc0"]


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (drop_ommers, "encoding"),
        (drop_withdrawals, "encoding"),
        (spoil_transaction, "transaction"),
        (blob_transaction, "transaction"),
    ],
)
def test_a_malformed_body_is_refused(
    engine: Engine,
    candidate: tuple[bytes, list[tuple[bytes, bytes]]],
    spoil: Callable[[list[object]], None],
    kind: str,
) -> None:
    rlp, calls = candidate
    block = rlp_decode(rlp)
    spoil(block)
    with pytest.raises(InvalidBlock) as caught:
        engine.execute(rlp_encode(block), calls)
    assert caught.value.args[0] == kind


def test_a_block_over_the_size_limit_is_refused_unread(engine: Engine) -> None:
    with pytest.raises(InvalidBlock) as caught:
        engine.execute(bytes(8 * 1024 * 1024 + 1), [])
    assert caught.value.args[0] == "size"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_refused_by_name_or_another_valid_block(
    engine: Engine, candidate: tuple[bytes, list[tuple[bytes, bytes]]], data: st.DataObject
) -> None:
    rlp, calls = candidate
    spoiled = bytearray(rlp)
    for _ in range(data.draw(st.integers(1, 4))):
        spoiled[data.draw(st.integers(0, len(rlp) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(spoiled[: data.draw(st.integers(0, len(rlp)))])
    for block in (bytes(spoiled), cut, data.draw(st.binary(max_size=100))):
        try:
            executed = engine.execute(block, calls)
        except (InvalidBlock, UnknownBlock):
            assert block != rlp
        else:
            # Gas limit and timestamp, say, are free within bounds.
            assert executed.rlp() == block


def test_invalid_candidates_are_left_out_with_their_reasons(
    engine: Engine, dev_keys: list[DevAccount]
) -> None:
    rich = 10_000 * 10**18
    good = sign(dev_keys[0], 0, to="0x" + "11" * 20)
    cases = {
        "nonce-too-high": sign(dev_keys[1], 1, to="0x" + "11" * 20),
        "insufficient-funds": sign(dev_keys[2], 0, to="0x" + "11" * 20, value=rich),
        "intrinsic-gas": sign(dev_keys[3], 0, to="0x" + "11" * 20, data=b"\1" * 50),
        "fee-too-low": sign(dev_keys[4], 0, to="0x" + "11" * 20, maxFeePerGas=1, maxPriorityFeePerGas=1),
        "gas-limit": sign(dev_keys[5], 0, to="0x" + "11" * 20, gas=2**24 + 1),
        "tip-above-fee": sign(
            dev_keys[6], 0, to="0x" + "11" * 20, maxFeePerGas=2 * GWEI, maxPriorityFeePerGas=3 * GWEI
        ),
        "init-code-size": sign(dev_keys[7], 0, gas=10_000_000, data=b"\0" * 49_153),
        "chain-id": sign(dev_keys[8], 0, to="0x" + "11" * 20, chainId=1),
        "nonce-too-low": sign(dev_keys[0], 0, to="0x" + "22" * 20),
    }
    parent = engine.head
    block = engine.build(parent.hash, attributes(parent), [good, *cases.values()])
    assert block.transaction_hashes == [good.hash]
    assert {hash: kind for hash, kind, _ in block.rejected} == {tx.hash: kind for kind, tx in cases.items()}
    assert all(message for _, _, message in block.rejected)


def test_a_full_block_leaves_the_rest_for_later(engine: Engine, dev_keys: list[DevAccount]) -> None:
    transfers = [sign(dev_keys[0], nonce, to="0x" + "11" * 20) for nonce in range(4)]
    parent = engine.head
    limit = parent.gas_limit
    hungry = sign(dev_keys[1], 0, gas=2**24, data=b"\xfe")  # burns all of its gas
    more = [sign(dev_keys[2], nonce, gas=2**24, data=b"\xfe") for nonce in range(2)]
    block = engine.build(parent.hash, attributes(parent), [hungry, more[0], more[1], *transfers])
    # Two eat 2 · 2^24 of 36 M; the third does not fit and is not rejected; the transfers still fit.
    assert block.transaction_hashes == [hungry.hash, more[0].hash, *(tx.hash for tx in transfers)]
    assert block.rejected == []
    assert block.header.gas_used == 2 * 2**24 + 4 * 21_000 <= limit


def test_a_deadline_in_the_past_builds_an_empty_block(engine: Engine, dev_keys: list[DevAccount]) -> None:
    parent = engine.head
    transfer = sign(dev_keys[0], 0, to="0x" + "11" * 20)
    block = engine.build(parent.hash, attributes(parent), [transfer], deadline_seconds=0.0)
    assert block.transaction_hashes == []
    assert block.rejected == []


def test_fees_go_where_they_belong(engine: Engine, dev_keys: list[DevAccount]) -> None:
    transfer = sign(dev_keys[0], 0, to="0x" + "11" * 20, value=7)
    block = extend(engine, [transfer])
    base_fee = block.header.base_fee_per_gas
    head = engine.head.hash
    assert engine.account(head, FEE_RECIPIENT).balance == 21_000 * GWEI
    spent = 21_000 * (base_fee + GWEI) + 7
    assert engine.account(head, transfer.sender).balance == 10_000 * 10**18 - spent


def test_forks_share_history_and_the_head_moves_between_them(
    engine: Engine, dev_keys: list[DevAccount]
) -> None:
    genesis = engine.head
    transfer = sign(dev_keys[0], 0, to="0x" + "11" * 20, value=1)
    left = engine.build(genesis.hash, attributes(genesis), [transfer])
    engine.commit(left, make_head=True)
    right = engine.build(genesis.hash, attributes(genesis, timestamp=genesis.timestamp + 3), [])
    engine.commit(right, make_head=False)
    assert engine.head.hash == left.header.hash
    assert engine.transaction_location(transfer.hash) == (left.header.hash, 1, 0)

    further = engine.build(right.header.hash, attributes(right.header), [])
    engine.commit(further, make_head=True)
    assert engine.canonical_hash(1) == right.header.hash
    assert engine.canonical_hash(2) == further.header.hash
    assert engine.transaction_location(transfer.hash) is None
    assert not engine.is_canonical(left.header.hash)
    # The other branch's state is still there.
    assert engine.account(left.header.hash, bytes.fromhex("11" * 20)).balance == 1
    assert engine.account(further.header.hash, bytes.fromhex("11" * 20)).balance == 0

    removed, added = engine.set_head(left.header.hash)
    assert removed == [further.header.hash, right.header.hash]
    assert added == [left.header.hash]
    assert engine.canonical_hash(2) is None
    assert engine.transaction_location(transfer.hash) == (left.header.hash, 1, 0)


def test_a_store_comes_back_with_everything(
    engine_path: Path, spec: ChainSpec, dev_keys: list[DevAccount]
) -> None:
    engine = Engine(str(engine_path), spec.engine_json())
    blocks = [extend(engine, [sign(dev_keys[0], nonce, to="0x" + "11" * 20, value=1)]) for nonce in range(5)]
    engine.close()
    again = Engine(str(engine_path), spec.engine_json())
    assert again.head.hash == blocks[-1].header.hash
    assert again.account(again.head.hash, bytes.fromhex("11" * 20)).balance == 5
    for block in blocks:
        assert again.block_rlp(block.header.hash) == block.rlp()
    again.close()


def test_a_directory_serves_one_engine_and_one_chain(engine_path: Path, spec: ChainSpec) -> None:
    engine = Engine(str(engine_path), spec.engine_json())
    with pytest.raises(StoreLocked):
        Engine(str(engine_path), spec.engine_json())
    engine.close()
    with pytest.raises(StoreForeign):
        Engine(str(engine_path), replace(spec, gas_limit=36_000_001).engine_json())


def test_a_store_keeps_the_rules_of_its_past(engine_path: Path, spec: ChainSpec) -> None:
    def reopen(**changes: Any) -> None:
        Engine(str(engine_path), replace(spec, **changes).engine_json()).close()

    head = spec.timestamp
    planned = (("cancun", 0), ("prague", 0), ("osaka", head + 1000))
    reopen(hardforks=planned)
    reopen(hardforks=(("cancun", 0), ("prague", 0), ("osaka", head + 500)))  # what lies ahead may move
    for changes in (
        {"chain_id": 7},
        {"hardforks": (("cancun", 0), ("osaka", 0))},
        {"hardforks": (("prague", 0),)},
    ):
        with pytest.raises(StoreForeign):
            reopen(**changes)
    reopen(hardforks=planned)


def test_blockhash_and_the_history_contracts_agree(engine: Engine, dev_keys: list[DevAccount]) -> None:
    for _ in range(5):
        extend(engine)
    # Runtime: return blockhash(calldata[0])
    code = bytes.fromhex("5f3540" + "5f5260205ff3")
    init = bytes.fromhex("68") + code + bytes.fromhex("5f526009 6017f3".replace(" ", ""))
    created = extend(engine, [sign(dev_keys[0], 0, gas=100_000, data=init)])
    receipt = engine.receipt_json(created.header.hash, 0)
    assert receipt is not None
    contract = receipt.split(b'"contractAddress":"')[1][:42].decode()
    head = engine.head
    history = "0x0000F90827F1C53a10cb7A02335B175320002935"
    for asked in range(1, head.number):
        word = asked.to_bytes(32, "big").hex()
        results = [
            engine.call(head.hash, f'{{"to":"{to}","data":"0x{word}"}}'.encode(), gas_cap=1_000_000).output
            for to in (contract, history)
        ]
        assert results == [engine.canonical_hash(asked)] * 2
