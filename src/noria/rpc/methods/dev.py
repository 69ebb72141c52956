"""Methods that only a development node has: unlocked accounts, mining on demand, snapshots, time."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Raw

from noria._core import decode_transaction
from noria.rpc.context import Context, DevState
from noria.rpc.errors import ParamError, invalid_params, limit_exceeded, server_error
from noria.rpc.methods.eth import submit_one
from noria.rpc.methods.signing import complete, read_request, sign_message, sign_transaction, sign_typed_data
from noria.rpc.params import (
    ADDRESS,
    BOOLEAN,
    DATA,
    HASH,
    QUANTITY,
    AddressArg,
    CallArg,
    Codec,
    CountArg,
    DataArg,
    JsonArg,
    QuantityArg,
    an_object,
    array_of,
    hex_or_decimal,
    nullable,
)
from noria.rpc.registry import Registry

registry: Final = Registry()

MAX_BLOCKS_AT_ONCE: Final = 1_000
MAX_SNAPSHOTS: Final = 1_000


class _MineOptions(msgspec.Struct, frozen=True):
    timestamp: str | int | None = None
    blocks: str | int | None = None


def _mine_options(value: str | int | _MineOptions) -> tuple[int | None, int]:
    if not isinstance(value, _MineOptions):
        return hex_or_decimal(value), 1
    timestamp = None if value.timestamp is None else hex_or_decimal(value.timestamp)
    blocks = 1 if value.blocks is None else hex_or_decimal(value.blocks)
    if blocks > MAX_BLOCKS_AT_ONCE:
        raise ParamError(f"too many blocks: {blocks}, at most {MAX_BLOCKS_AT_ONCE} at once")
    return timestamp, blocks


_MineArg = Annotated[tuple[int | None, int], Codec(str | int | _MineOptions, _mine_options, {})]


def _key(context: Context, address: bytes) -> bytes:
    accounts = context.node.accounts
    key = None if accounts is None else accounts.private_keys.get(address)
    if key is None:
        raise server_error(f"unknown account 0x{address.hex()}: this node holds no key for it")
    return key


def _dev(context: Context) -> DevState:
    if context.node.dev is None:
        raise server_error("not a development node")
    return context.node.dev


# ---------------------------------------------------------------- accounts


@registry.method("eth_accounts", array_of(ADDRESS))
def accounts(context: Context) -> list[str]:
    """Return the addresses that this node can sign for."""
    held = context.node.accounts
    return [] if held is None else ["0x" + address.hex() for address in held.private_keys]


@registry.method("eth_sendTransaction", HASH)
async def send_transaction(context: Context, transaction: CallArg) -> str:
    """Complete, sign and submit a transaction of an unlocked account and return its hash."""
    # One at a time: the next nonce is known only when the transaction before is in the mempool.
    async with _dev(context).sending:
        return await submit_one(context, await _signed(context, transaction))


@registry.method("eth_signTransaction", an_object("Signed transaction"))
async def sign_only(context: Context, transaction: CallArg) -> dict[str, Any]:
    """Complete and sign a transaction of an unlocked account without submitting it."""
    raw = await _signed(context, transaction)
    return {"raw": "0x" + raw.hex(), "tx": Raw(decode_transaction(raw).to_json())}


async def _signed(context: Context, transaction: bytes | None) -> bytes:
    request = read_request(transaction)
    assert transaction is not None
    sender, fields = await complete(context, request, transaction)
    key = _key(context, sender)
    try:
        return await context.node.workers.run(sign_transaction, fields, key)
    except (TypeError, ValueError) as error:
        raise server_error(f"the transaction cannot be signed: {str(error)[:200]}") from error


@registry.method("eth_sign", DATA)
async def sign(context: Context, address: AddressArg, message: DataArg) -> str:
    """Return the EIP-191 signature of a message by an unlocked account."""
    signature = await context.node.workers.run(sign_message, message, _key(context, address))
    return "0x" + signature.hex()


@registry.method("personal_sign", DATA)
async def personal_sign(context: Context, message: DataArg, address: AddressArg) -> str:
    """Return the EIP-191 signature of a message; ethers asks for it under this name, message first."""
    signature = await context.node.workers.run(sign_message, message, _key(context, address))
    return "0x" + signature.hex()


@registry.method("eth_signTypedData_v4", DATA)
async def sign_typed(context: Context, address: AddressArg, document: JsonArg) -> str:
    """Return the EIP-712 signature of a typed document by an unlocked account."""
    key = _key(context, address)
    try:
        # Wallets send the document as an object or as its JSON text.
        decoded = msgspec.json.decode(document)
        if isinstance(decoded, str):
            decoded = msgspec.json.decode(decoded)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        decoded = None
    if not isinstance(decoded, dict):
        raise invalid_params("invalid argument 1: typed data must be an object or its JSON text")
    return "0x" + (await context.node.workers.run(sign_typed_data, decoded, key)).hex()


# ---------------------------------------------------------------- mining, snapshots, time


@registry.method("evm_mine", {"type": "string"})
async def mine(context: Context, options: _MineArg = (None, 1)) -> str:
    """Mine one block, or several; the first gets the given timestamp in seconds."""
    timestamp, blocks = options
    for place in range(blocks):
        await context.node.chain.mine(timestamp if place == 0 else None)
    return "0x0"


@registry.method("evm_snapshot", QUANTITY)
def snapshot(context: Context) -> str:
    """Remember the head and the clock, and return the snapshot's number."""
    dev = _dev(context)
    if len(dev.snapshots) >= MAX_SNAPSHOTS:
        raise limit_exceeded(f"too many snapshots: at most {MAX_SNAPSHOTS}; revert to an earlier one")
    dev.last_snapshot += 1
    dev.snapshots[dev.last_snapshot] = context.node.chain.head.hash
    return hex(dev.last_snapshot)


@registry.method("evm_revert", BOOLEAN)
async def revert(context: Context, number: QuantityArg) -> bool:
    """Go back to a snapshot, which is used up with all later ones; false if there is none of this number."""
    dev = _dev(context)
    block_hash = dev.snapshots.get(number)
    if block_hash is None:
        return False
    for later in [one for one in dev.snapshots if one >= number]:
        del dev.snapshots[later]
    await context.node.chain.revert_to(block_hash)
    return True


@registry.method("evm_increaseTime", {"type": "integer"})
def increase_time(context: Context, seconds: CountArg) -> int:
    """Move the clock of future blocks forward and return how far it is ahead in total, in seconds."""
    return context.node.chain.increase_time(seconds)


@registry.method("evm_setNextBlockTimestamp", nullable(BOOLEAN))
def set_next_block_timestamp(context: Context, timestamp: CountArg) -> None:
    """Give the next block this timestamp, in seconds; later blocks follow from there."""
    context.node.chain.set_next_timestamp(timestamp)
