"""Between this node's event loop and its peers.

`Transport` runs a libp2p swarm on threads of its own; its events come to the event loop in batches. Nothing
here blocks the loop, and every wait has a limit. `TransportProtocol` is the same without the swarm: what the
rooms above code against, so that a simulation can stand in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Final, Protocol, Self

import structlog

from noria._core import (
    Network,
    NetworkError,
    NetworkMessage,
    NetworkNotice,
    NetworkOutcome,
    NetworkRequest,
    NetworkStream,
)
from noria._core import peer_id as core_peer_id
from noria.network.config import TransportConfig
from noria.network.errors import Refusal, StreamTimeout, not_asked
from noria.network.outcomes import Outcomes, asked
from noria.network.peers import EVENTS_CAPACITY, Ban, PeerEvent, PeerEventKind, PeerId, PeerInfo
from noria.network.streams import Stream, StreamHandler, have
from noria.primitives.background import BackgroundTasks
from noria.primitives.subscriptions import Subscription, Topic

BATCH: Final = 256
"""Events that are handled before the event loop may do something else."""
GRACE_SECONDS: Final = 5.0
"""How much later than the swarm's own limit a wait ends, should the swarm not have ended it."""
COMMAND_SECONDS: Final = 15.0
"""Longest wait for something that the swarm does by itself."""

_log = structlog.get_logger(__name__)


class Verdict(Enum):
    """What was found of a message."""

    ACCEPT = "accept"
    """It goes on to others."""
    IGNORE = "ignore"
    """It goes no further, and nobody is blamed."""
    REJECT = "reject"
    """It goes no further, and those who sent it are scored down. Only for what is wrong for ever."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of gossip. ``source`` is who passed it on, seldom who made it."""

    topic: str
    source: PeerId
    data: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """What a peer asks."""

    protocol: str
    peer: PeerId
    data: bytes


Validator = Callable[[Message], Verdict | Awaitable[Verdict]]
"""Judges a message, at once or later. If it fails, or takes longer than it may, the message is ignored."""
Handler = Callable[[Request], Awaitable[bytes]]
"""Answers a request, or raises `Refusal`."""


class TransportProtocol(Protocol):
    """What a node needs of its network. See `Transport` for what each method means."""

    @property
    def peer_id(self) -> PeerId: ...  # noqa: D102
    async def publish(self, topic: str, data: bytes) -> bool: ...  # noqa: D102
    def subscribe(self, topic: str, validator: Validator) -> None: ...  # noqa: D102
    def unsubscribe(self, topic: str) -> None: ...  # noqa: D102
    async def request(  # noqa: D102
        self, peer: PeerId, protocol: str, data: bytes, *, timeout_seconds: float | None = None
    ) -> bytes: ...
    def serve(self, protocol: str, handler: Handler) -> None: ...  # noqa: D102
    async def open_stream(  # noqa: D102
        self, peer: PeerId, protocol: str, *, timeout_seconds: float | None = None
    ) -> Stream: ...
    def accept_streams(self, protocol: str, handler: StreamHandler) -> None: ...  # noqa: D102
    def events(self) -> Subscription[PeerEvent]: ...  # noqa: D102
    def peers(self) -> Sequence[PeerInfo]: ...  # noqa: D102
    async def dial(self, address: str) -> PeerId: ...  # noqa: D102
    def disconnect(self, peer: PeerId) -> None: ...  # noqa: D102
    def score(self, peer: PeerId, delta: float, reason: str) -> None: ...  # noqa: D102
    def ban(self, peer: PeerId, seconds: float, reason: str) -> None: ...  # noqa: D102
    def unban(self, peer: PeerId) -> None: ...  # noqa: D102
    def bans(self) -> Sequence[Ban]: ...  # noqa: D102
    async def close(self) -> None: ...  # noqa: D102


def peer_id(seed: bytes) -> PeerId:
    """Return the name of the peer that an identity's seed of 32 bytes makes.

    Raises
    ------
    InvalidTransportConfig
        Where there are not 32 bytes.
    """
    try:
        return PeerId(core_peer_id(seed))
    except NetworkError as error:
        raise not_asked(error) from None


