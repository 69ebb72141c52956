"""What only a development node does: signing for its accounts, mining on demand, snapshots, time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from noria._core import decode_transaction
from noria.chain.service import Chain
from noria.execution.accounts import DevAccount
from noria.execution.spec import DEV_CHAIN_ID
from noria.rpc import Backend
from noria.rpc.methods.dev import MAX_BLOCKS_AT_ONCE
from tests.rpc import evm
from tests.rpc.conftest import Rpc, Serve, hexed

STRANGER = "0x" + "99" * 20
TYPED: dict[str, Any] = {
    "types": {
        "EIP712Domain": [{"name": "name", "type": "string"}, {"name": "chainId", "type": "uint256"}],
        "Mail": [{"name": "to", "type": "address"}, {"name": "text", "type": "string"}],
    },
    "primaryType": "Mail",
    "domain": {"name": "Noria", "chainId": DEV_CHAIN_ID},
    "message": {"to": STRANGER, "text": "hello"},
}


@pytest.fixture
def alice(dev_keys: list[DevAccount]) -> str:
    return hexed(dev_keys[0].address)


@pytest.fixture
def bob(dev_keys: list[DevAccount]) -> str:
    return hexed(dev_keys[1].address)


async def test_accounts(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    assert await rpc("eth_accounts") == [hexed(account.address) for account in dev_keys]


@pytest.mark.parametrize(
    "method",
    [
        "eth_accounts",
        "eth_sendTransaction",
        "eth_signTransaction",
        "eth_sign",
        "eth_signTypedData_v4",
        "personal_sign",
        "evm_mine",
        "evm_snapshot",
        "evm_revert",
        "evm_increaseTime",
        "evm_setNextBlockTimestamp",
    ],
)
async def test_other_nodes_do_not_have_these(
    serve: Serve, http: httpx.AsyncClient, chain: Chain, method: str
) -> None:
    async with serve(Backend(chain, "noria/test")) as server:
        rpc = Rpc(server.http_url, http, chain)
        failure = await rpc.failure(method)
        assert (failure.code, failure.message) == (
            -32601,
            f"the method {method} does not exist/is not available",
        )
        assert await rpc("eth_chainId") == hex(DEV_CHAIN_ID)


# ---------------------------------------------------------------- transactions


async def test_completed_transaction(rpc: Rpc, chain: Chain, alice: str, bob: str) -> None:
    base_fee = chain.head.next_base_fee()
    receipt = await rpc.mined(await rpc("eth_sendTransaction", {"from": alice, "to": bob, "value": "0x5"}))
    transaction = await rpc("eth_getTransactionByHash", receipt["transactionHash"])
    assert (transaction["type"], transaction["nonce"], transaction["gas"]) == ("0x2", "0x0", "0x5208")
    assert transaction["maxPriorityFeePerGas"] == hex(10**9)
    assert transaction["maxFeePerGas"] == hex(2 * base_fee + 10**9)


async def test_given_fields_are_kept(rpc: Rpc, alice: str, bob: str) -> None:
    given = {
        "from": alice,
        "to": bob,
        "gas": "0x7530",
        "maxFeePerGas": hex(10**10),
        "maxPriorityFeePerGas": hex(2 * 10**9),
        "nonce": "0x0",
        "chainId": hex(DEV_CHAIN_ID),
        "value": "0x1",
        "input": "0x1234",
        "accessList": [{"address": bob, "storageKeys": [hexed(evm.word(1))]}],
        "type": "0x2",
    }
    receipt = await rpc.mined(await rpc("eth_sendTransaction", given))
    transaction = await rpc("eth_getTransactionByHash", receipt["transactionHash"])
    assert transaction | given == transaction


@pytest.mark.parametrize(("fields", "kind"), [({}, "0x0"), ({"accessList": []}, "0x1")])
async def test_gas_price(rpc: Rpc, alice: str, bob: str, fields: dict[str, Any], kind: str) -> None:
    call = {"from": alice, "to": bob, "gasPrice": hex(10**10), **fields}
    receipt = await rpc.mined(await rpc("eth_sendTransaction", call))
    assert (receipt["type"], receipt["effectiveGasPrice"]) == (kind, hex(10**10))


async def test_low_fee_cap_lowers_the_tip(rpc: Rpc, alice: str, bob: str) -> None:
    signed = await rpc("eth_signTransaction", {"from": alice, "to": bob, "maxFeePerGas": hex(5 * 10**8)})
    assert signed["tx"]["maxPriorityFeePerGas"] == signed["tx"]["maxFeePerGas"] == hex(5 * 10**8)


async def test_nonces_of_concurrent_transactions(rpc: Rpc, alice: str, bob: str) -> None:
    hashes = await asyncio.gather(
        *(rpc("eth_sendTransaction", {"from": alice, "to": bob, "value": hex(value)}) for value in range(10))
    )
    receipts = [await rpc.mined(one) for one in hashes]
    assert {receipt["status"] for receipt in receipts} == {"0x1"}
    assert await rpc("eth_getTransactionCount", alice, "latest") == "0xa"


async def test_signed_transaction_is_not_sent(
    rpc: Rpc, dev_keys: list[DevAccount], alice: str, bob: str
) -> None:
    signed = await rpc("eth_signTransaction", {"from": alice, "to": bob, "value": "0x1"})
    assert set(signed) == {"raw", "tx"}
    decoded = decode_transaction(bytes.fromhex(signed["raw"][2:]))
    assert (decoded.sender, decoded.value) == (dev_keys[0].address, 1)
    assert signed["tx"]["hash"] == hexed(decoded.hash)
    assert await rpc("eth_getTransactionByHash", signed["tx"]["hash"]) is None


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"from": None}, -32602, 'invalid argument 0: missing "from"'),
        ({"from": STRANGER}, -32000, "unknown account " + STRANGER),
        ({"from": "0x12"}, -32602, "invalid argument 0: hex string has length 2, want 40 for address"),
        ({"to": None}, -32602, "invalid argument 0: contract creation without any data provided"),
        ({"value": "5"}, -32602, "invalid argument 0: hex string without 0x prefix"),
        ({"value": 5}, -32602, "invalid argument 0: Expected"),
        ({"data": "0x1", "to": STRANGER}, -32602, "invalid argument 0: hex string of odd length"),
        ({"data": "0x12", "input": "0x34"}, -32602, 'invalid argument 0: both "data" and "input" are set'),
        ({"gasPrice": "0x1", "maxFeePerGas": "0x1"}, -32000, "both gasPrice and"),
        (
            {"maxFeePerGas": "0x1", "maxPriorityFeePerGas": "0x2"},
            -32000,
            "maxFeePerGas (1) < maxPriorityFeePerGas (2)",
        ),
        ({"chainId": "0x1"}, -32000, f"chainId does not match node's (have=1, want={DEV_CHAIN_ID})"),
        ({"blobVersionedHashes": []}, -32602, "invalid argument 0: blob transactions are not accepted"),
        ({"authorizationList": []}, -32602, "invalid argument 0: a transaction with an authorizationList"),
        ({"nonce": "0x10000000000000000"}, -32602, "invalid argument 0: hex number > 64 bits"),
        ({"value": hex(10**30)}, -32000, "insufficient funds"),
    ],
)
@pytest.mark.parametrize("method", ["eth_sendTransaction", "eth_signTransaction"])
async def test_bad_transactions(
    rpc: Rpc, alice: str, bob: str, method: str, fields: dict[str, Any], code: int, words: str
) -> None:
    call = {"from": alice, "to": bob, **fields}
    failure = await rpc.failure(method, {name: value for name, value in call.items() if value is not None})
    assert failure.code == code
    assert failure.message.startswith(words)


async def test_transaction_that_would_revert(rpc: Rpc, dev_keys: list[DevAccount], alice: str) -> None:
    reverter = await rpc.deploy(dev_keys[0], evm.REVERTER)
    failure = await rpc.failure("eth_sendTransaction", {"from": alice, "to": reverter, "data": "0x12"})
    assert (failure.code, failure.message, failure.data) == (3, "execution reverted", "0x12")


async def test_mempool_refuses(rpc: Rpc, alice: str, bob: str) -> None:
    await rpc.mined(await rpc("eth_sendTransaction", {"from": alice, "to": bob}))
    failure = await rpc.failure("eth_sendTransaction", {"from": alice, "to": bob, "nonce": "0x0"})
    assert failure.code == -32000
    assert failure.message.startswith("nonce too low")


# ---------------------------------------------------------------- signatures


async def test_message_signature(rpc: Rpc, alice: str) -> None:
    signature = await rpc("eth_sign", alice, "0x68656c6c6f")
    recovered = Account.recover_message(encode_defunct(b"hello"), signature=signature)
    assert recovered.lower() == alice
    assert await rpc("personal_sign", "0x68656c6c6f", alice) == signature


@pytest.mark.parametrize("as_text", [False, True])
async def test_typed_data_signature(rpc: Rpc, alice: str, as_text: bool) -> None:
    signature = await rpc("eth_signTypedData_v4", alice, json.dumps(TYPED) if as_text else TYPED)
    recovered = Account.recover_message(encode_typed_data(full_message=TYPED), signature=signature)
    assert recovered.lower() == alice


@pytest.mark.parametrize(
    ("method", "params", "code", "words"),
    [
        ("eth_sign", [STRANGER, "0x12"], -32000, f"unknown account {STRANGER}"),
        ("eth_sign", ["0x12", "0x12"], -32602, "invalid argument 0"),
        ("eth_signTypedData_v4", [STRANGER, {}], -32000, f"unknown account {STRANGER}"),
        ("eth_signTypedData_v4", [None, {}], -32602, "missing value for required argument 0"),
    ],
)
async def test_bad_signing(rpc: Rpc, method: str, params: list[Any], code: int, words: str) -> None:
    failure = await rpc.failure(method, *params)
    assert failure.code == code
    assert failure.message.startswith(words)


@pytest.mark.parametrize(
    "document", [{}, 5, [], "text", "{", TYPED | {"primaryType": "Letter"}, TYPED | {"message": {"to": 5}}]
)
async def test_bad_typed_data(rpc: Rpc, alice: str, document: Any) -> None:
    failure = await rpc.failure("eth_signTypedData_v4", alice, document)
    assert failure.code == -32602
    assert failure.message.startswith("invalid argument 1: ")


# ---------------------------------------------------------------- mining and time


async def test_mine(rpc: Rpc, chain: Chain) -> None:
    assert await rpc("evm_mine") == "0x0"
    assert chain.head.number == 1
    await rpc("evm_mine", None)
    await rpc("evm_mine", {"blocks": 3})
    assert chain.head.number == 5
    await rpc("evm_mine", {"blocks": "0x2", "timestamp": chain.head.timestamp + 1_000})
    assert chain.head.number == 7


async def test_mine_at_a_time(rpc: Rpc, chain: Chain) -> None:
    later = chain.now + 1_000
    await rpc("evm_mine", later)
    assert chain.head.timestamp == later
    await rpc("evm_mine", hex(later + 10))
    assert chain.head.timestamp == later + 10
    failure = await rpc.failure("evm_mine", later)
    assert failure.code == -32000
    assert failure.message.startswith(f"timestamp {later} is not later than the parent block's")


async def test_mine_too_many(rpc: Rpc, chain: Chain) -> None:
    failure = await rpc.failure("evm_mine", {"blocks": MAX_BLOCKS_AT_ONCE + 1})
    assert (
        failure.message
        == f"invalid argument 0: too many blocks: {MAX_BLOCKS_AT_ONCE + 1}, at most 1000 at once"
    )
    assert chain.head.number == 0


@pytest.mark.parametrize("option", ["soon", -1, [], {"blocks": -1}, True, 2**64])
async def test_bad_mining_options(rpc: Rpc, chain: Chain, option: Any) -> None:
    assert (await rpc.failure("evm_mine", option)).code == -32602
    assert chain.head.number == 0


async def test_increase_time(rpc: Rpc, chain: Chain) -> None:
    before = chain.now
    assert await rpc("evm_increaseTime", 1_000) == 1_000
    assert await rpc("evm_increaseTime", "0x3e8") == 2_000
    await rpc("evm_mine")
    assert before + 2_000 <= chain.head.timestamp <= chain.now
    failure = await rpc.failure("evm_increaseTime", 2**63)
    assert (failure.code, "too far" in failure.message) == (-32000, True)
    assert (await rpc.failure("evm_increaseTime", -1)).code == -32602


async def test_next_timestamp(rpc: Rpc, chain: Chain, alice: str, bob: str) -> None:
    later = chain.now + 5_000
    assert await rpc("evm_setNextBlockTimestamp", later) is None
    await rpc.mined(await rpc("eth_sendTransaction", {"from": alice, "to": bob}))
    assert chain.head.timestamp == later
    failure = await rpc.failure("evm_setNextBlockTimestamp", later)
    assert failure.code == -32000


# ---------------------------------------------------------------- snapshots


async def test_snapshot_and_revert(rpc: Rpc, chain: Chain, alice: str, bob: str) -> None:
    await rpc.mined(await rpc("eth_sendTransaction", {"from": alice, "to": bob, "value": "0x1"}))
    head, balance = chain.head.hash, await rpc("eth_getBalance", bob, "latest")
    snapshot = await rpc("evm_snapshot")
    gone = await rpc.mined(await rpc("eth_sendTransaction", {"from": alice, "to": bob, "value": "0x1"}))
    await rpc("evm_mine", {"blocks": 3})
    assert await rpc("evm_revert", snapshot) is True
    assert chain.head.hash == head
    assert await rpc("eth_blockNumber") == "0x1"
    assert await rpc("eth_getBalance", bob, "latest") == balance
    assert await rpc("eth_getTransactionByHash", gone["transactionHash"]) is None
    assert await rpc("eth_getTransactionReceipt", gone["transactionHash"]) is None
    assert await rpc("eth_getTransactionCount", alice, "pending") == "0x1"
    # Life goes on from there.
    again = await rpc.mined(await rpc("eth_sendTransaction", {"from": alice, "to": bob, "value": "0x1"}))
    assert again["blockNumber"] == "0x2"


async def test_snapshots_are_used_up(rpc: Rpc, chain: Chain) -> None:
    first = await rpc("evm_snapshot")
    await chain.mine()
    second = await rpc("evm_snapshot")
    await chain.mine()
    third = await rpc("evm_snapshot")
    assert len({first, second, third}) == 3
    assert await rpc("evm_revert", second) is True
    assert chain.head.number == 1
    assert await rpc("evm_revert", second) is False
    assert await rpc("evm_revert", third) is False
    assert await rpc("evm_revert", first) is True
    assert chain.head.number == 0
    assert await rpc("evm_snapshot") not in (first, second, third)


@pytest.mark.parametrize("number", ["0x99", "0x0"])
async def test_revert_to_nothing(rpc: Rpc, number: str) -> None:
    assert await rpc("evm_revert", number) is False
