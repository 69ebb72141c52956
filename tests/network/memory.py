"""A network in memory: what `noria.network.transport.Transport` promises, with delays, losses and cuts."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from noria.network.config import ProtocolSpec, TopicSpec
from noria.network.errors import (
    MessageTooLong,
    PeerNotConnected,
    ProtocolUnsupported,
    Refusal,
    RequestRefused,
    RequestTimeout,
    UnknownName,
)
from noria.network.peers import EVENTS_CAPACITY, Ban, PeerEvent, PeerEventKind, PeerId, PeerInfo
from noria.network.streams import Stream, StreamHandler
from noria.network.transport import Handler, Message, Request, TransportProtocol, Validator, Verdict
from noria.primitives.background import BackgroundTasks
from noria.primitives.hashes import blake3
from noria.primitives.subscriptions import Subscription, Topic

SEEN_MAX = 10_000


class MemoryNetwork:
    """Transports that are all connected, except where a test cuts them off.

    Parameters
    ----------
    seed
        Of what is random.
    delay
        Seconds from peer to peer, shortest and longest.
    loss
        Share of gossiped messages that get lost on a link.
    """

    def __init__(
        self,
        topics: Sequence[TopicSpec],
        protocols: Sequence[ProtocolSpec],
        *,
        seed: int = 1,
        delay: tuple[float, float] = (0.02, 0.08),
        loss: float = 0.0,
    ) -> None:
        self.topics = {topic.name: topic for topic in topics}
        self.protocols = {protocol.name: protocol for protocol in protocols}
        self.random, self.delay, self.loss = random.Random(seed), delay, loss
        self.transports: dict[PeerId, MemoryTransport] = {}
        self.cut: set[frozenset[PeerId]] = set()

    def connect(self, name: str) -> MemoryTransport:
        """Add a transport; everybody is told."""
        transport = MemoryTransport(self, PeerId(name))
        self.transports[transport.peer_id] = transport
        for other in self.transports.values():
            if other is not transport:
                other.tell(PeerEventKind.IDENTIFIED, transport.peer_id)
        return transport

    def reach(self, one: PeerId, other: PeerId) -> MemoryTransport | None:
        """The other end, if there is a link to it."""
        found = self.transports.get(other)
        if found is None or one == other or frozenset((one, other)) in self.cut:
            return None
        return None if one in found.banned or other in self.transports[one].banned else found

    async def travel(self) -> None:
        await asyncio.sleep(self.random.uniform(*self.delay))


class MemoryTransport:
    """One peer."""

    def __init__(self, network: MemoryNetwork, peer: PeerId) -> None:
        self._network, self._peer = network, peer
        self._validators: dict[str, Validator] = {}
        self._handlers: dict[str, Handler] = {}
        self._feed: Topic[PeerEvent] = Topic()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._tasks = BackgroundTasks("network in memory")
        self.scores: dict[PeerId, list[tuple[float, str]]] = {}
        self.verdicts: list[tuple[PeerId, str, Verdict]] = []
        self.banned: set[PeerId] = set()
        self.closed = False

    @property
    def peer_id(self) -> PeerId:
        return self._peer

    def tell(self, kind: PeerEventKind, peer: PeerId) -> None:
        self._feed.publish(PeerEvent(kind, peer, "", ""))

    # ------------------------------------------------------------ gossip

    async def publish(self, topic: str, data: bytes) -> bool:
        if topic not in self._network.topics:
            raise UnknownName(topic)
        if len(data) > self._network.topics[topic].bytes_max:
            raise MessageTooLong(topic)
        self._note(topic, data)
        return self._flood(topic, data, None)

    def subscribe(self, topic: str, validator: Validator) -> None:
        if topic not in self._network.topics:
            raise UnknownName(topic)
        self._validators[topic] = validator

    def unsubscribe(self, topic: str) -> None:
        self._validators.pop(topic, None)

    def _flood(self, topic: str, data: bytes, source: PeerId | None) -> bool:
        sent = False
        for peer in list(self._network.transports):
            other = self._network.reach(self._peer, peer)
            if other is not None and peer != source:
                sent = True
                if self._network.random.random() >= self._network.loss:
                    self._tasks.spawn(other._hear(topic, data, self._peer))
        return sent

    async def _hear(self, topic: str, data: bytes, source: PeerId) -> None:
        await self._network.travel()
        validator = self._validators.get(topic)
        if self.closed or validator is None or not self._note(topic, data):
            return
        found = validator(Message(topic, source, data))
        if isinstance(found, Awaitable):
            try:
                async with asyncio.timeout(3.0):
                    found = await found
            except TimeoutError:
                found = Verdict.IGNORE
        self.verdicts.append((source, topic, found))
        if found is Verdict.ACCEPT and not self.closed:
            self._flood(topic, data, source)

    def _note(self, topic: str, data: bytes) -> bool:
        name = blake3(topic.encode() + data)
        if name in self._seen:
            return False
        self._seen[name] = None
        while len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        return True

    # ------------------------------------------------------------ requests

    async def request(
        self, peer: PeerId, protocol: str, data: bytes, *, timeout_seconds: float | None = None
    ) -> bytes:
        spec = self._network.protocols[protocol]
        if len(data) > spec.request_bytes_max:
            raise MessageTooLong(protocol)
        await self._network.travel()
        other = self._network.reach(self._peer, peer)
        if other is None or other.closed:
            raise PeerNotConnected(peer)
        handler = other._handlers.get(protocol)
        if handler is None:
            raise ProtocolUnsupported(protocol)
        try:
            async with asyncio.timeout(timeout_seconds or spec.timeout_seconds):
                answer = await handler(Request(protocol, self._peer, data))
        except Refusal as refusal:
            raise RequestRefused(str(refusal)) from None
        except TimeoutError:
            raise RequestTimeout(protocol) from None
        assert len(answer) <= spec.response_bytes_max
        await self._network.travel()
        return answer

    def serve(self, protocol: str, handler: Handler) -> None:
        self._handlers[protocol] = handler

    # ------------------------------------------------------------ streams: it has none

    async def open_stream(
        self, peer: PeerId, protocol: str, *, timeout_seconds: float | None = None
    ) -> Stream:
        raise UnknownName(protocol)

    def accept_streams(self, protocol: str, handler: StreamHandler) -> None:
        raise UnknownName(protocol)

    # ------------------------------------------------------------ peers

    def events(self) -> Subscription[PeerEvent]:
        return self._feed.subscribe(EVENTS_CAPACITY)

    def peers(self) -> Sequence[PeerInfo]:
        return [
            PeerInfo(peer, "", (), True, "memory", (), 0.0, None, 0.0)
            for peer in self._network.transports
            if self._network.reach(self._peer, peer) is not None
        ]

    async def dial(self, address: str) -> PeerId:
        return PeerId(address)

    def disconnect(self, peer: PeerId) -> None:
        self.tell(PeerEventKind.DISCONNECTED, peer)

    def score(self, peer: PeerId, delta: float, reason: str) -> None:
        self.scores.setdefault(peer, []).append((delta, reason))

    def ban(self, peer: PeerId, seconds: float, reason: str) -> None:
        self.banned.add(peer)

    def unban(self, peer: PeerId) -> None:
        self.banned.discard(peer)

    def bans(self) -> Sequence[Ban]:
        return [Ban(peer, 0.0, "") for peer in self.banned]

    async def close(self) -> None:
        self.closed = True
        self._network.transports.pop(self._peer, None)
        for other in self._network.transports.values():
            other.tell(PeerEventKind.DISCONNECTED, self._peer)
        await self._tasks.stop()
        self._feed.close("transport-closed")


_CHECK: Callable[[MemoryNetwork, PeerId], TransportProtocol] = MemoryTransport  # mypy: it fits the seam