class Transport:
    """A node among its peers; made by `start`, an asynchronous context manager.

    Its methods belong to the event loop on which it was started.

    Examples
    --------
    >>> async def example(seed: bytes, config: TransportConfig) -> None:
    ...     async with await Transport.start(seed, config) as transport:
    ...         transport.subscribe("blocks", lambda message: Verdict.ACCEPT)
    ...         await transport.publish("blocks", b"block")
    """

    def __init__(self, network: Network, config: TransportConfig) -> None:
        self.config = config
        self._network = network
        self._loop = asyncio.get_running_loop()
        self._timeouts = {protocol.name: protocol.timeout_seconds for protocol in config.protocols}
        self._validators: dict[str, Validator] = {}
        self._handlers: dict[str, Handler] = {}
        self._acceptors: dict[str, StreamHandler] = {}
        self._outcomes = Outcomes()
        self._tasks = BackgroundTasks("network")
        self._feed: Topic[PeerEvent] = Topic()
        self._closing: asyncio.Task[None] | None = None
        self._descriptor = network.descriptor
        if self._descriptor is not None:
            self._loop.add_reader(self._descriptor, self._fetch)

    @classmethod
    async def start(cls, seed: bytes, config: TransportConfig) -> Self:
        """Start a swarm; it listens when this returns.

        Parameters
        ----------
        seed
            The identity: 32 secret bytes.
        config
            What is spoken, with whom, within which limits.

        Returns
        -------
        Transport

        Raises
        ------
        InvalidTransportConfig
            Where a value is out of its bounds.
        ListenFailed
            Where an address is taken, or not this machine's.
        TransportError
            Where the system gives no threads or sockets.
        """
        try:
            network = await asyncio.to_thread(Network, seed, config.encode())
        except NetworkError as error:
            raise not_asked(error) from None
        return cls(network, config)

    async def __aenter__(self) -> Self:
        """Return the transport, which is running already."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    async def close(self) -> None:
        """Say goodbye and stop all threads; whoever waits for something gets `TransportClosed`."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    @property
    def peer_id(self) -> PeerId:
        """Name of this node."""
        return PeerId(self._network.peer_id)

    @property
    def addresses(self) -> list[str]:
        """Where this node listens, with its name."""
        return self._network.listening

    # ------------------------------------------------------------ gossip

    async def publish(self, topic: str, data: bytes) -> bool:
        """Send a message to everybody.

        Parameters
        ----------
        topic
            One of the configuration.
        data
            At most as many bytes as the topic allows.

        Returns
        -------
        bool
            Whether at least one peer was there to be sent it. False is no error: a node may be alone.

        Raises
        ------
        UnknownName, MessageTooLong
            Where the arguments are wrong.
        TransportBusy
            Where all peers take messages too slowly.
        TransportClosed
            Where the transport has been closed.
        """
        told: bytes = await self._outcomes.wait(lambda: self._network.publish(topic, data), COMMAND_SECONDS)
        return told == b"\x01"

    def subscribe(self, topic: str, validator: Validator) -> None:
        """Take part in a topic. Whatever comes is judged, and goes on to others only if it was accepted.

        Parameters
        ----------
        topic
            One of the configuration.
        validator
            Judges every message once; a second call replaces it.

        Raises
        ------
        UnknownName
            Where there is no such topic.
        """
        asked(lambda: self._network.subscribe(topic, True))
        self._validators[topic] = validator

    def unsubscribe(self, topic: str) -> None:
        """Leave a topic."""
        asked(lambda: self._network.subscribe(topic, False))
        self._validators.pop(topic, None)

    # ------------------------------------------------------------ requests

    async def request(
        self, peer: PeerId, protocol: str, data: bytes, *, timeout_seconds: float | None = None
    ) -> bytes:
        """Ask a connected peer.

        Parameters
        ----------
        peer
            Whom.
        protocol
            One of the configuration.
        data
            At most as many bytes as the protocol allows.
        timeout_seconds
            Less than the protocol's own limit.

        Returns
        -------
        bytes
            The answer, at most as long as the protocol allows.

        Raises
        ------
        UnknownName, MessageTooLong, InvalidAddress
            Where the arguments are wrong.
        RequestFailed
            Where there is no answer: `PeerNotConnected`, `ProtocolUnsupported`, `RequestTimeout`,
            `RequestRefused`, `AnswerMalformed`.
        TransportBusy
            Where too many requests are under way.
        """
        limit = self._timeouts.get(protocol, COMMAND_SECONDS)
        answer: bytes = await self._outcomes.wait(
            lambda: self._network.request(peer, protocol, data, timeout_seconds),
            min(limit, timeout_seconds or limit) + GRACE_SECONDS,
        )
        return answer

    def serve(self, protocol: str, handler: Handler) -> None:
        """Answer the requests of a protocol from now on.

        Parameters
        ----------
        protocol
            One of the configuration.
        handler
            Answers one request within the protocol's time, or raises `Refusal`.

        Raises
        ------
        UnknownName
            Where there is no such protocol.
        """
        asked(lambda: self._network.serve([*self._handlers, protocol], [*self._acceptors]))
        self._handlers[protocol] = handler

    # ------------------------------------------------------------ streams

    async def open_stream(
        self, peer: PeerId, protocol: str, *, timeout_seconds: float | None = None
    ) -> Stream:
        """Open a stream to a connected peer.

        Parameters
        ----------
        peer
            Whom to.
        protocol
            One of the configuration's ``streams``.
        timeout_seconds
            Less than ``handshake_seconds``.

        Returns
        -------
        Stream
            A peer that has no room for it resets it.

        Raises
        ------
        UnknownName, InvalidAddress
            Where the arguments are wrong.
        PeerNotConnected, ProtocolUnsupported, StreamTimeout
            Where the peer opens none.
        TransportBusy
            Where too many are open.
        """
        limit = self.config.limits.handshake_seconds
        core: NetworkStream = await self._outcomes.wait(
            lambda: self._network.open_stream(peer, protocol, timeout_seconds),
            min(limit, timeout_seconds or limit) + GRACE_SECONDS,
            StreamTimeout,
        )
        return Stream(core, self._outcomes)

    def accept_streams(self, protocol: str, handler: StreamHandler) -> None:
        """Take the streams that peers open, from now on.

        Parameters
        ----------
        protocol
            One of the configuration's ``streams``.
        handler
            Has one stream, which is closed when it returns and reset when it raises; a second one replaces
            it.

        Raises
        ------
        UnknownName
            Where there is no such protocol.
        """
        asked(lambda: self._network.serve([*self._handlers], [*self._acceptors, protocol]))
        self._acceptors[protocol] = handler

    # ------------------------------------------------------------ peers

    def events(self) -> Subscription[PeerEvent]:
        """Return a subscription to what happens to peers from now on."""
        return self._feed.subscribe(EVENTS_CAPACITY)

    def peers(self) -> list[PeerInfo]:
        """Return who is connected."""
        return [
            PeerInfo(
                PeerId(peer.peer),
                peer.address,
                tuple(peer.listens),
                peer.outbound,
                peer.agent,
                tuple(peer.protocols),
                peer.score,
                peer.round_trip_seconds,
                peer.connected_seconds,
            )
            for peer in self._network.peers()
        ]

    async def dial(self, address: str) -> PeerId:
        """Connect to an address, once.

        Parameters
        ----------
        address
            Like ``/ip4/127.0.0.1/tcp/30400``, with or without ``/p2p/`` and a name.

        Returns
        -------
        PeerId
            Who answered.

        Raises
        ------
        InvalidAddress
            Where it is none.
        DialFailed
            Where nobody answered, or not the peer that was named.
        """
        limit = self.config.limits.handshake_seconds + GRACE_SECONDS
        name: bytes = await self._outcomes.wait(lambda: self._network.dial(address), limit)
        return PeerId(name.decode())

    def disconnect(self, peer: PeerId) -> None:
        """Close all connections to a peer. It may come back."""
        asked(lambda: self._network.disconnect(peer))

    def score(self, peer: PeerId, delta: float, reason: str) -> None:
        """Change what this node thinks of a peer; half of it is forgotten in ten minutes.

        Parameters
        ----------
        peer
            Whom.
        delta
            What is added to its score. At ``ban_score`` it is banned.
        reason
            Why, in case that it is.
        """
        asked(lambda: self._network.score(peer, delta, reason))

    def ban(self, peer: PeerId, seconds: float, reason: str) -> None:
        """Close all connections to a peer, and have none with it for a time."""
        asked(lambda: self._network.ban(peer, seconds, reason))

    def unban(self, peer: PeerId) -> None:
        """End a ban."""
        asked(lambda: self._network.unban(peer))

    def bans(self) -> list[Ban]:
        """Return who is banned."""
        return [Ban(PeerId(peer), seconds, reason) for peer, seconds, reason in self._network.bans()]

    def statistics(self) -> Mapping[str, int]:
        """Return counters since the start, by name; ``messages_pending`` and ``streams_open`` are levels."""
        return self._network.statistics()

    # ------------------------------------------------------------ inside

    def _fetch(self) -> None:
        for event in self._network.drain(BATCH):
            match event:
                case NetworkMessage():
                    self._on_message(event)
                case NetworkRequest():
                    self._tasks.spawn(self._answer(event))
                case NetworkOutcome():
                    self._outcomes.tell(event)
                case NetworkStream(ticket=None):
                    # Without a handler it is reset, as nobody holds it.
                    if (handler := self._acceptors.get(event.protocol)) is not None:
                        self._tasks.spawn(have(handler, Stream(event, self._outcomes)))
                case NetworkStream():
                    self._outcomes.tell(event)
                case NetworkNotice():
                    kind = PeerEventKind(event.kind)
                    self._feed.publish(PeerEvent(kind, PeerId(event.peer), event.address, event.reason))

    def _on_message(self, event: NetworkMessage) -> None:
        validator = self._validators.get(event.topic)
        found: Verdict | Awaitable[Verdict] = Verdict.IGNORE
        if validator is not None:
            try:
                found = validator(Message(event.topic, PeerId(event.source), event.data))
            except Exception:
                _log.exception("a validator has failed", topic=event.topic)
        if isinstance(found, Verdict):
            self._judge(event.handle, found)
        else:
            self._tasks.spawn(self._await_verdict(event, found))

    async def _await_verdict(self, event: NetworkMessage, found: Awaitable[Verdict]) -> None:
        verdict = Verdict.IGNORE
        try:
            async with asyncio.timeout(self.config.limits.validation_seconds):
                verdict = await found
        except TimeoutError:
            _log.debug("a validator took too long", topic=event.topic)
        except Exception:
            _log.exception("a validator has failed", topic=event.topic)
        self._judge(event.handle, verdict)

    def _judge(self, handle: int, verdict: Verdict) -> None:
        # Where it cannot be told, the swarm ignores the message when its time is up.
        with suppress(NetworkError):
            self._network.verdict(handle, verdict.value)

    async def _answer(self, event: NetworkRequest) -> None:
        handler = self._handlers.get(event.protocol)
        if handler is None:
            self._network.refuse(event.handle, "not served")
            return
        try:
            async with asyncio.timeout(self._timeouts[event.protocol]):
                answer = await handler(Request(event.protocol, PeerId(event.peer), event.data))
        except Refusal as refusal:
            self._network.refuse(event.handle, str(refusal))
        except TimeoutError:
            self._network.refuse(event.handle, "it took too long")
        except Exception:
            _log.exception("a handler has failed", protocol=event.protocol)
            self._network.refuse(event.handle, "it failed")
        else:
            self._network.respond(event.handle, answer)

    async def _close(self) -> None:
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
        self._outcomes.close()
        await self._tasks.stop()
        self._feed.close("transport-closed")
        await asyncio.to_thread(self._network.close)
