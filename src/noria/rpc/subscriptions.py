"""``eth_subscribe``: what a WebSocket connection has asked to be told."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from noria._core import Header, Transaction
from noria.primitives.subscriptions import SubscriptionClosed
from noria.rpc.errors import limit_exceeded
from noria.rpc.logs import change_logs
from noria.rpc.params import LogFilter

if TYPE_CHECKING:
    from noria.node.view import NodeView
    from noria.rpc.context import Services
    from noria.rpc.feed import HeadChange

_log = structlog.get_logger(__name__)
_CHANGES_WAITING: Final = 1_024


@lru_cache(maxsize=64)
def _header_json(header: Header) -> bytes:
    return header.to_json()


def notification(name: str, result: bytes) -> bytes:
    """Return the message that tells a subscriber one result."""
    return (
        b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"'
        + name.encode()
        + b'","result":'
        + result
        + b"}}"
    )


@dataclass(slots=True)
class _Subscription:
    name: str
    stop: Callable[[], None]


@dataclass(slots=True)
class Subscriptions:
    """The subscriptions of one connection.

    ``send`` queues a message for the client and never waits. Nothing is sent for a subscription before
    `release`: the client must learn its identifier first.
    """

    node: Services
    send: Callable[[bytes], None]
    limit: int
    _active: dict[str, _Subscription] = field(default_factory=dict)
    _held: dict[str, list[bytes]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of live subscriptions."""
        return len(self._active)

    def new_heads(self) -> str:
        """Subscribe to the headers of new canonical blocks."""
        name = self._new_name()

        def changed(change: HeadChange) -> None:
            for header in change.added:
                self._tell(name, _header_json(header))

        self.node.feed.on_heads(changed)
        self._active[name] = _Subscription(name, lambda: self.node.feed.off_heads(changed))
        return name

    def new_pending(self, full: bool) -> str:
        """Subscribe to transactions that become pending: their hashes, or the whole objects."""
        name = self._new_name()

        def arrived(transactions: list[Transaction]) -> None:
            for transaction in transactions:
                self._tell(
                    name, transaction.to_json() if full else b'"0x' + transaction.hash.hex().encode() + b'"'
                )

        self.node.feed.on_pending(arrived)
        self._active[name] = _Subscription(name, lambda: self.node.feed.off_pending(arrived))
        return name

    def logs(self, wanted: LogFilter) -> str:
        """Subscribe to logs of new blocks and, after a reorganisation, to those taken back."""
        name = self._new_name()
        # Logs are read in a thread, one head change after the other, so that their order is the chain's.
        changes: asyncio.Queue[HeadChange] = asyncio.Queue(_CHANGES_WAITING)

        def changed(change: HeadChange) -> None:
            try:
                changes.put_nowait(change)
            except asyncio.QueueFull:
                self.cancel(name)

        async def follow() -> None:
            while True:
                for entry in await change_logs(self.node, await changes.get(), wanted):
                    self._tell(name, bytes(entry))

        async def guarded() -> None:
            try:
                await follow()
            except Exception as error:
                _log.warning("rpc_log_subscription_ended", error=repr(error))
                self.cancel(name)

        task = asyncio.get_running_loop().create_task(guarded(), name=f"rpc-logs-{name}")

        def stop() -> None:
            self.node.feed.off_heads(changed)
            task.cancel()

        self.node.feed.on_heads(changed)
        self._active[name] = _Subscription(name, stop)
        return name

    def finality(self, view: NodeView) -> str:
        """Subscribe to what becomes justified and final."""
        name = self._new_name()
        events = view.subscribe_finality()

        async def follow() -> None:
            try:
                async for event in events:
                    self._tell(name, msgspec.json.encode(view.finality_event(event)))
            except SubscriptionClosed:
                self.cancel(name)

        task = asyncio.get_running_loop().create_task(follow(), name=f"rpc-finality-{name}")

        def stop() -> None:
            events.close()
            task.cancel()

        self._active[name] = _Subscription(name, stop)
        return name

    def release(self) -> None:
        """Send what has come for new subscriptions since they were made; hold nothing back from now on."""
        for name, messages in self._held.items():
            if name in self._active:
                for message in messages:
                    self.send(message)
        self._held.clear()

    def cancel(self, name: str) -> bool:
        """End a subscription; false if this connection has none of this name."""
        found = self._active.pop(name, None)
        if found is None:
            return False
        self._held.pop(name, None)
        found.stop()
        return True

    def close(self) -> None:
        """End all subscriptions."""
        for name in list(self._active):
            self.cancel(name)

    def _new_name(self) -> str:
        if len(self._active) >= self.limit:
            raise limit_exceeded(f"too many subscriptions: at most {self.limit} per connection")
        self.node.feed.catch_up()
        name = hex(secrets.randbits(127) | 1 << 127)
        self._held[name] = []
        return name

    def _tell(self, name: str, result: bytes) -> None:
        message = notification(name, result)
        held = self._held.get(name)
        if held is None:
            self.send(message)
        elif len(held) < _CHANGES_WAITING:
            held.append(message)
        else:
            self.cancel(name)
