"""What a transport is started with. Every number bounds what peers can take of this node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec

MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic of gossip.

    Attributes
    ----------
    name
        The same for everybody on the network.
    bytes_max
        The longest message.
    weight
        How much its first deliveries and its invalid messages count in a peer's score, beside other topics.
    """

    name: str
    bytes_max: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ProtocolSpec:
    """A protocol of requests and answers.

    Attributes
    ----------
    name
        Beginning with ``/``.
    request_bytes_max, response_bytes_max
        The longest request and answer.
    timeout_seconds
        From the opened stream to the last byte of the answer, for whoever asks and for whoever answers.
    """

    name: str
    request_bytes_max: int
    response_bytes_max: int
    timeout_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A protocol of two-way streams of bytes.

    Attributes
    ----------
    name
        Beginning with ``/``.
    idle_seconds
        A stream on which nothing moves for this long, in either direction, is reset.
    streams_per_peer
        How many one peer may have opened, and how many this node may have opened to one peer. All protocols
        together: at most a quarter of ``streams_per_connection``.
    buffer_bytes
        What has come on one stream and nobody has read; and what is handed to the swarm at a time.
    """

    name: str
    idle_seconds: float = 60.0
    streams_per_peer: int = 8
    buffer_bytes: int = MEBIBYTE // 4


@dataclass(frozen=True, slots=True)
class Budget:
    """So many in a second on average, and so many at once."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """How much peers may take, together and each.

    Attributes
    ----------
    connections
        In all; three quarters of them may be those that others have made.
    connections_per_ip
        That one internet address has made.
    pending_connections
        In the middle of their handshake, each way.
    streams_per_connection
        Open at a time, those of gossip and requests among them.
    connection_bytes
        Read from one connection; what is beyond waits at the sender.
    peer_messages
        New messages of one peer; those beyond are ignored, and beyond four times that cost it score.
    peer_requests
        Of one peer, and streams that it opens; those beyond are refused, and cost it score.
    peer_requests_open
        Requests of one peer that are being answered.
    peer_request_bytes
        Of these requests, and of their answers until the peer has them; those beyond are refused for now. At
        least two of the longest that any protocol allows.
    own_requests_open
        Own requests under way; to one peer at most half of ``streams_per_connection``.
    streams_open, own_streams_open
        Streams of bytes that peers have opened, and that this node has, in all.
    pending_messages, pending_message_bytes
        Messages that await their verdict. One peer may take a quarter of their number.
    queued_events
        Events that wait for the event loop.
    validation_seconds
        For a verdict; then the message is ignored.
    handshake_seconds
        For connecting, and for saying who one is.
    ping_seconds
        After which a peer that does not answer is disconnected.
    """

    connections: int = 64
    connections_per_ip: int = 16
    pending_connections: int = 32
    streams_per_connection: int = 128
    connection_bytes: Budget = Budget(16 * MEBIBYTE, 32 * MEBIBYTE)
    peer_messages: Budget = Budget(500, 2_000)
    peer_requests: Budget = Budget(50, 200)
    peer_requests_open: int = 16
    peer_request_bytes: int = 32 * MEBIBYTE
    own_requests_open: int = 256
    streams_open: int = 256
    own_streams_open: int = 256
    pending_messages: int = 8_192
    pending_message_bytes: int = 64 * MEBIBYTE
    queued_events: int = 8_192
    validation_seconds: float = 3.0
    handshake_seconds: float = 10.0
    ping_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class TransportConfig:
    """What a transport is started with.

    Attributes
    ----------
    network
        Which network this is: peers of another one are let go and left alone for a minute.
    agent
        What this program calls itself before its peers.
    topics, protocols, streams
        What is spoken. Nothing else can be published, asked, opened or served.
    listen
        Addresses like ``/ip4/0.0.0.0/tcp/30400``; port 0 lets the system choose.
    external
        Where others can reach this node, if that is not where it listens.
    bootstrap
        Addresses, with or without ``/p2p/`` and a peer's name, that are dialled again and again.
    mdns
        Whether to look for peers on the local network.
    peers_wanted
        Known peers are dialled while fewer than this are connected.
    redial_seconds
        Shortest and longest wait before a peer is dialled again; it doubles from failure to failure.
    heartbeat_seconds
        Between two rounds of gossipsub's housekeeping.
    ban_score, ban_seconds
        The score at which a peer is banned, and for how long.
    threads
        Of the transport.
    """

    network: str
    agent: str
    topics: tuple[TopicSpec, ...] = ()
    protocols: tuple[ProtocolSpec, ...] = ()
    streams: tuple[StreamSpec, ...] = ()
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    external: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    mdns: bool = False
    peers_wanted: int = 16
    redial_seconds: tuple[float, float] = (0.5, 60.0)
    heartbeat_seconds: float = 0.7
    ban_score: float = -200.0
    ban_seconds: float = 3_600.0
    threads: int = 1
    limits: TransportLimits = field(default_factory=TransportLimits)

    def encode(self) -> bytes:
        """Return the JSON that the transport is started with."""
        return msgspec.json.encode(self)
