"""Who is connected, who is not any more, and who must not be."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from noria.network.config import Budget, ProtocolSpec, StreamSpec, TopicSpec, TransportConfig
from noria.network.errors import (
    DialFailed,
    InvalidAddress,
    InvalidTransportConfig,
    ListenFailed,
    TransportClosed,
)
from noria.network.peers import EVENTS_CAPACITY, PeerEvent, PeerEventKind, PeerId
from noria.network.transport import Request, Transport, Verdict, peer_id
from noria.primitives.subscriptions import SubscriptionClosed, Topic
from tests.network.settings import (
    ECHO,
    config,
    connected,
    eventually,
    publish_until_heard,
    seed,
    transport,
    until,
    wait,
)


async def test_peers_say_what_they_run_and_speak() -> None:
    async def echo(request: Request) -> bytes:
        return request.data

    async with transport(1) as server:
        server.serve(ECHO, echo)
        async with server.events() as events, transport(2, config(server.addresses[0])) as client:
            assert (await until(events, PeerEventKind.CONNECTED)).peer == client.peer_id
            await until(events, PeerEventKind.IDENTIFIED, client.peer_id)
            (peer,) = server.peers()
            assert (peer.peer, peer.outbound, peer.agent) == (client.peer_id, False, "noria-test/1")
            assert client.addresses[0].startswith(peer.listens[0])
            await eventually(lambda: bool(client.peers() and client.peers()[0].protocols))
            (peer,) = client.peers()
            assert peer.outbound
            assert ECHO in peer.protocols
            await eventually(lambda: client.peers()[0].round_trip_seconds is not None)
            name = client.peer_id
            await client.close()
            assert (await until(events, PeerEventKind.DISCONNECTED)).peer == name
            assert server.peers() == []


async def test_a_name_is_made_from_its_seed() -> None:
    async with transport(7) as node:
        assert node.peer_id == peer_id(seed(7)) != peer_id(seed(8))
        assert node.peer_id.startswith("12D3KooW")
    with pytest.raises(InvalidTransportConfig, match="32 bytes, not 31"):
        peer_id(bytes(31))


async def test_a_dial_tells_who_answered_or_why_nobody_did() -> None:
    async with transport(1) as one, transport(2) as two:
        bare = one.addresses[0].partition("/p2p/")[0]
        wrong = f"{bare}/p2p/{peer_id(seed(3))}"
        with pytest.raises(DialFailed, match="another peer answers there"):
            await two.dial(wrong)
        with pytest.raises(DialFailed, match="this node itself"):
            await one.dial(bare)
        assert await two.dial(bare) == one.peer_id
        assert await two.dial(one.addresses[0]) == one.peer_id, "it is connected already"
        for text in ("", "localhost:1", "/ip4/127.0.0.1/udp/1", "/dns4/a.example/tcp/1"):
            with pytest.raises(InvalidAddress, match="an address is like"):
                await two.dial(text)
        await one.close()
        with pytest.raises(DialFailed, match="refused"):
            await two.dial(bare)


async def test_a_ban_closes_the_connection_and_keeps_it_closed() -> None:
    async with connected(config(), config()) as (node, banned), node.events() as events:
        node.ban(banned.peer_id, 1.5, "a whim")
        event = await until(events, PeerEventKind.BANNED)
        assert (event.peer, event.reason) == (banned.peer_id, "a whim")
        await until(events, PeerEventKind.DISCONNECTED, banned.peer_id)
        (ban,) = node.bans()
        assert (ban.peer, ban.reason) == (banned.peer_id, "a whim")
        assert 0 < ban.seconds_left <= 1.5
        # It goes on dialling; when the ban is over, it succeeds.
        before = node.statistics()["connections_refused"]
        await eventually(lambda: node.statistics()["connections_refused"] > before)
        assert node.peers() == []
        await until(events, PeerEventKind.UNBANNED, banned.peer_id)
        await until(events, PeerEventKind.CONNECTED, banned.peer_id)
        assert node.bans() == []


async def test_a_banned_peer_is_not_dialled_and_a_pardoned_one_is() -> None:
    async with transport(1) as node, transport(2) as other:
        node.ban(other.peer_id, 100, "a whim")
        await eventually(lambda: bool(node.bans()))
        with pytest.raises(DialFailed):
            await node.dial(other.addresses[0])
        node.unban(other.peer_id)
        await eventually(lambda: not node.bans())
        assert await node.dial(other.addresses[0]) == other.peer_id


async def test_the_application_s_score_counts_and_bans() -> None:
    async with connected(config(), config()) as (node, peer):
        node.score(peer.peer_id, -30, "slow")
        await eventually(lambda: -31 < node.peers()[0].score < -28)
        async with node.events() as events:
            node.score(peer.peer_id, -171, "wrong blocks")
            event = await until(events, PeerEventKind.BANNED, peer.peer_id)
            assert event.reason.startswith("wrong blocks (score -2")
            await until(events, PeerEventKind.DISCONNECTED, peer.peer_id)


async def test_a_disconnected_peer_may_come_back() -> None:
    async with connected(config(), config()) as (node, peer), node.events() as events:
        node.disconnect(peer.peer_id)
        await until(events, PeerEventKind.DISCONNECTED, peer.peer_id)
        await until(events, PeerEventKind.CONNECTED, peer.peer_id)


async def test_known_peers_are_dialled_without_a_bootstrap_address() -> None:
    async with transport(1) as node, transport(2) as met:
        await node.dial(met.addresses[0])
        await eventually(lambda: bool(met.peers()))
        async with node.events() as events:
            met.disconnect(node.peer_id)
            await until(events, PeerEventKind.DISCONNECTED, met.peer_id)
            await until(events, PeerEventKind.CONNECTED, met.peer_id)


async def test_peers_on_the_local_network_find_each_other() -> None:
    settings = config(network=f"mdns-{os.getpid()}", mdns=True, listen=("/ip4/0.0.0.0/tcp/0",))
    async with transport(1, settings) as one, transport(2, settings) as two:
        if all("/127.0.0.1/" in address for address in one.addresses):
            pytest.skip("this machine has no network but itself")
        await eventually(lambda: [peer.peer for peer in one.peers()] == [two.peer_id])


async def test_one_address_has_so_many_connections_and_no_more() -> None:
    async with transport(1, config(connections_per_ip=2)) as node:
        dialling = [await Transport.start(seed(number), config()) for number in (2, 3, 4)]
        try:
            await dialling[0].dial(node.addresses[0])
            await dialling[1].dial(node.addresses[0])
            # The TCP connection is made, and closed at once.
            with pytest.raises(DialFailed):
                await dialling[2].dial(node.addresses[0])
            await eventually(lambda: len(node.peers()) == 2)
            await dialling[0].close()
            await eventually(lambda: len(node.peers()) == 1)
            await dialling[2].dial(node.addresses[0])
        finally:
            await asyncio.gather(*(other.close() for other in dialling))


async def test_there_are_so_many_connections_and_no_more() -> None:
    async with (
        connected(config(connections=4), config(), config(), config()) as (node, *_),
        transport(9) as fourth,
        node.events() as events,
    ):
        # The fourth is kept for those whom the node chooses itself.
        await fourth.dial(node.addresses[0])
        await eventually(lambda: fourth.peers() == [] and len(node.peers()) == 3)
        await node.dial(fourth.addresses[0])
        await until(events, PeerEventKind.CONNECTED, fourth.peer_id)


async def test_a_connection_is_read_no_faster_than_its_budget() -> None:
    async def count(request: Request) -> bytes:
        return b"%d" % len(request.data)

    budget = Budget(200_000, 100_000)
    protocol = (ProtocolSpec(ECHO, 1 << 20, 64, 30.0),)
    async with connected(config(connection_bytes=budget, protocols=protocol), config()) as (slow, fast):
        slow.serve(ECHO, count)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert await fast.request(slow.peer_id, ECHO, bytes(500_000)) == b"500000"
        # 100 kB at once, 400 kB at 200 kB a second.
        assert 1.9 <= loop.time() - begun < 10


async def test_two_who_dial_each_other_at_once_are_connected() -> None:
    for _ in range(5):
        async with transport(1) as one, transport(2) as two:
            await asyncio.gather(
                one.dial(two.addresses[0]), two.dial(one.addresses[0]), return_exceptions=True
            )
            await eventually(lambda: len(one.peers()) == 1 and len(two.peers()) == 1)


async def test_nothing_is_left_after_closing() -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    def sockets() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async with connected(config(), config()):
        pass
    await asyncio.sleep(0)
    python_threads = threading.active_count()
    before, open_before, tasks = threads(), sockets(), len(asyncio.all_tasks())
    for _ in range(5):
        async with connected(config(), config()) as (one, two):
            one.subscribe("blocks", lambda _: Verdict.ACCEPT)
            await publish_until_heard(two, "blocks", b"block")
            assert threads() > before
    # On a busy machine the last of a closed runtime may go a moment later.
    await eventually(lambda: threads() - threading.active_count() <= before - python_threads)
    await eventually(lambda: sockets() <= open_before)
    assert len(asyncio.all_tasks()) == tasks


async def test_closing_twice_and_using_a_closed_transport() -> None:
    async with transport(1) as node:
        events = node.events()
        await node.close()
        await node.close()
        with pytest.raises(SubscriptionClosed, match="transport-closed"):
            await wait(events.get())
        with pytest.raises(TransportClosed):
            await node.publish("blocks", b"")
        with pytest.raises(TransportClosed):
            node.score(PeerId(peer_id(seed(2))), -1, "late")


async def test_a_taken_port_is_named() -> None:
    async with transport(1) as node:
        taken = node.addresses[0].partition("/p2p/")[0]
        with pytest.raises(ListenFailed, match=f"cannot listen on {taken}: .*; choose another"):
            await Transport.start(seed(2), config(listen=(taken,)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": ""}, "network name"),
        ({"listen": ("localhost:1",)}, "cannot be read"),
        ({"listen": ("/ip4/127.0.0.1/udp/1",)}, "unlike /ip4/127.0.0.1/udp/1"),
        ({"topics": (TopicSpec("a", 1), TopicSpec("a", 1))}, "two topics"),
        ({"protocols": (ProtocolSpec("echo", 1, 1),)}, "begins with '/'"),
        ({"topics": (TopicSpec("a", 1 << 40),)}, "sizes of"),
        ({"threads": 0}, "threads"),
        ({"ban_score": 5.0}, "score that bans"),
        ({"validation_seconds": float("nan")}, "verdict|cannot be read"),
        ({"peer_messages": Budget(-1, 5)}, "messages per second"),
        ({"streams": (StreamSpec("raw"),)}, "begins with '/'"),
        ({"streams": (StreamSpec(ECHO),)}, "two protocols"),
        ({"streams": (StreamSpec("/raw", idle_seconds=0.0),)}, "idle time of /raw"),
        ({"streams": (StreamSpec("/raw", idle_seconds=float("inf")),)}, "idle time of /raw|cannot be read"),
        ({"streams": (StreamSpec("/raw", streams_per_peer=0),)}, "streams of one peer on /raw"),
        ({"streams": (StreamSpec("/raw", streams_per_peer=-1),)}, "cannot be read"),
        ({"streams": (StreamSpec("/raw", streams_per_peer=33),)}, "33 streams of one peer are too many"),
        ({"streams": (StreamSpec("/raw", buffer_bytes=1 << 30),)}, "buffer of /raw"),
        ({"streams_open": 0}, "peers' streams"),
        ({"own_streams_open": 0}, "own streams"),
    ],
)
async def test_each_mistake_of_a_configuration_is_one_line(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidTransportConfig, match=said) as error:
        await Transport.start(seed(1), config(**changes))
    assert "\n" not in str(error.value)


async def test_a_subscriber_that_does_not_read_is_dropped() -> None:
    feed: Topic[PeerEvent] = Topic()
    slow, quick = feed.subscribe(EVENTS_CAPACITY), feed.subscribe(EVENTS_CAPACITY)
    event = PeerEvent(PeerEventKind.CONNECTED, PeerId("x"), "", "")
    for _ in range(EVENTS_CAPACITY + 1):
        feed.publish(event)
        assert await wait(quick.get()) is event
    with pytest.raises(SubscriptionClosed, match="slow-subscriber"):
        await wait(slow.get())
    feed.publish(event)
    assert await wait(quick.get()) is event


def test_a_configuration_says_what_it_bounds() -> None:
    document = TransportConfig(network="n", agent="a").encode()
    assert b'"validation_seconds":3.0' in document
