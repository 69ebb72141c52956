"""Reading logs for ``eth_getLogs``, filters and subscriptions, within the limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from noria._core import InvalidRequest
from noria.rpc.errors import invalid_params, limit_exceeded, server_error
from noria.rpc.params import LATEST, LogFilter

if TYPE_CHECKING:
    from noria.rpc.context import Services
    from noria.rpc.feed import HeadChange

_encoder = msgspec.json.Encoder()
_log_objects = msgspec.json.Decoder(list[dict[str, Raw]])
_raw_list = msgspec.json.Decoder(list[Raw])
_TRUE = Raw(b"true")
_NO_LOGS = bytes(256)


async def query_logs(node: Services, wanted: LogFilter) -> Raw:
    """Return all logs that match, as a JSON array.

    Raises
    ------
    RpcError
        -32602 for a range that runs backwards, -32005 for one that is too long or matches too much,
        -32000 for an unknown block.
    """
    topics = list(wanted.topics)
    limit = node.config.max_logs
    if wanted.block_hash is not None:
        if node.engine.header(wanted.block_hash) is None:
            raise server_error("unknown block")
        read = node.engine.logs_json
        return await _limited(node, read, [wanted.block_hash], list(wanted.addresses), topics, limit)
    head = node.chain.head.number
    first = node.number_of(wanted.first or LATEST)
    last = node.number_of(wanted.last or LATEST)
    if (
        first > last
        and wanted.first is not None
        and wanted.last is not None
        and wanted.last.number is not None
    ):
        raise invalid_params(f"invalid block range params: from block {first} is after to block {last}")
    last = min(last, head)
    if first > last:
        return Raw(b"[]")
    if last - first >= node.config.max_log_blocks:
        raise limit_exceeded(
            f"block range too large: {last - first + 1} blocks, at most {node.config.max_log_blocks}; "
            "ask for a smaller range"
        )
    read_range = node.engine.logs_range_json
    return await _limited(node, read_range, first, last, list(wanted.addresses), topics, limit)


async def change_logs(node: Services, change: HeadChange, wanted: LogFilter) -> list[Raw]:
    """Return the matching logs of a head change: those taken back (``removed: true``), then new ones."""
    found: list[Raw] = []
    if change.removed:
        taken_back = await _of_blocks(node, change.removed[::-1], wanted)
        # Undone from the newest on.
        for entry in reversed(_log_objects.decode(taken_back)):
            entry["removed"] = _TRUE
            found.append(Raw(_encoder.encode(entry)))
    added = _within(change, wanted)
    if added:
        found += _raw_list.decode(await _of_blocks(node, added, wanted))
    return found


def _within(change: HeadChange, wanted: LogFilter) -> list[bytes]:
    """Return the added blocks that have logs and lie in the filter's range, where it has one by number."""
    first = wanted.first.number if wanted.first is not None and wanted.first.number is not None else 0
    last = wanted.last.number if wanted.last is not None else None
    return [
        header.hash
        for header in change.added
        if first <= header.number
        and (last is None or header.number <= last)
        and header.logs_bloom != _NO_LOGS
    ]


async def _of_blocks(node: Services, hashes: Sequence[bytes], wanted: LogFilter) -> bytes:
    if not hashes:
        return b"[]"
    found = await _limited(
        node,
        node.engine.logs_json,
        hashes,
        list(wanted.addresses),
        list(wanted.topics),
        node.config.max_logs,
    )
    return bytes(found)


async def _limited(node: Services, read: Callable[..., bytes], *args: object) -> Raw:
    try:
        return Raw(await node.workers.run(read, *args))
    except InvalidRequest as error:
        raise limit_exceeded(
            f"query returned more than {node.config.max_logs} results; ask for a smaller range or filter"
        ) from error
