"""What work is called on the wire: the one protocol of `noria.market.messages`, for any transport."""

from __future__ import annotations

from typing import Final

from noria.market.messages import MESSAGE_BYTES_MAX, WORK_SECONDS
from noria.network.config import Budget, ProtocolSpec, TransportLimits
from noria.primitives.types import Hash32

WORK_LIMITS: Final = TransportLimits(peer_requests=Budget(1_000, 2_000), peer_requests_open=32)
"""Limits of a transport that works for others, or has others work: results come one request after the other,
so that such a peer asks more often than one that only follows a chain."""


def work_protocol(genesis_root: Hash32) -> ProtocolSpec:
    """Return the protocol of a chain's market, for `noria.network.config.TransportConfig`."""
    name = f"/noria/{genesis_root.hex()[:16]}/work/1"
    return ProtocolSpec(name, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX, WORK_SECONDS)
