"""``debug_*``: call traces and raw encodings."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from noria.rpc.context import Context
from noria.rpc.errors import RpcError, invalid_params, server_error
from noria.rpc.params import (
    DATA,
    LATEST,
    BlockArg,
    CallArg,
    HashArg,
    JsonArg,
    an_object,
    nullable,
)
from noria.rpc.registry import Registry

registry: Final = Registry()

_TRACE: Final = an_object("Call frame")


class _TracerConfig(msgspec.Struct, frozen=True):
    onlyTopCall: bool = False
    withLog: bool = False


class _TraceOptions(msgspec.Struct, frozen=True):
    tracer: str | None = None
    tracerConfig: _TracerConfig | None = None
    stateOverrides: Raw = Raw(b"null")
    blockOverrides: Raw = Raw(b"null")


def _options(text: bytes, place: int) -> _TraceOptions:
    try:
        options = msgspec.json.decode(text, type=_TraceOptions | None) or _TraceOptions()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise invalid_params(f"invalid argument {place}: {error}") from None
    if options.tracer != "callTracer":
        named = "the default struct logger" if options.tracer is None else f'tracer "{options.tracer[:64]}"'
        raise unsupported_tracer(named)
    return options


def unsupported_tracer(named: str) -> RpcError:
    """Return the error for a tracer that this node does not have (-32000)."""
    return server_error(f'{named} is not supported; set "tracer" to "callTracer"')


def _config(options: _TraceOptions) -> bytes:
    return msgspec.json.encode(options.tracerConfig or _TracerConfig())


def _overrides(value: Raw) -> bytes | None:
    text = bytes(value)
    return None if text == b"null" else text


@registry.method("debug_traceTransaction", _TRACE)
async def trace_transaction(context: Context, transaction_hash: HashArg, options: JsonArg = b"null") -> Raw:
    """Execute a mined transaction again and return its call frames (``callTracer``)."""
    chosen = _options(options, 1)
    node = context.node
    location = node.engine.transaction_location(transaction_hash)
    if location is None:
        raise server_error("transaction not found")
    trace = node.engine.trace_transaction_json
    return Raw(await node.workers.run(trace, location[0], location[2], _config(chosen)))


@registry.method("debug_traceCall", _TRACE)
async def trace_call(
    context: Context, transaction: CallArg, block: BlockArg = LATEST, options: JsonArg = b"null"
) -> Raw:
    """Execute a call on the state of a block and return its call frames (``callTracer``)."""
    chosen = _options(options, 2)
    node = context.node
    assert transaction is not None
    frames = await node.workers.run(
        node.engine.trace_call_json,
        node.state_hash(block),
        transaction,
        _config(chosen),
        gas_cap=node.config.call_gas_cap,
        state_overrides=_overrides(chosen.stateOverrides),
        block_overrides=_overrides(chosen.blockOverrides),
    )
    return Raw(frames)


@registry.method("debug_getRawTransaction", nullable(DATA))
def get_raw_transaction(context: Context, transaction_hash: HashArg) -> str:
    """Return a transaction of the canonical chain or of the mempool in its network encoding."""
    engine = context.node.engine
    location = engine.transaction_location(transaction_hash)
    if location is not None:
        return "0x" + (engine.raw_transaction(location[0], location[2]) or b"").hex()
    pending = context.node.chain.mempool.get(transaction_hash)
    return "0x" if pending is None else "0x" + pending.raw.hex()


@registry.method("debug_getRawBlock", DATA)
async def get_raw_block(context: Context, block: BlockArg) -> str:
    """Return a block in RLP."""
    node = context.node
    found = await node.workers.run(node.engine.block_rlp, node.state_hash(block))
    if found is None:
        raise server_error("block not found")
    return "0x" + found.hex()
