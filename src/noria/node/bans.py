"""Telling the operator whom the transport has sent away, and what to do where it is this node that errs."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from noria.network.peers import FOREIGN, PeerEventKind, PeerId
from noria.network.transport import TransportProtocol
from noria.primitives.background import BackgroundTasks
from noria.primitives.line_budget import LineBudget
from noria.primitives.subscriptions import SubscriptionClosed

_ANOTHER_CHAIN: Final = "compare chain.json with that of the peer: another specification is another chain"

_log = structlog.get_logger(__name__)


class BanWatch:
    """Writes down each ban, and says so where a peer is on another chain.

    Parameters
    ----------
    transport
        Who bans.
    """

    def __init__(self, transport: TransportProtocol) -> None:
        self._transport = transport
        self._lines = LineBudget()
        self._tasks = BackgroundTasks("bans")

    def start(self) -> None:
        """Begin with those that are banned already."""
        self._tasks.spawn(self._watch())

    async def stop(self) -> None:
        """Tell no more."""
        await self._tasks.stop()

    async def _watch(self) -> None:
        while True:
            events = self._transport.events()
            for ban in self._transport.bans():
                self._tell(ban.peer, ban.reason)
            try:
                async for event in events:
                    if event.kind is PeerEventKind.BANNED:
                        self._tell(event.peer, event.reason)
                    elif event.kind is PeerEventKind.LAGGED:
                        break
            except SubscriptionClosed as closed:
                if closed.reason == "transport-closed":
                    return

    def _tell(self, peer: PeerId, reason: str) -> None:
        kind = "peer_on_another_chain" if reason.startswith(FOREIGN) else "peer_banned"
        left_out = self._lines.take(kind, asyncio.get_running_loop().time())
        if left_out is None:
            return
        advice = {"advice": _ANOTHER_CHAIN} if kind == "peer_on_another_chain" else {}
        _log.warning(kind, peer=peer, reason=reason, left_out=left_out, **advice)
