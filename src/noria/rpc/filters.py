"""Filters that clients poll (``eth_newFilter`` and its kin).

A filter is a position in the feed's journal, not a list of what it has seen, so that one that is never polled
costs nothing but its entry.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from msgspec import Raw

from noria.rpc.errors import limit_exceeded, server_error
from noria.rpc.logs import change_logs, query_logs
from noria.rpc.params import LogFilter

if TYPE_CHECKING:
    from noria.rpc.context import Services

Kind = Literal["logs", "blocks", "pending"]


@dataclass(slots=True)
class _Filter:
    kind: Kind
    owner: str
    position: int
    expires: float
    logs: LogFilter | None


class Filters:
    """All filters of a server.

    Parameters
    ----------
    max_per_owner, max_total
        Filters that may be installed at a time.
    idle_seconds
        A filter that is not polled for this long is uninstalled.
    now
        A monotonic clock, in seconds.
    """

    def __init__(
        self, max_per_owner: int, max_total: int, idle_seconds: float, now: Callable[[], float]
    ) -> None:
        self._max_per_owner = max_per_owner
        self._max_total = max_total
        self._idle_seconds = idle_seconds
        self._now = now
        self._filters: dict[str, _Filter] = {}

    def __len__(self) -> int:
        """Return the number of installed filters."""
        return len(self._filters)

    def install(self, node: Services, owner: str, kind: Kind, logs: LogFilter | None = None) -> str:
        """Install a filter that sees what happens from now on, and return its identifier.

        Raises
        ------
        RpcError
            -32005 if the owner or the server has too many.
        """
        self.expire()
        node.feed.catch_up()
        if sum(one.owner == owner for one in self._filters.values()) >= self._max_per_owner:
            raise limit_exceeded(f"too many filters: at most {self._max_per_owner}; uninstall some")
        if len(self._filters) >= self._max_total:
            raise limit_exceeded("too many filters on this node, try again later")
        position = node.feed.pending.end if kind == "pending" else node.feed.heads.end
        # Clients over HTTP share no connection with their filters: the identifier is what keeps others out.
        name = hex(secrets.randbits(127) | 1 << 127)
        self._filters[name] = _Filter(kind, owner, position, self._now() + self._idle_seconds, logs)
        return name

    def uninstall(self, name: str) -> bool:
        """Remove a filter; false if there is none of this name."""
        return self._filters.pop(name, None) is not None

    def forget_owner(self, owner: str) -> None:
        """Remove all filters of a connection that has closed."""
        for name in [name for name, one in self._filters.items() if one.owner == owner]:
            del self._filters[name]

    def expire(self) -> None:
        """Remove the filters that nobody has polled."""
        now = self._now()
        for name in [name for name, one in self._filters.items() if one.expires <= now]:
            del self._filters[name]

    async def changes(self, node: Services, name: str) -> list[str] | list[Raw]:
        """Return what a filter has seen since it was last asked.

        Raises
        ------
        RpcError
            -32000 ``filter not found``, also for a filter so far behind that its changes are forgotten.
        """
        one = self._find(name)
        node.feed.catch_up()
        if one.kind == "pending":
            hashes = node.feed.pending.since(one.position)
            if hashes is None:
                raise self._lost(name)
            one.position = node.feed.pending.end
            return ["0x" + entry.hex() for entry in hashes]
        changes = node.feed.heads.since(one.position)
        if changes is None:
            raise self._lost(name)
        one.position = node.feed.heads.end
        if one.kind == "blocks":
            return ["0x" + header.hash.hex() for change in changes for header in change.added]
        assert one.logs is not None
        found: list[Raw] = []
        for change in changes:
            found += await change_logs(node, change, one.logs)
            if len(found) > node.config.max_logs:
                raise limit_exceeded(
                    f"the filter has more than {node.config.max_logs} results; install it again"
                )
        return found

    async def logs(self, node: Services, name: str) -> Raw:
        """Return all logs that a log filter matches, in its own block range.

        Raises
        ------
        RpcError
            -32000 ``filter not found``, also for a filter of another kind; those of `query_logs`.
        """
        one = self._find(name)
        if one.logs is None:
            raise server_error("filter not found")
        return await query_logs(node, one.logs)

    def _find(self, name: str) -> _Filter:
        self.expire()
        one = self._filters.get(name)
        if one is None:
            raise server_error("filter not found")
        one.expires = self._now() + self._idle_seconds
        return one

    def _lost(self, name: str) -> Exception:
        del self._filters[name]
        return server_error("filter not found: it was not polled for too long, install it again")
