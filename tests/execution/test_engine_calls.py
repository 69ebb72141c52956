"""Read-only execution: calls, overrides, estimates, access lists, traces, proofs and own precompiles."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from noria._core import (
    CallResult,
    Engine,
    InvalidRequest,
    InvalidTransaction,
    UnknownBlock,
    blake3,
    bls_public_key,
    bls_secret_key,
    bls_sign,
    keccak256,
    rlp_decode,
    rlp_encode,
    trie_root,
)
from noria.execution.accounts import DevAccount
from noria.execution.system_contracts import BLAKE3_PRECOMPILE, BLS_VERIFY_PRECOMPILE, CONSENSUS
from tests.execution.blocks import GWEI, extend, sign

GAS_CAP = 50_000_000
TARGET = "0x" + "cc" * 20
ECHO_SLOT = "0x5f355f555f545f5260205ff3"  # store calldata[0] in slot 0, return slot 0
REVERT_WITH_INPUT = "0x365f5f37365ffd"
LOOP = "0x5b5f56"
BURN_BELOW_100K = "0x620186a05a10600a57005b5f5ffd"  # reverts with less than 100,000 gas


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def call(engine: Engine, request: Mapping[str, Any], code: str | None = None, **override: Any) -> CallResult:
    state = {TARGET: {"code": code, **override}} if code or override else None
    return engine.call(
        engine.head.hash,
        json.dumps({"to": TARGET, **request}).encode(),
        gas_cap=GAS_CAP,
        state_overrides=json.dumps(state).encode() if state else None,
    )


def test_a_call_changes_nothing(engine: Engine) -> None:
    word = "0x" + "07".rjust(64, "0")
    assert call(engine, {"data": word}, ECHO_SLOT).output == bytes.fromhex(word[2:])
    assert engine.storage(engine.head.hash, bytes.fromhex(TARGET[2:]), bytes(32)) == bytes(32)
    assert engine.code(engine.head.hash, bytes.fromhex(TARGET[2:])) == b""


def test_revert_data_comes_back(engine: Engine) -> None:
    result = call(engine, {"data": "0xdeadbeef"}, REVERT_WITH_INPUT)
    assert (result.status, result.output, result.error) == ("revert", bytes.fromhex("deadbeef"), "")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (LOOP, "out of gas"),
        ("0xfe", "invalid opcode: INVALID"),
        ("0x0c", "invalid opcode"),
        ("0x60ff56", "invalid jump destination"),
        ("0x01", "stack underflow"),
        ("0x5b5f5f56", "stack limit reached 1024 (1023)"),
        ("0x60015f5f3e", "return data out of bounds"),
    ],
)
def test_halts_have_geths_words(engine: Engine, code: str, words: str) -> None:
    result = call(engine, {}, code)
    assert (result.status, result.error) == ("halt", words)


def test_the_gas_cap_bounds_a_call(engine: Engine) -> None:
    assert call(engine, {"gas": hex(10**18)}, LOOP).gas_used == GAS_CAP


def test_state_overrides(engine: Engine) -> None:
    balance_of_self = "0x475f5260205ff3"
    assert int.from_bytes(call(engine, {}, balance_of_self, balance="0x2a").output, "big") == 42
    slot = "0x" + "00" * 32
    value = "0x" + "2b".rjust(64, "0")
    read_slot = "0x5f545f5260205ff3"
    for name in ("state", "stateDiff"):
        assert int.from_bytes(call(engine, {}, read_slot, **{name: {slot: value}}).output, "big") == 43


def test_block_overrides(engine: Engine) -> None:
    number_and_time = "0x435f5242602052" + "60405ff3"
    result = engine.call(
        engine.head.hash,
        json.dumps({"to": TARGET}).encode(),
        gas_cap=GAS_CAP,
        state_overrides=json.dumps({TARGET: {"code": number_and_time}}).encode(),
        block_overrides=json.dumps({"number": "0x1234", "time": "0x5678"}).encode(),
    )
    assert result.output == (0x1234).to_bytes(32, "big") + (0x5678).to_bytes(32, "big")


@pytest.mark.parametrize(
    ("request_", "state", "block"),
    [
        ({"gasPrice": "0x1", "maxFeePerGas": "0x1"}, None, None),
        ({"data": "0x01", "input": "0x02"}, None, None),
        ({"chainId": "0x1"}, None, None),
        ({"blobVersionedHashes": ["0x" + "01" * 32]}, None, None),
        ({"maxFeePerGas": "0x1", "maxPriorityFeePerGas": "0x2"}, None, None),
        ({"value": "many"}, None, None),
        ({}, {TARGET: {"state": {}, "stateDiff": {}}}, None),
        ({}, {TARGET: {"movePrecompileToAddress": TARGET}}, None),
        ({}, {TARGET: {"balance": -1}}, None),
        ({}, None, {"beaconRoot": "0x" + "01" * 32}),
        ({}, None, {"blobBaseFee": "0x1"}),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    engine: Engine, request_: dict[str, Any], state: Any, block: Any
) -> None:
    with pytest.raises(InvalidRequest):
        engine.call(
            engine.head.hash,
            json.dumps({"to": TARGET, **request_}).encode(),
            gas_cap=GAS_CAP,
            state_overrides=json.dumps(state).encode() if state else None,
            block_overrides=json.dumps(block).encode() if block else None,
        )


def test_unknown_blocks_and_unfunded_callers_are_named(engine: Engine) -> None:
    with pytest.raises(UnknownBlock):
        engine.call(b"\1" * 32, b"{}", gas_cap=GAS_CAP)
    with pytest.raises(InvalidTransaction) as caught:
        call(engine, {"from": "0x" + "ee" * 20, "value": "0x1"})
    assert caught.value.args[0] == "insufficient-funds"


def test_an_estimate_is_exactly_enough(engine: Engine, dev_keys: list[DevAccount]) -> None:
    sender = hexed(dev_keys[0].address)

    def estimate(request: dict[str, Any], code: str | None = None) -> tuple[int, CallResult]:
        overrides = json.dumps({TARGET: {"code": code}}).encode() if code else None
        return engine.estimate_gas(
            engine.head.hash,
            json.dumps({"from": sender, "to": TARGET, **request}).encode(),
            gas_cap=GAS_CAP,
            state_overrides=overrides,
        )

    assert estimate({"value": "0x1"})[0] == 21_000
    for code, request in ((ECHO_SLOT, {"data": "0x" + "ff" * 32}), (BURN_BELOW_100K, {})):
        gas, result = estimate(request, code)
        assert result.status == "success"
        enough, short = (
            call(engine, {"from": sender, "gas": hex(gas - less), **request}, code) for less in (0, 1)
        )
        assert enough.status == "success"
        assert short.status != "success"
    gas, result = estimate({"data": "0x01"}, REVERT_WITH_INPUT)
    assert (gas, result.status, result.output) == (0, "revert", b"\1")
    gas, result = estimate({}, LOOP)
    assert (gas, result.error) == (0, "out of gas")


def test_an_access_list_names_what_is_touched(engine: Engine) -> None:
    other = "dd" * 20
    nowhere = bytes(20)
    slot = (5).to_bytes(32, "big")
    # Init code: sload(5), then the balance of another account.
    creation = json.dumps({"data": "0x600554" + "73" + other + "3100"}).encode()
    found = json.loads(engine.access_list_json(engine.head.hash, creation, gas_cap=GAS_CAP))
    created = keccak256(rlp_encode([nowhere, b""]))[12:]
    assert {entry["address"]: entry["storageKeys"] for entry in found["accessList"]} == {
        "0x" + other: [],
        hexed(created): [hexed(slot)],
    }
    assert "error" not in found
    reverting = json.dumps({"data": "0x5f5ffd"}).encode()
    assert json.loads(engine.access_list_json(engine.head.hash, reverting, gas_cap=GAS_CAP))["error"]


def test_proofs_lead_to_the_state_root(engine: Engine, dev_keys: list[DevAccount]) -> None:
    # Init code: sstore(1, 42), return nothing.
    created = extend(engine, [sign(dev_keys[0], 0, gas=100_000, data=bytes.fromhex("602a60015500"))])
    contract = keccak256(rlp_encode([dev_keys[0].address, b""]))[12:]
    slot = (1).to_bytes(32, "big")
    proof = json.loads(engine.proof_json(created.header.hash, contract, [slot, b"\2" * 32]))
    root = bytes.fromhex(proof["accountProof"][0][2:])
    assert keccak256(root) == created.header.state_root
    leaf = rlp_decode(bytes.fromhex(proof["accountProof"][-1][2:]))
    nonce, balance, storage_root, _ = rlp_decode(leaf[-1])
    assert (nonce, balance) == (b"\1", b"")
    assert hexed(storage_root) == proof["storageHash"]
    assert storage_root == trie_root([(slot, rlp_encode(b"\x2a"))], secure=True)
    assert [entry["value"] for entry in proof["storageProof"]] == ["0x2a", "0x0"]
    assert keccak256(bytes.fromhex(proof["storageProof"][0]["proof"][0][2:])) == storage_root
    absent = json.loads(engine.proof_json(created.header.hash, b"\7" * 20, []))
    assert absent["balance"] == "0x0"
    assert absent["accountProof"][0] == proof["accountProof"][0]


def test_a_trace_shows_inner_calls(engine: Engine, dev_keys: list[DevAccount]) -> None:
    # Runtime: log0, then call the identity precompile with 4 bytes.
    init = bytes.fromhex("5f5fa0" + "5f5f60045f5f60045af1" + "00")
    first = sign(dev_keys[0], 0, to=dev_keys[1].address, value=3)
    created = extend(engine, [first, sign(dev_keys[0], 1, gas=200_000, data=init)])
    trace = json.loads(engine.trace_transaction_json(created.header.hash, 1, b'{"withLog": true}'))
    assert trace["type"] == "CREATE"
    assert trace["from"] == hexed(dev_keys[0].address)
    assert trace["gas"] == hex(200_000)
    assert [inner["to"] for inner in trace["calls"]] == ["0x" + "04".rjust(40, "0")]
    assert len(trace["logs"]) == 1
    receipt = json.loads(engine.receipt_json(created.header.hash, 1) or b"")
    assert trace["gasUsed"] == receipt["gasUsed"]
    top = json.loads(engine.trace_transaction_json(created.header.hash, 1, b'{"onlyTopCall": true}'))
    assert "calls" not in top
    plain = json.loads(engine.trace_transaction_json(created.header.hash, 0, b"{}"))
    assert (plain["type"], plain["value"], plain["gasUsed"]) == ("CALL", "0x3", hex(21_000))
    with pytest.raises(InvalidRequest):
        engine.trace_transaction_json(created.header.hash, 2, b"{}")


def test_receipts_and_logs(engine: Engine, dev_keys: list[DevAccount]) -> None:
    # Init code: log1(topic 7, no data), return nothing.
    logging = bytes.fromhex("60075f5fa100")
    block = extend(
        engine,
        [
            sign(dev_keys[0], 0, to=dev_keys[1].address),
            sign(dev_keys[0], 1, gas=100_000, data=logging),
            sign(dev_keys[1], 0, gas=100_000, data=logging),
            sign(dev_keys[2], 0, gas=100_000, data=b"\xfe"),
        ],
    )
    receipts = json.loads(engine.block_receipts_json(block.header.hash) or b"")
    assert [receipt["status"] for receipt in receipts] == ["0x1", "0x1", "0x1", "0x0"]
    assert sum(int(receipt["gasUsed"], 16) for receipt in receipts) == block.header.gas_used
    assert [log["logIndex"] for receipt in receipts for log in receipt["logs"]] == ["0x0", "0x1"]
    for index, receipt in enumerate(receipts):
        assert json.loads(engine.receipt_json(block.header.hash, index) or b"") == receipt
    topic = (7).to_bytes(32, "big")
    emitter = bytes.fromhex(receipts[2]["contractAddress"][2:])
    everything = json.loads(engine.logs_range_json(0, 10, [], [], 100))
    assert len(everything) == 2
    assert json.loads(engine.logs_range_json(0, 10, [emitter], [[topic]], 100)) == [everything[1]]
    assert json.loads(engine.logs_range_json(0, 10, [], [None, None], 100)) == []
    assert json.loads(engine.logs_range_json(0, 10, [], [[b"\1" * 32, topic]], 100)) == everything
    assert json.loads(engine.logs_json([block.header.hash], [], [[b"\1" * 32]], 100)) == []
    with pytest.raises(InvalidRequest, match="more than 1 results"):
        engine.logs_range_json(0, 10, [], [], 1)


def test_a_delegated_account_runs_its_delegates_code(engine: Engine, dev_keys: list[DevAccount]) -> None:
    from eth_account import Account

    # A contract whose runtime is: sstore(0, 1).
    deploy = sign(dev_keys[0], 0, gas=200_000, data=bytes.fromhex("6460015f55005f526005601bf3"))
    extend(engine, [deploy])
    contract = keccak256(rlp_encode([dev_keys[0].address, b""]))[12:]
    assert engine.code(engine.head.hash, contract) == bytes.fromhex("60015f5500")
    delegation = Account.sign_authorization(
        {"chainId": engine.chain_id, "address": hexed(contract), "nonce": 0}, dev_keys[1].private_key
    )
    delegate = sign(dev_keys[0], 1, to=dev_keys[1].address, gas=300_000, authorizationList=[delegation])
    block = extend(engine, [delegate])
    assert block.transaction_hashes == [delegate.hash]
    assert engine.code(block.header.hash, dev_keys[1].address) == b"\xef\x01\x00" + contract
    assert engine.storage(block.header.hash, dev_keys[1].address, bytes(32)) == (1).to_bytes(32, "big")
    assert engine.account(block.header.hash, dev_keys[1].address).nonce == 1


def precompile(engine: Engine, address: bytes, data: bytes, gas: int = GAS_CAP) -> CallResult:
    request = {"to": hexed(address), "data": hexed(data), "gas": hex(gas)}
    return engine.call(engine.head.hash, json.dumps(request).encode(), gas_cap=GAS_CAP)


def intrinsic(data: bytes) -> int:
    zeros = data.count(0)
    return 21_000 + 4 * zeros + 16 * (len(data) - zeros)


def floor(data: bytes) -> int:
    zeros = data.count(0)
    return 21_000 + 10 * zeros + 40 * (len(data) - zeros)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 1_000])
def test_the_blake3_precompile(engine: Engine, length: int) -> None:
    data = bytes(range(256)) * 4
    data = data[:length]
    result = precompile(engine, BLAKE3_PRECOMPILE, data)
    assert result.output == blake3(data)
    assert result.gas_used == max(floor(data), intrinsic(data) + 60 + 6 * -(-length // 32))


def test_the_bls_precompile(engine: Engine) -> None:
    secret = bls_secret_key(b"\5" * 32)
    for message in (b"", b"a message", b"m" * 100):
        good = bls_public_key(secret) + bls_sign(secret, message) + message
        result = precompile(engine, BLS_VERIFY_PRECOMPILE, good)
        assert result.output == (1).to_bytes(32, "big")
        assert result.gas_used == intrinsic(good) + 120_000 + 6 * -(-len(message) // 32)
        for place in (5, 60, 140):
            wrong = bytearray(good)
            wrong[place] ^= 1
            assert precompile(engine, BLS_VERIFY_PRECOMPILE, bytes(wrong)).output == bytes(32)
    short = precompile(engine, BLS_VERIFY_PRECOMPILE, b"\1" * 143)
    assert (short.status, short.output) == ("halt", b"")
    poor = precompile(engine, BLS_VERIFY_PRECOMPILE, good, gas=intrinsic(good) + 120_000)
    assert (poor.status, poor.error) == ("halt", "out of gas")


def test_nobody_but_the_system_begins_a_block(engine: Engine, dev_keys: list[DevAccount]) -> None:
    from noria.execution.system_contracts import begin_block_calldata

    request = {"from": hexed(dev_keys[0].address), "to": hexed(CONSENSUS)}
    for data in (begin_block_calldata(b"\1" * 32), b"", b"\xff\xff\xff\xff"):
        result = engine.call(
            engine.head.hash, json.dumps({**request, "data": hexed(data)}).encode(), gas_cap=GAS_CAP
        )
        assert result.status == "revert"


def test_the_fee_market_moves_with_demand(engine: Engine, dev_keys: list[DevAccount]) -> None:
    before = engine.head.base_fee_per_gas
    empty = extend(engine)
    assert empty.header.base_fee_per_gas == before - before // 8
    hungry = [
        sign(dev_keys[0], nonce, gas=2**24, data=b"\xfe", maxFeePerGas=100 * GWEI) for nonce in range(2)
    ]
    full = extend(engine, hungry)
    assert extend(engine).header.base_fee_per_gas > full.header.base_fee_per_gas
    history = engine.fee_history(engine.head.hash, 10, [0.0, 50.0, 100.0])
    assert [header.number for header, _ in history] == [0, 1, 2, 3]
    assert history[2][1] == [GWEI, GWEI, GWEI]
    assert history[3][1] == [0, 0, 0]
