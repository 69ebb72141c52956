"""Asking again where a peer says: not now."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from noria.network.errors import OverBudget
from noria.network.peers import PeerId

PAUSE_SECONDS: Final = 0.5
PAUSES_MAX: Final = 20
"""An honest peer that has too much to do has room again after a moment."""


class Asking(Protocol):
    """The part of a transport that asks."""

    async def request(
        self, peer: PeerId, protocol: str, data: bytes, *, timeout_seconds: float | None = None
    ) -> bytes:
        """Ask a connected peer."""
        ...


async def request_patiently(
    transport: Asking,
    peer: PeerId,
    protocol: str,
    data: bytes,
    *,
    timeout_seconds: float | None = None,
    pauses_max: int = PAUSES_MAX,
) -> bytes:
    """Ask a peer, and again after a pause as long as it says that its budget is used up.

    Parameters
    ----------
    transport, peer, protocol, data, timeout_seconds
        As of `TransportProtocol.request`; the time is each attempt's.
    pauses_max
        Of `PAUSE_SECONDS`, before its refusal is final.

    Raises
    ------
    TransportError
        As `TransportProtocol.request` does; `OverBudget` where the peer went on to say so.
    """
    for _ in range(pauses_max):
        try:
            return await transport.request(peer, protocol, data, timeout_seconds=timeout_seconds)
        except OverBudget:
            await asyncio.sleep(PAUSE_SECONDS)
    return await transport.request(peer, protocol, data, timeout_seconds=timeout_seconds)
