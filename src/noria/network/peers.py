"""What is known of peers, and what is told about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NewType

PeerId = NewType("PeerId", str)
"""A peer's name, made from its key: ``12D3KooW…``."""

FOREIGN: Final = "it is of the network "
"""How the reason of a ban begins where the peer follows another network."""
EVENTS_CAPACITY: Final = 1_024
"""Events kept for a subscriber that does not read."""


class PeerEventKind(Enum):
    """What can happen to a peer."""

    CONNECTED = "connected"
    IDENTIFIED = "identified"
    """It has said what it runs and speaks; `Transport.peers` tells."""
    DISCONNECTED = "disconnected"
    BANNED = "banned"
    UNBANNED = "unbanned"
    LISTENING = "listening"
    """This node listens on a further address."""
    LAGGED = "lagged"
    """Events were lost, because the event loop was too busy: read `Transport.peers` again."""


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """Something that has happened to a peer.

    Attributes
    ----------
    kind
        What it is.
    peer
        To whom; of ``LISTENING`` and ``LAGGED`` this node itself.
    address
        The other end of the connection; empty where there is none.
    reason
        Why, where there is a reason.
    """

    kind: PeerEventKind
    peer: PeerId
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A connected peer.

    Attributes
    ----------
    peer
        Its name.
    address
        The other end of the connection.
    listens
        Where it says that it can be reached, as far as that is believable.
    outbound
        Whether this node has dialled it.
    agent, protocols
        What it says it runs and speaks; empty until it has been identified.
    score
        What gossip and the application think of it together, at most a second old.
    round_trip_seconds
        Of the last ping.
    connected_seconds
        Since the first connection.
    """

    peer: PeerId
    address: str
    listens: tuple[str, ...]
    outbound: bool
    agent: str
    protocols: tuple[str, ...]
    score: float
    round_trip_seconds: float | None
    connected_seconds: float


@dataclass(frozen=True, slots=True)
class Ban:
    """A banned peer: it is not connected to until its time is up."""

    peer: PeerId
    seconds_left: float
    reason: str
