"""Blocks, transactions, accounts and fees: shapes and words as geth gives them."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account

from noria._core import Transaction, decode_transaction
from noria.chain.service import Chain
from noria.execution.accounts import DevAccount
from noria.execution.spec import DEV_BASE_FEE, DEV_CHAIN_ID
from tests.rpc import evm
from tests.rpc.conftest import Rpc, hexed

UNKNOWN = "0x" + "ab" * 32
HELLO_HASH = "0x1c8aff950685c2ed4bc3174f3472287b56d9517b9c948127319a09a7a36deac8"
EMPTY_ROOT = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
EMPTY_UNCLES = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"

BLOCK_KEYS = {
    "baseFeePerGas",
    "blobGasUsed",
    "difficulty",
    "excessBlobGas",
    "extraData",
    "gasLimit",
    "gasUsed",
    "hash",
    "logsBloom",
    "miner",
    "mixHash",
    "nonce",
    "number",
    "parentBeaconBlockRoot",
    "parentHash",
    "receiptsRoot",
    "requestsHash",
    "sha3Uncles",
    "size",
    "stateRoot",
    "timestamp",
    "transactions",
    "transactionsRoot",
    "uncles",
    "withdrawals",
    "withdrawalsRoot",
}
TRANSACTION_KEYS = {
    "accessList",
    "blockHash",
    "blockNumber",
    "chainId",
    "from",
    "gas",
    "gasPrice",
    "hash",
    "input",
    "maxFeePerGas",
    "maxPriorityFeePerGas",
    "nonce",
    "r",
    "s",
    "to",
    "transactionIndex",
    "type",
    "v",
    "value",
    "yParity",
}
MINED_TRANSACTION_KEYS = TRANSACTION_KEYS | {"blockTimestamp"}
RECEIPT_KEYS = {
    "blockHash",
    "blockNumber",
    "contractAddress",
    "cumulativeGasUsed",
    "effectiveGasPrice",
    "from",
    "gasUsed",
    "logs",
    "logsBloom",
    "status",
    "to",
    "transactionHash",
    "transactionIndex",
    "type",
}
LOG_KEYS = {
    "address",
    "blockHash",
    "blockNumber",
    "blockTimestamp",
    "data",
    "logIndex",
    "removed",
    "topics",
    "transactionHash",
    "transactionIndex",
}


def address(account: DevAccount) -> str:
    return hexed(account.address)


async def pay(rpc: Rpc, sender: DevAccount, to: DevAccount, value: int = 1) -> dict[str, Any]:
    return await rpc.mined(
        await rpc("eth_sendTransaction", {"from": address(sender), "to": address(to), "value": hex(value)})
    )


# ---------------------------------------------------------------- the chain


async def test_chain(rpc: Rpc) -> None:
    assert await rpc("eth_chainId") == hex(DEV_CHAIN_ID)
    assert await rpc("net_version") == str(DEV_CHAIN_ID)
    assert await rpc("eth_syncing") is False
    assert await rpc("net_listening") is True
    assert await rpc("net_peerCount") == "0x0"
    assert await rpc("eth_blockNumber") == "0x0"
    assert await rpc("web3_clientVersion") == "noria/test"
    assert await rpc("web3_sha3", "0x68656c6c6f") == HELLO_HASH


async def test_fees_of_a_new_chain(rpc: Rpc, chain: Chain) -> None:
    assert await rpc("eth_maxPriorityFeePerGas") == hex(10**9)
    assert await rpc("eth_gasPrice") == hex(chain.head.next_base_fee() + 10**9)
    assert await rpc("eth_blobBaseFee") == "0x1"


async def test_tip_follows_what_was_paid(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    call = {"from": address(dev_keys[0]), "to": address(dev_keys[1]), "maxPriorityFeePerGas": hex(5 * 10**8)}
    await rpc.mined(await rpc("eth_sendTransaction", call))
    assert await rpc("eth_maxPriorityFeePerGas") == hex(5 * 10**8)


async def test_fee_history(rpc: Rpc, chain: Chain, dev_keys: list[DevAccount]) -> None:
    await pay(rpc, dev_keys[0], dev_keys[1])
    await chain.mine()
    history = await rpc("eth_feeHistory", "0x2", "latest", [25, 75])
    assert set(history) == {
        "oldestBlock",
        "baseFeePerGas",
        "gasUsedRatio",
        "reward",
        "baseFeePerBlobGas",
        "blobGasUsedRatio",
    }
    assert history["oldestBlock"] == "0x1"
    assert [int(fee, 16) for fee in history["baseFeePerGas"]] == [
        int((await rpc("eth_getBlockByNumber", "0x1", False))["baseFeePerGas"], 16),
        chain.head.base_fee_per_gas,
        chain.head.next_base_fee(),
    ]
    assert history["gasUsedRatio"] == [21_000 / chain.head.gas_limit, 0.0]
    assert history["reward"] == [[hex(10**9)] * 2, ["0x0", "0x0"]]
    assert history["baseFeePerBlobGas"] == ["0x1"] * 3
    assert history["blobGasUsedRatio"] == [0.0] * 2


async def test_fee_history_without_rewards(rpc: Rpc) -> None:
    assert "reward" not in await rpc("eth_feeHistory", 1, "latest")
    assert "reward" not in await rpc("eth_feeHistory", "0x1", "latest", [])
    # More than there is.
    assert (await rpc("eth_feeHistory", "1000000", "latest", None))["oldestBlock"] == "0x0"
    assert await rpc("eth_feeHistory", "0x0", "latest", []) == {"oldestBlock": "0x0", "gasUsedRatio": None}


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        (["0x1", "latest", [101]], -32602, "invalid argument 2: invalid reward percentile: 101"),
        (
            ["0x1", "latest", [50, 10]],
            -32602,
            "invalid argument 2: invalid reward percentile: #0:50.0 >= #1:10.0",
        ),
        (["0x1", "latest", ["a"]], -32602, "invalid argument 2"),
        (["many", "latest"], -32602, "invalid argument 0: invalid hex or decimal integer"),
        (["0x1", "0x99"], -32000, "header not found"),
    ],
)
async def test_bad_fee_history(rpc: Rpc, params: list[Any], code: int, words: str) -> None:
    failure = await rpc.failure("eth_feeHistory", *params)
    assert failure.code == code
    assert failure.message.startswith(words)


# ---------------------------------------------------------------- blocks


async def test_genesis_block(rpc: Rpc, chain: Chain) -> None:
    block = await rpc("eth_getBlockByNumber", "0x0", True)
    assert set(block) == BLOCK_KEYS
    assert block["hash"] == hexed(chain.engine.genesis_hash)
    assert block["number"] == "0x0"
    assert block["baseFeePerGas"] == hex(DEV_BASE_FEE)
    assert block["transactions"] == block["uncles"] == block["withdrawals"] == []
    assert block["transactionsRoot"] == EMPTY_ROOT
    assert block["sha3Uncles"] == EMPTY_UNCLES
    assert block["difficulty"] == "0x0"
    assert block["nonce"] == "0x0000000000000000"


async def test_block_with_a_transaction(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    receipt = await pay(rpc, dev_keys[0], dev_keys[1])
    block = await rpc("eth_getBlockByNumber", "latest", False)
    full = await rpc("eth_getBlockByHash", block["hash"], True)
    assert set(block) == set(full) == BLOCK_KEYS
    assert block["transactions"] == [receipt["transactionHash"]]
    (transaction,) = full["transactions"]
    assert set(transaction) == MINED_TRANSACTION_KEYS
    assert block | {"transactions": None} == full | {"transactions": None}
    assert block["gasUsed"] == "0x5208"


@pytest.mark.parametrize("tag", ["latest", "pending", "safe", "finalized"])
async def test_tags_of_the_head(rpc: Rpc, chain: Chain, tag: str) -> None:
    head = await chain.mine()
    assert (await rpc("eth_getBlockByNumber", tag, False))["hash"] == hexed(head.hash)


async def test_earliest_is_genesis(rpc: Rpc, chain: Chain) -> None:
    await chain.mine()
    assert (await rpc("eth_getBlockByNumber", "earliest", False))["number"] == "0x0"


async def test_finality_can_be_plugged_in(rpc: Rpc, chain: Chain, serve: Any, http: Any) -> None:
    class Genesis:
        def safe(self) -> bytes:
            return middle.hash

        def finalized(self) -> bytes:
            return chain.engine.genesis_hash

    from noria.rpc import Backend

    middle = await chain.mine()
    await chain.mine()
    async with serve(Backend(chain, "noria/test", finality=Genesis())) as server:
        other = Rpc(server.http_url, http, chain)
        blocks = [await other("eth_getBlockByNumber", tag, False) for tag in ("latest", "safe", "finalized")]
    assert [block["number"] for block in blocks] == ["0x2", "0x1", "0x0"]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("eth_getBlockByNumber", ["0x99", False]),
        ("eth_getBlockByHash", [UNKNOWN, False]),
        ("eth_getBlockTransactionCountByNumber", ["0x99"]),
        ("eth_getBlockTransactionCountByHash", [UNKNOWN]),
        ("eth_getUncleCountByBlockNumber", ["0x99"]),
        ("eth_getUncleCountByBlockHash", [UNKNOWN]),
        ("eth_getUncleByBlockNumberAndIndex", ["0x0", "0x0"]),
        ("eth_getUncleByBlockHashAndIndex", [UNKNOWN, "0x0"]),
        ("eth_getBlockReceipts", ["0x99"]),
        ("eth_getBlockReceipts", [UNKNOWN]),
        ("eth_getTransactionByHash", [UNKNOWN]),
        ("eth_getTransactionReceipt", [UNKNOWN]),
        ("eth_getRawTransactionByHash", [UNKNOWN]),
        ("eth_getTransactionByBlockHashAndIndex", [UNKNOWN, "0x0"]),
        ("eth_getTransactionByBlockNumberAndIndex", ["0x0", "0x0"]),
        ("eth_getTransactionByBlockNumberAndIndex", ["0x0", "0xffffffffffffffff"]),
        ("eth_getTransactionByBlockNumberAndIndex", ["0x99", "0x0"]),
    ],
)
async def test_what_is_not_there_is_null(rpc: Rpc, method: str, params: list[Any]) -> None:
    assert await rpc(method, *params) is None


async def test_counts(rpc: Rpc, chain: Chain, dev_keys: list[DevAccount]) -> None:
    await pay(rpc, dev_keys[0], dev_keys[1])
    block_hash = hexed(chain.head.hash)
    assert await rpc("eth_getBlockTransactionCountByNumber", "latest") == "0x1"
    assert await rpc("eth_getBlockTransactionCountByHash", block_hash) == "0x1"
    assert await rpc("eth_getBlockTransactionCountByNumber", "earliest") == "0x0"
    assert await rpc("eth_getUncleCountByBlockNumber", "latest") == "0x0"
    assert await rpc("eth_getUncleCountByBlockHash", block_hash) == "0x0"


# ---------------------------------------------------------------- transactions and receipts


async def test_transaction_and_receipt(rpc: Rpc, chain: Chain, dev_keys: list[DevAccount]) -> None:
    receipt = await pay(rpc, dev_keys[0], dev_keys[1], 5)
    transaction = await rpc("eth_getTransactionByHash", receipt["transactionHash"])
    assert set(transaction) == MINED_TRANSACTION_KEYS
    assert set(receipt) == RECEIPT_KEYS
    where = {
        "blockHash": hexed(chain.head.hash),
        "blockNumber": "0x1",
        "transactionIndex": "0x0",
        "from": address(dev_keys[0]),
        "to": address(dev_keys[1]),
        "type": "0x2",
    }
    assert transaction | where == transaction
    assert receipt | where == receipt
    assert (transaction["value"], transaction["input"], transaction["nonce"]) == ("0x5", "0x", "0x0")
    assert (receipt["status"], receipt["gasUsed"], receipt["cumulativeGasUsed"]) == (
        "0x1",
        "0x5208",
        "0x5208",
    )
    assert (receipt["logs"], receipt["contractAddress"]) == ([], None)
    assert receipt["effectiveGasPrice"] == hex(chain.head.base_fee_per_gas + 10**9)
    by_place = await rpc("eth_getTransactionByBlockNumberAndIndex", "0x1", "0x0")
    assert (
        by_place
        == transaction
        == await rpc("eth_getTransactionByBlockHashAndIndex", where["blockHash"], "0x0")
    )
    assert await rpc("eth_getBlockReceipts", "latest") == [receipt]
    assert await rpc("eth_getBlockReceipts", {"blockHash": where["blockHash"]}) == [receipt]


async def test_raw_transaction(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    raw = evm.signed(dev_keys[0], 0)
    sent = await rpc("eth_sendRawTransaction", hexed(raw))
    assert sent == hexed(decode_transaction(raw).hash)
    await rpc.mined(sent)
    assert await rpc("eth_getRawTransactionByHash", sent) == hexed(raw)
    assert await rpc("debug_getRawTransaction", sent) == hexed(raw)


@pytest.mark.parametrize(
    ("kind", "fields", "has", "lacks"),
    [
        (
            "0x0",
            {"gasPrice": 10**10},
            {"gasPrice", "v", "chainId"},
            {"maxFeePerGas", "accessList", "yParity"},
        ),
        (
            "0x1",
            {"type": 1, "gasPrice": 10**10, "accessList": []},
            {"accessList", "yParity"},
            {"maxFeePerGas"},
        ),
    ],
)
async def test_older_transaction_types(
    rpc: Rpc, dev_keys: list[DevAccount], kind: str, fields: dict[str, Any], has: set[str], lacks: set[str]
) -> None:
    common = {"chainId": DEV_CHAIN_ID, "nonce": 0, "gas": 21_000, "to": dev_keys[1].address, "value": 1}
    raw = bytes(Account.sign_transaction(common | fields, dev_keys[0].private_key).raw_transaction)
    receipt = await rpc.mined(await rpc("eth_sendRawTransaction", hexed(raw)))
    transaction = await rpc("eth_getTransactionByHash", receipt["transactionHash"])
    assert receipt["type"] == transaction["type"] == kind
    assert has <= set(transaction)
    assert not lacks & set(transaction)


async def test_receipt_with_a_log(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    logger = await rpc.deploy(dev_keys[0], evm.LOGGER)
    call = {"from": address(dev_keys[0]), "to": logger, "data": hexed(evm.word(7) + evm.word(9))}
    receipt = await rpc.mined(await rpc("eth_sendTransaction", call))
    (log,) = receipt["logs"]
    assert set(log) == LOG_KEYS
    assert (log["address"], log["topics"], log["data"]) == (logger, [hexed(evm.word(7))], hexed(evm.word(9)))
    assert (log["logIndex"], log["removed"], log["blockHash"]) == ("0x0", False, receipt["blockHash"])
    assert int(receipt["logsBloom"], 16).bit_count() in range(1, 7)


async def test_receipt_of_a_deployment(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    contract = await rpc.deploy(dev_keys[0], evm.LOGGER)
    assert await rpc("eth_getCode", contract, "latest") == hexed(evm.LOGGER)
    assert await rpc("eth_getCode", contract, "earliest") == "0x"
    assert await rpc("eth_getCode", address(dev_keys[0]), "latest") == "0x"


async def test_receipt_of_a_revert(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    contract = await rpc.deploy(dev_keys[0], evm.REVERTER)
    call = {"from": address(dev_keys[0]), "to": contract, "gas": hex(100_000)}
    receipt = await rpc.mined(await rpc("eth_sendTransaction", call))
    assert receipt["status"] == "0x0"


# ---------------------------------------------------------------- refused transactions


async def refused(rpc: Rpc, raw: bytes) -> str:
    failure = await rpc.failure("eth_sendRawTransaction", hexed(raw))
    assert failure.code == -32000
    return failure.message


async def test_nonce_too_low(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    await pay(rpc, dev_keys[0], dev_keys[1])
    assert (await refused(rpc, evm.signed(dev_keys[0], 0))).startswith("nonce too low")


async def test_already_known(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    # Behind a nonce gap, so that it stays in the mempool.
    raw = evm.signed(dev_keys[0], 1)
    await rpc("eth_sendRawTransaction", hexed(raw))
    assert (await refused(rpc, raw)).startswith("already known")


async def test_replacement_underpriced(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    await rpc("eth_sendRawTransaction", hexed(evm.signed(dev_keys[0], 1)))
    message = await refused(rpc, evm.signed(dev_keys[0], 1, value=1))
    assert message.startswith("replacement transaction underpriced")


async def test_insufficient_funds(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    message = await refused(rpc, evm.signed(dev_keys[0], 0, value=10**30))
    assert message.startswith("insufficient funds for gas * price + value")


async def test_intrinsic_gas(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    assert (await refused(rpc, evm.signed(dev_keys[0], 0, gas=20_999))).startswith("intrinsic gas too low")


async def test_gas_limit(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    message = await refused(rpc, evm.signed(dev_keys[0], 0, gas=2**40))
    assert "gas limit" in message


async def test_tip_above_fee(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    message = await refused(rpc, evm.signed(dev_keys[0], 0, maxPriorityFeePerGas=10**11))
    assert message.startswith("max priority fee per gas higher than max fee per gas")


async def test_wrong_chain_id(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    assert (await refused(rpc, evm.signed(dev_keys[0], 0, chainId=1))).startswith(
        "invalid chain id for signer"
    )


async def test_bad_signature(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    raw = bytearray(evm.signed(dev_keys[0], 0))
    raw[-32:] = b"\xff" * 32
    assert await refused(rpc, bytes(raw)) == "invalid transaction v, r, s values"


@pytest.mark.parametrize("raw", [b"", b"\x02", b"\xc0", b"\xff" * 40, b"\x02" + b"\xc0", b"\x00" * 200])
async def test_bad_encoding(rpc: Rpc, raw: bytes) -> None:
    assert await refused(rpc, raw)


async def test_blob_transaction(rpc: Rpc) -> None:
    assert "blob" in await refused(rpc, b"\x03" + bytes.fromhex("c0"))


async def test_batch_of_transactions(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    raws = [evm.signed(dev_keys[0], nonce) for nonce in (0, 1, 0, 2)]
    answers = await rpc.batch(
        *(("eth_sendRawTransaction", hexed(raw)) for raw in raws),
        ("eth_sendRawTransaction", "0x12"),
        ("eth_sendRawTransaction", "12"),
        ("eth_getTransactionCount", address(dev_keys[0]), "pending"),
    )
    hashes = [hexed(decode_transaction(raw).hash) for raw in raws]
    assert answers[:2] == hashes[:2]
    assert answers[3] == hashes[3]
    assert (answers[2]["code"], answers[4]["code"], answers[5]["code"]) == (-32000, -32000, -32602)
    assert answers[6] == "0x3"
    assert (await rpc.mined(hashes[3]))["status"] == "0x1"


# ---------------------------------------------------------------- the mempool


async def test_pending_transaction(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    raw = evm.signed(dev_keys[0], 1, value=3)
    sent = await rpc("eth_sendRawTransaction", hexed(raw))
    transaction = await rpc("eth_getTransactionByHash", sent)
    assert set(transaction) == TRANSACTION_KEYS
    assert (transaction["value"], transaction["from"]) == ("0x3", address(dev_keys[0]))
    assert transaction["blockHash"] is transaction["blockNumber"] is transaction["transactionIndex"] is None
    assert await rpc("eth_getRawTransactionByHash", sent) == hexed(raw)
    assert await rpc("debug_getRawTransaction", sent) == hexed(raw)
    assert await rpc("eth_getTransactionReceipt", sent) is None


async def test_pending_nonce(rpc: Rpc, chain: Chain, dev_keys: list[DevAccount]) -> None:
    sender = address(dev_keys[0])
    await rpc("eth_sendRawTransaction", hexed(evm.signed(dev_keys[0], 1)))
    # A gap: the next usable nonce is still the first.
    assert await rpc("eth_getTransactionCount", sender, "pending") == "0x0"
    # Both calls are answered in one turn, before a block can be made.
    sent, pending, latest = await rpc.batch(
        ("eth_sendRawTransaction", hexed(evm.signed(dev_keys[0], 0))),
        ("eth_getTransactionCount", sender, "pending"),
        ("eth_getTransactionCount", sender, "earliest"),
    )
    assert isinstance(sent, str)
    assert (pending, latest) == ("0x2", "0x0")
    await rpc.mined(sent)
    assert int(await rpc("eth_getTransactionCount", sender, "latest"), 16) >= 1


# ---------------------------------------------------------------- raw blocks


async def test_raw_block(rpc: Rpc, chain: Chain) -> None:
    assert await rpc("debug_getRawBlock", "latest") == hexed(chain.engine.block_rlp(chain.head.hash) or b"")
    assert (await rpc.failure("debug_getRawBlock", "0x99")).message == "header not found"
    assert await rpc("debug_getRawTransaction", UNKNOWN) == "0x"


def test_transaction_type_is_complete() -> None:
    assert {"raw", "hash"} <= set(dir(Transaction))
