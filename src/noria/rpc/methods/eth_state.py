"""``eth_*``: accounts, storage, and executions that change nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from noria._core import CallResult, Engine
from noria.rpc.context import Context
from noria.rpc.dispatch import rpc_error
from noria.rpc.errors import RpcError, response_too_large, reverted, server_error, timed_out
from noria.rpc.params import (
    DATA,
    HASH,
    LATEST,
    QUANTITY,
    AddressArg,
    BlockArg,
    BlockRef,
    CallArg,
    OverridesArg,
    SlotArg,
    SlotsArg,
    an_object,
)
from noria.rpc.registry import Registry

registry: Final = Registry()


@registry.method("eth_getBalance", QUANTITY)
def get_balance(context: Context, address: AddressArg, block: BlockArg) -> str:
    """Return an account's balance in wei."""
    node = context.node
    return hex(node.engine.account(node.state_hash(block), address).balance)


@registry.method("eth_getTransactionCount", QUANTITY)
def get_transaction_count(context: Context, address: AddressArg, block: BlockArg) -> str:
    """Return an account's next nonce; ``pending`` counts its transactions in the mempool."""
    node = context.node
    nonce = node.engine.account(node.state_hash(block), address).nonce
    if block.tag == "pending":
        nonce = node.chain.mempool.pending_nonce(address, nonce)
    return hex(nonce)


@registry.method("eth_getCode", DATA)
def get_code(context: Context, address: AddressArg, block: BlockArg) -> str:
    """Return an account's code."""
    node = context.node
    return "0x" + node.engine.code(node.state_hash(block), address).hex()


@registry.method("eth_getStorageAt", HASH)
def get_storage_at(context: Context, address: AddressArg, slot: SlotArg, block: BlockArg) -> str:
    """Return the 32 bytes of a storage slot."""
    node = context.node
    return "0x" + node.engine.storage(node.state_hash(block), address, slot).hex().rjust(64, "0")


@registry.method("eth_getProof", an_object("Account proof"))
async def get_proof(context: Context, address: AddressArg, slots: SlotsArg, block: BlockArg) -> Raw:
    """Return Merkle proofs of an account and of some of its storage slots."""
    node = context.node
    return Raw(await node.workers.run(node.engine.proof_json, node.state_hash(block), address, slots))


# ---------------------------------------------------------------- read-only executions


def _answer(result: CallResult) -> str:
    if result.status == "success":
        return "0x" + result.output.hex()
    raise failed_execution(result)


def failed_execution(result: CallResult) -> RpcError:
    """Return the error of an execution that did not succeed: 3 for a revert, else -32000 in geth's words."""
    return reverted(result.output) if result.status == "revert" else server_error(result.error)


def _call_each(
    engine: Engine,
    calls: Sequence[tuple[bytes, bytes, bytes | None, bytes | None]],
    gas_cap: int,
    deadline: float,
    max_characters: int,
) -> list[Any]:
    """Answer several calls in one thread; those for which no time or no room in the answer is left fail."""
    answers: list[Any] = []
    characters = 0
    for block_hash, request, state_overrides, block_overrides in calls:
        if time.monotonic() > deadline:
            answers.append(timed_out())
            continue
        if characters > max_characters:
            answers.append(response_too_large())
            continue
        try:
            result = engine.call(
                block_hash,
                request,
                gas_cap=gas_cap,
                state_overrides=state_overrides,
                block_overrides=block_overrides,
            )
            answers.append(_answer(result))
            characters += len(answers[-1])
        except Exception as error:
            answers.append(rpc_error(error, "eth_call"))
    return answers


async def _call_together(context: Context, calls: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
    node = context.node
    deadline = time.monotonic() + node.config.request_seconds
    answers: list[Any] = [None] * len(calls)
    last: BlockRef | None = None
    block_hash = b""
    ready, places = [], []
    for place, (request, block, state_overrides, block_overrides) in enumerate(calls):
        try:
            if block is not last:
                block_hash, last = node.state_hash(block), block
        except Exception as error:
            answers[place] = rpc_error(error, "eth_call")
            continue
        ready.append((block_hash, request, state_overrides, block_overrides))
        places.append(place)
    cap, limit = node.config.call_gas_cap, node.config.max_response_bytes
    results = await node.workers.run(_call_each, node.engine, ready, cap, deadline, limit)
    for place, result in zip(places, results, strict=True):
        answers[place] = result
    return answers


@registry.method("eth_call", DATA, batch=_call_together)
async def call(
    context: Context,
    transaction: CallArg,
    block: BlockArg = LATEST,
    state_overrides: OverridesArg = None,
    block_overrides: OverridesArg = None,
) -> str:
    """Execute a call on the state of a block without changing it and return its output."""
    node = context.node
    assert transaction is not None
    block_hash = node.state_hash(block)
    cap = node.config.call_gas_cap
    kind = _kind(transaction) if state_overrides is None and block_overrides is None else None
    if kind is not None:
        result = await node.inline.run(kind, node.engine.call, block_hash, transaction, gas_cap=cap)
    else:
        result = await node.workers.run(
            node.engine.call,
            block_hash,
            transaction,
            gas_cap=cap,
            state_overrides=state_overrides,
            block_overrides=block_overrides,
        )
    return _answer(result)


class _Target(msgspec.Struct, frozen=True):
    to: str = ""
    data: str = ""
    input: str = ""


_target: Final = msgspec.json.Decoder(_Target)


def _kind(transaction: bytes) -> str | None:
    """Return what calls of about the same cost have in common: the contract and its function."""
    try:
        target = _target.decode(transaction)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return target.to + (target.data or target.input)[:10] if len(target.to) == 42 else None


@registry.method("eth_estimateGas", QUANTITY)
async def estimate_gas(
    context: Context, transaction: CallArg, block: BlockArg = LATEST, state_overrides: OverridesArg = None
) -> str:
    """Return the least gas limit with which a transaction succeeds on the state of a block."""
    assert transaction is not None
    return hex(await least_gas(context, transaction, block, state_overrides))


async def least_gas(
    context: Context, transaction: bytes, block: BlockRef = LATEST, state_overrides: bytes | None = None
) -> int:
    """Return the least gas limit with which a transaction succeeds.

    Raises
    ------
    RpcError
        3 if it reverts whatever the limit, -32000 if it fails otherwise.
    """
    node = context.node
    cap = node.config.call_gas_cap
    block_hash = node.state_hash(block)
    kind = _kind(transaction) if state_overrides is None else None
    if kind is not None:
        estimate = node.engine.estimate_gas
        gas, result = await node.inline.run(
            ("estimate", kind), estimate, block_hash, transaction, gas_cap=cap
        )
    else:
        gas, result = await node.workers.run(
            node.engine.estimate_gas, block_hash, transaction, gas_cap=cap, state_overrides=state_overrides
        )
    if result.status == "success":
        return gas
    if result.status == "halt" and result.error.startswith("out of gas"):
        raise server_error(f"gas required exceeds allowance ({result.gas_used or cap})")
    raise failed_execution(result)


@registry.method("eth_createAccessList", an_object("Access list result"))
async def create_access_list(context: Context, transaction: CallArg, block: BlockArg = LATEST) -> Raw:
    """Return the accounts and slots that a transaction touches, and its gas with that access list."""
    node = context.node
    assert transaction is not None
    cap = node.config.call_gas_cap
    return Raw(
        await node.workers.run(node.engine.access_list_json, node.state_hash(block), transaction, gas_cap=cap)
    )
