"""``eth_*``: logs, polled filters, and subscriptions over WebSocket."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from noria.rpc.context import Context
from noria.rpc.errors import METHOD_NOT_FOUND, ParamError, RpcError, invalid_params
from noria.rpc.logs import query_logs
from noria.rpc.params import (
    BOOLEAN,
    TEXT,
    FilterArg,
    FilterObject,
    JsonArg,
    LogFilter,
    TextArg,
    an_object,
    array_of,
    log_filter,
)
from noria.rpc.registry import Registry

registry: Final = Registry()

_LOGS: Final = array_of(an_object("Log"))


@registry.method("eth_getLogs", _LOGS)
async def get_logs(context: Context, wanted: FilterArg) -> Raw:
    """Return all logs that match a filter."""
    return await query_logs(context.node, wanted)


@registry.method("eth_newFilter", TEXT)
def new_filter(context: Context, wanted: FilterArg) -> str:
    """Install a filter for logs and return its identifier."""
    return context.node.filters.install(context.node, context.owner, "logs", wanted)


@registry.method("eth_newBlockFilter", TEXT)
def new_block_filter(context: Context) -> str:
    """Install a filter for the hashes of new blocks and return its identifier."""
    return context.node.filters.install(context.node, context.owner, "blocks")


@registry.method("eth_newPendingTransactionFilter", TEXT)
def new_pending_filter(context: Context) -> str:
    """Install a filter for the hashes of pending transactions and return its identifier."""
    return context.node.filters.install(context.node, context.owner, "pending")


@registry.method("eth_getFilterChanges", array_of({}))
async def get_filter_changes(context: Context, identifier: TextArg) -> list[str] | list[Raw]:
    """Return what a filter has seen since it was last asked."""
    return await context.node.filters.changes(context.node, identifier)


@registry.method("eth_getFilterLogs", _LOGS)
async def get_filter_logs(context: Context, identifier: TextArg) -> Raw:
    """Return all logs that an installed log filter matches."""
    return await context.node.filters.logs(context.node, identifier)


@registry.method("eth_uninstallFilter", BOOLEAN)
def uninstall_filter(context: Context, identifier: TextArg) -> bool:
    """Remove a filter; false if there is none of this name."""
    return context.node.filters.uninstall(identifier)


# ---------------------------------------------------------------- subscriptions


@registry.method("eth_subscribe", TEXT)
def subscribe(context: Context, kind: TextArg, options: JsonArg = b"null") -> str:
    """Subscribe to newHeads, logs, newPendingTransactions or finality and return the identifier."""
    subscriptions = context.subscriptions
    if subscriptions is None:
        raise _no_notifications()
    if kind == "newHeads":
        return subscriptions.new_heads()
    if kind == "logs":
        return subscriptions.logs(_log_options(options))
    if kind == "newPendingTransactions":
        return subscriptions.new_pending(bool(_option(options, bool, False)))
    if kind == "finality" and context.node.consensus is not None:
        return subscriptions.finality(context.node.consensus)
    raise RpcError(METHOD_NOT_FOUND, f'no "{kind[:64]}" subscription in eth namespace')


@registry.method("eth_unsubscribe", BOOLEAN)
def unsubscribe(context: Context, identifier: TextArg) -> bool:
    """End a subscription of this connection."""
    if context.subscriptions is None:
        raise _no_notifications()
    if not context.subscriptions.cancel(identifier):
        raise RpcError(-32000, "subscription not found")
    return True


def _no_notifications() -> RpcError:
    return RpcError(
        METHOD_NOT_FOUND, "notifications not supported: subscriptions need a WebSocket connection"
    )


def _log_options(options: bytes) -> LogFilter:
    try:
        return log_filter(_option(options, FilterObject, FilterObject()))
    except ParamError as error:
        raise invalid_params(f"invalid argument 1: {error}") from None


def _option(options: bytes, kind: Any, default: Any) -> Any:
    try:
        found = msgspec.json.decode(options, type=kind | None)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise invalid_params(f"invalid argument 1: {error}") from None
    return default if found is None else found
