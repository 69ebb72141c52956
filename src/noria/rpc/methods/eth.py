"""``eth_*``: the chain, its blocks and transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Raw

from noria._core import Header
from noria.chain.fees import TIP_BLOCKS, TIP_PERCENTILE, suggested_tip
from noria.rpc.context import Context
from noria.rpc.dispatch import rpc_error
from noria.rpc.params import (
    BOOLEAN,
    DATA,
    HASH,
    QUANTITY,
    BlockArg,
    BlockNumberArg,
    BoolArg,
    CountArg,
    DataArg,
    HashArg,
    PercentilesArg,
    QuantityArg,
    an_object,
    array_of,
    nullable,
)
from noria.rpc.registry import Registry

registry: Final = Registry()

_BLOCK: Final = nullable(an_object("Block"))
_TRANSACTION: Final = nullable(an_object("Transaction"))
_RECEIPT: Final = nullable(an_object("Receipt"))

_SIZE_CLASS_BITS: Final = 20
"""Blocks within the same mebigas count as equally long."""
_BLOB_BASE_FEE: Final = "0x1"
"""No block carries blobs, so the blob base fee stays at its minimum of one wei."""


def _raw(found: bytes | None) -> Raw | None:
    return None if found is None else Raw(found)


def _hex(found: bytes | None) -> str | None:
    return None if found is None else "0x" + found.hex()


# ---------------------------------------------------------------- the chain


@registry.method("eth_chainId", QUANTITY)
def chain_id(context: Context) -> str:
    """Return the chain identifier used in transaction signatures."""
    return hex(context.node.engine.chain_id)


@registry.method("eth_blockNumber", QUANTITY)
def block_number(context: Context) -> str:
    """Return the number of the newest block."""
    return hex(context.node.chain.head.number)


@registry.method("eth_syncing", BOOLEAN)
def syncing(context: Context) -> bool:
    """Return false: this node's head is the chain's."""
    return False


@registry.method("eth_gasPrice", QUANTITY)
async def gas_price(context: Context) -> str:
    """Return a gas price in wei with which a legacy transaction enters the next block."""
    return hex(context.node.chain.head.next_base_fee() + await current_tip(context))


@registry.method("eth_maxPriorityFeePerGas", QUANTITY)
async def max_priority_fee_per_gas(context: Context) -> str:
    """Return a tip in wei per gas with which a transaction enters the next block."""
    return hex(await current_tip(context))


@registry.method("eth_blobBaseFee", QUANTITY)
def blob_base_fee(context: Context) -> str:
    """Return the blob base fee of the next block in wei; blob transactions are not accepted."""
    return _BLOB_BASE_FEE


@registry.method("eth_feeHistory", an_object("Fee history"))
async def fee_history(
    context: Context,
    block_count: CountArg,
    newest_block: BlockNumberArg,
    reward_percentiles: PercentilesArg = [],  # noqa: B006
) -> dict[str, Any]:
    """Return base fees, gas used and effective tips of past blocks."""
    node = context.node
    newest = node.header(node.state_hash(newest_block))
    count = min(block_count, node.config.max_fee_history_blocks, newest.number + 1)
    if count == 0:
        return {"oldestBlock": "0x0", "gasUsedRatio": None}
    kind = ("fee history", count, len(reward_percentiles))
    history = await node.inline.run(kind, node.engine.fee_history, newest.hash, count, reward_percentiles)
    headers = [header for header, _ in history]
    answer: dict[str, Any] = {
        "oldestBlock": hex(headers[0].number),
        "baseFeePerGas": [hex(header.base_fee_per_gas) for header in headers] + [hex(newest.next_base_fee())],
        "gasUsedRatio": [_ratio(header) for header in headers],
        "baseFeePerBlobGas": [_BLOB_BASE_FEE] * (len(headers) + 1),
        "blobGasUsedRatio": [0.0] * len(headers),
    }
    if reward_percentiles:
        answer["reward"] = [[hex(tip) for tip in tips] for _, tips in history]
    return answer


async def current_tip(context: Context) -> int:
    """Return the median tip at the 60th percentile of recent blocks with transactions, in wei per gas."""
    node = context.node
    head = node.chain.head
    if node.tip is not None and node.tip[0] == head.hash:
        return node.tip[1]
    count = min(TIP_BLOCKS, head.number + 1)
    kind = ("fee history", count, 1)
    history = await node.inline.run(kind, node.engine.fee_history, head.hash, count, [TIP_PERCENTILE])
    tip = suggested_tip(history)
    node.tip = (head.hash, tip)
    return tip


def _ratio(header: Header) -> float:
    return header.gas_used / header.gas_limit if header.gas_limit else 0.0


# ---------------------------------------------------------------- blocks


@registry.method("eth_getBlockByHash", _BLOCK)
async def get_block_by_hash(context: Context, block_hash: HashArg, hydrated: BoolArg) -> Raw | None:
    """Return a block by its hash, with transaction hashes or whole transactions."""
    return await _block(context, block_hash, hydrated)


@registry.method("eth_getBlockByNumber", _BLOCK)
async def get_block_by_number(context: Context, block: BlockNumberArg, hydrated: BoolArg) -> Raw | None:
    """Return a block by its number or tag, with transaction hashes or whole transactions."""
    return await _block(context, context.node.block_hash(block), hydrated)


async def _block(context: Context, block_hash: bytes | None, hydrated: bool) -> Raw | None:
    if block_hash is None:
        return None
    return await _by_size(context, block_hash, context.node.engine.block_json, hydrated)


def _count(context: Context, block_hash: bytes | None) -> str | None:
    hashes = None if block_hash is None else context.node.engine.transaction_hashes(block_hash)
    return None if hashes is None else hex(len(hashes))


@registry.method("eth_getBlockTransactionCountByHash", nullable(QUANTITY))
def transaction_count_by_hash(context: Context, block_hash: HashArg) -> str | None:
    """Return the number of transactions in a block."""
    return _count(context, block_hash)


@registry.method("eth_getBlockTransactionCountByNumber", nullable(QUANTITY))
def transaction_count_by_number(context: Context, block: BlockNumberArg) -> str | None:
    """Return the number of transactions in a block."""
    return _count(context, context.node.block_hash(block))


def _no_uncles(context: Context, block_hash: bytes | None) -> str | None:
    return None if block_hash is None or context.node.engine.header(block_hash) is None else "0x0"


@registry.method("eth_getUncleCountByBlockHash", nullable(QUANTITY))
def uncle_count_by_hash(context: Context, block_hash: HashArg) -> str | None:
    """Return zero: blocks have no uncles."""
    return _no_uncles(context, block_hash)


@registry.method("eth_getUncleCountByBlockNumber", nullable(QUANTITY))
def uncle_count_by_number(context: Context, block: BlockNumberArg) -> str | None:
    """Return zero: blocks have no uncles."""
    return _no_uncles(context, context.node.block_hash(block))


@registry.method("eth_getUncleByBlockHashAndIndex", _BLOCK)
def uncle_by_hash(context: Context, block_hash: HashArg, index: QuantityArg) -> None:
    """Return null: blocks have no uncles."""


@registry.method("eth_getUncleByBlockNumberAndIndex", _BLOCK)
def uncle_by_number(context: Context, block: BlockNumberArg, index: QuantityArg) -> None:
    """Return null: blocks have no uncles."""


@registry.method("eth_getBlockReceipts", nullable(array_of(an_object("Receipt"))))
async def get_block_receipts(context: Context, block: BlockArg) -> Raw | None:
    """Return the receipts of all transactions of a block."""
    block_hash = context.node.block_hash(block)
    if block_hash is None:
        return None
    return await _by_size(context, block_hash, context.node.engine.block_receipts_json)


async def _by_size(
    context: Context, block_hash: bytes, read: Callable[..., bytes | None], *more: bool
) -> Raw | None:
    """Read something about a block; blocks that used about the same gas are about as long."""
    header = context.node.engine.header(block_hash)
    if header is None:
        return None
    kind = (read.__name__, more, header.gas_used >> _SIZE_CLASS_BITS)
    return _raw(await context.node.inline.run(kind, read, block_hash, *more))


# ---------------------------------------------------------------- transactions


@registry.method("eth_getTransactionByHash", _TRANSACTION)
def get_transaction_by_hash(context: Context, transaction_hash: HashArg) -> Raw | None:
    """Return a transaction of the canonical chain or of the mempool."""
    engine = context.node.engine
    location = engine.transaction_location(transaction_hash)
    if location is not None:
        return _raw(engine.transaction_json(location[0], location[2]))
    pending = context.node.chain.mempool.get(transaction_hash)
    return None if pending is None else Raw(pending.to_json())


@registry.method("eth_getTransactionByBlockHashAndIndex", _TRANSACTION)
def get_transaction_by_block_hash(context: Context, block_hash: HashArg, index: QuantityArg) -> Raw | None:
    """Return a transaction by its place in a block."""
    return _transaction_at(context, block_hash, index)


@registry.method("eth_getTransactionByBlockNumberAndIndex", _TRANSACTION)
def get_transaction_by_block_number(
    context: Context, block: BlockNumberArg, index: QuantityArg
) -> Raw | None:
    """Return a transaction by its place in a block."""
    return _transaction_at(context, context.node.block_hash(block), index)


def _transaction_at(context: Context, block_hash: bytes | None, index: int) -> Raw | None:
    # No block holds that many; the engine's index is narrower than what a client may write.
    if block_hash is None or index >= 2**32:
        return None
    return _raw(context.node.engine.transaction_json(block_hash, index))


@registry.method("eth_getRawTransactionByHash", nullable(DATA))
def get_raw_transaction_by_hash(context: Context, transaction_hash: HashArg) -> str | None:
    """Return a transaction of the canonical chain or of the mempool in its network encoding."""
    engine = context.node.engine
    location = engine.transaction_location(transaction_hash)
    if location is not None:
        return _hex(engine.raw_transaction(location[0], location[2]))
    pending = context.node.chain.mempool.get(transaction_hash)
    return None if pending is None else _hex(pending.raw)


@registry.method("eth_getTransactionReceipt", _RECEIPT)
def get_transaction_receipt(context: Context, transaction_hash: HashArg) -> Raw | None:
    """Return the receipt of a transaction of the canonical chain."""
    engine = context.node.engine
    location = engine.transaction_location(transaction_hash)
    return None if location is None else _raw(engine.receipt_json(location[0], location[2]))


async def _send_together(context: Context, calls: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
    outcomes = await context.node.chain.submit([arguments[0] for arguments in calls])
    return [
        rpc_error(outcome, "eth_sendRawTransaction")
        if isinstance(outcome, Exception)
        else "0x" + outcome.hex()
        for outcome in outcomes
    ]


@registry.method("eth_sendRawTransaction", HASH, batch=_send_together)
async def send_raw_transaction(context: Context, transaction: DataArg) -> str:
    """Submit a signed transaction in its network encoding and return its hash."""
    return await submit_one(context, transaction)


async def submit_one(context: Context, raw: bytes) -> str:
    """Submit one signed transaction and return its hash as hex.

    Raises
    ------
    RpcError
        -32000 with the mempool's words if it is refused.
    """
    (outcome,) = await context.node.chain.submit([raw])
    if isinstance(outcome, Exception):
        raise outcome
    return "0x" + outcome.hex()
