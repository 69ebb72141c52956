"""Transports on the loopback interface, small and fast."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from noria.network.config import ProtocolSpec, StreamSpec, TopicSpec, TransportConfig, TransportLimits
from noria.network.peers import PeerEvent, PeerEventKind, PeerId
from noria.network.transport import Transport
from noria.primitives.subscriptions import Subscription

WAIT_SECONDS = 30.0
"""Far more than anything takes here on a busy machine."""
ECHO = "/test/echo/1"
SLOW = "/test/slow/1"
SMALL = "/test/small/1"
RAW = "/test/raw/1"
IDLE = "/test/idle/1"

BASE = TransportConfig(
    network="test",
    agent="noria-test/1",
    topics=(TopicSpec("blocks", 1 << 20), TopicSpec("votes", 4096)),
    protocols=(
        ProtocolSpec(ECHO, 1 << 20, 1 << 20, 20.0),
        ProtocolSpec(SLOW, 4096, 4096, 0.5),
        ProtocolSpec(SMALL, 16, 16, 20.0),
    ),
    streams=(
        StreamSpec(RAW, idle_seconds=WAIT_SECONDS, streams_per_peer=8, buffer_bytes=1 << 18),
        StreamSpec(IDLE, idle_seconds=1.0, streams_per_peer=2, buffer_bytes=1 << 16),
    ),
    listen=("/ip4/127.0.0.1/tcp/0",),
    redial_seconds=(0.1, 1.0),
    heartbeat_seconds=0.2,
    # A verdict that comes late is none: on a busy machine that must not decide a test.
    limits=TransportLimits(validation_seconds=WAIT_SECONDS),
)


def seed(number: int) -> bytes:
    """Return the identity of a node."""
    return number.to_bytes(32, "big")


def config(*bootstrap: str, **changes: Any) -> TransportConfig:
    """Return the configuration of a node; changes of the limits go by their own names."""
    limits = {name: changes.pop(name) for name in list(changes) if hasattr(BASE.limits, name)}
    return replace(BASE, bootstrap=bootstrap, limits=replace(BASE.limits, **limits), **changes)


async def wait(awaited: Any) -> Any:
    """Wait for something that ought to happen soon."""
    return await asyncio.wait_for(awaited, WAIT_SECONDS)


async def until(
    events: Subscription[PeerEvent], kind: PeerEventKind, peer: PeerId | None = None
) -> PeerEvent:
    """Return the next event of a kind, of a peer if one is named."""
    while True:
        event = await wait(events.get())
        if event.kind is kind and peer in (None, event.peer):
            return event  # type: ignore[no-any-return]


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for a state that no event announces."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def transport(number: int, settings: TransportConfig | None = None) -> AsyncIterator[Transport]:
    """Run a node in this process."""
    node = await Transport.start(seed(number), settings or config())
    try:
        yield node
    finally:
        await wait(node.close())


@asynccontextmanager
async def connected(*settings: TransportConfig) -> AsyncIterator[Sequence[Transport]]:
    """Run nodes in this process that are all connected to the first one."""
    nodes = [await Transport.start(seed(1), settings[0])]
    try:
        with_first = nodes[0].events()
        for number, own in enumerate(settings[1:], 2):
            node = await Transport.start(seed(number), replace(own, bootstrap=(nodes[0].addresses[0],)))
            nodes.append(node)
            await until(with_first, PeerEventKind.IDENTIFIED, node.peer_id)
        for node in nodes[1:]:
            await eventually(lambda node=node: any(peer.agent for peer in node.peers()))  # type: ignore[misc]
        with_first.close()
        yield nodes
    finally:
        await wait(asyncio.gather(*(node.close() for node in nodes)))


async def publish_until_heard(node: Transport, topic: str, data: bytes) -> None:
    """Publish as soon as somebody listens: subscriptions travel a moment after the connection."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not await node.publish(topic, data):
            await asyncio.sleep(0.02)
