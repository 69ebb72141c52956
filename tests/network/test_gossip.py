"""Gossip between real processes: what is accepted reaches everybody, what is not goes nowhere."""

from __future__ import annotations

import asyncio
import signal

import pytest

from noria.network.config import Budget, TopicSpec
from noria.network.errors import MessageTooLong, UnknownName
from noria.network.peers import PeerEventKind
from noria.network.transport import Message, Verdict
from tests.network.nodes import nodes
from tests.network.settings import (
    config,
    connected,
    eventually,
    publish_until_heard,
    transport,
    until,
)

pytestmark = pytest.mark.timeout(180)


async def test_a_message_reaches_every_process_and_each_once() -> None:
    async with nodes(6) as running:
        for author in (running[0], running[3]):
            others = [node for node in running if node is not author]
            await author.publish("blocks", f"from {author.number}", 50_000)
            told = await asyncio.gather(*(node.next("message", "blocks") for node in others))
            assert all(message[3] == 50_000 and message[4].startswith("from") for message in told)
        # Whatever would come twice has come by the time a later message has.
        await running[1].publish("votes", "last")
        await asyncio.gather(*(node.next("message", "votes") for node in running if node is not running[1]))
        assert not any(node.heard("from") for node in running)


async def test_what_is_rejected_or_ignored_goes_no_further() -> None:
    async with nodes(4) as (hub, author, *others):
        await author.publish("blocks", "bad")
        await author.publish("blocks", "skip")
        await author.publish("blocks", "good")
        for text in ("bad", "skip", "good"):
            told = await hub.next("message", "blocks", author.peer_id)
            assert told[4].startswith(text)
        for node in others:
            told = await node.next("message", "blocks")
            assert told[4] == "good"
            assert not node.heard("bad")
            assert not node.heard("skip")
        assert (await hub.ask("statistics", answer="statistics"))["messages_rejected"] == 1


async def test_whoever_goes_on_sending_what_is_rejected_is_banned() -> None:
    async with nodes(3) as (hub, liar, honest):
        for number in range(20):
            liar.tell("publish", "blocks", f"bad {number}", 0)
        _, banned, reason = await hub.next("banned")
        assert banned == liar.peer_id
        assert "rejected" in reason
        await hub.next("disconnected", liar.peer_id)
        assert await hub.ask("bans", answer="bans") == [liar.peer_id]
        # It goes on dialling, in vain, and the others go on without it.
        await liar.next("disconnected", hub.peer_id)
        await hub.publish("blocks", "good")
        assert (await honest.next("message", "blocks"))[4] == "good"
        assert liar.peer_id not in await hub.ask("peers", answer="peers")
        assert not honest.heard("bad")


async def test_a_stopped_process_hinders_nobody_and_is_not_banned() -> None:
    async with nodes(4) as (hub, stopped, author, listener):
        stopped.signal(signal.SIGSTOP)
        try:
            for number in range(40):
                await author.publish("blocks", f"{number:02}", 50_000)
                assert (await listener.next("message", "blocks"))[4][:2] == f"{number:02}"
        finally:
            stopped.signal(signal.SIGCONT)
        told = await stopped.next("message", "blocks")
        assert told[3] == 50_000
        assert await hub.ask("bans", answer="bans") == []


async def test_a_killed_process_comes_back_under_its_name() -> None:
    async with nodes(3) as (hub, killed, other):
        name = killed.peer_id
        await killed.kill()
        await hub.next("disconnected", name)
        await killed.start(hub.address)
        assert killed.peer_id == name
        await hub.next("identified", name)
        await other.publish("blocks", "news")
        assert (await killed.next("message", "blocks"))[4] == "news"


async def test_a_killed_hub_is_dialled_until_it_is_back() -> None:
    async with nodes(3) as (hub, *others):
        address = hub.address.rpartition("/p2p/")[0]
        await hub.kill()
        for node in others:
            await node.next("disconnected", hub.peer_id)
        await hub.start(f"listen={address}")
        for node in others:
            await node.next("identified", hub.peer_id)
        await hub.publish("blocks", "back")
        for node in others:
            assert (await node.next("message", "blocks"))[4] == "back"


async def test_a_message_is_judged_once_though_many_pass_it_on() -> None:
    heard: list[bytes] = []

    def judge(message: Message) -> Verdict:
        heard.append(message.data)
        return Verdict.ACCEPT

    async with connected(config(), config(), config()) as (first, second, third):
        # All three know each other.
        await second.dial(third.addresses[0])
        for node in (first, second, third):
            node.subscribe("blocks", judge)
        for number in range(20):
            await publish_until_heard(second, "blocks", b"%d" % number)
        await eventually(lambda: len(heard) >= 40)
        assert sorted(heard) == sorted(b"%d" % number for number in range(20) for _ in range(2))


async def test_an_unknown_topic_and_a_long_message_are_not_published() -> None:
    async with transport(1) as node:
        with pytest.raises(UnknownName, match='no topic "weather"'):
            await node.publish("weather", b"")
        with pytest.raises(UnknownName, match='no topic "weather"'):
            node.subscribe("weather", lambda _: Verdict.ACCEPT)
        with pytest.raises(MessageTooLong, match="at most 4096 bytes, not 4097"):
            await node.publish("votes", bytes(4097))
        assert not await node.publish("votes", bytes(4096)), "nobody is there"


async def test_a_message_beyond_the_topic_s_size_counts_as_invalid() -> None:
    heard: list[int] = []

    def judge(message: Message) -> Verdict:
        heard.append(len(message.data))
        return Verdict.ACCEPT

    generous = config(topics=(*config().topics[:1], TopicSpec("votes", 1 << 16)))
    async with connected(config(), generous) as (strict, other):
        strict.subscribe("votes", judge)
        await publish_until_heard(other, "votes", bytes(6000))
        await publish_until_heard(other, "votes", bytes(4000))
        await eventually(lambda: bool(heard))
        assert heard == [4000]
        await eventually(lambda: strict.peers()[0].score < -1)


async def test_a_validator_may_take_its_time_and_no_more() -> None:
    slow = asyncio.Event()
    heard: list[bytes] = []

    async def judge(message: Message) -> Verdict:
        if message.data == b"slow":
            await slow.wait()
        if message.data == b"broken":
            raise ValueError(message.data)
        return Verdict.ACCEPT

    def listen(message: Message) -> Verdict:
        heard.append(message.data)
        return Verdict.ACCEPT

    settings = config(validation_seconds=2.0)
    async with connected(settings, config(), config()) as (judging, author, listener):
        judging.subscribe("blocks", judge)
        listener.subscribe("blocks", listen)
        author.subscribe("blocks", listen)
        await eventually(lambda: len(judging.peers()) == 2)
        for text in (b"slow", b"broken"):
            await publish_until_heard(author, "blocks", text)
        await eventually(lambda: judging.statistics()["messages_ignored"] == 2)
        # A message is remembered by its hash for a while: another one shows that the way is open.
        await publish_until_heard(author, "blocks", b"quick")
        await eventually(lambda: heard == [b"quick"])
        await eventually(lambda: judging.statistics()["messages_pending"] == 0)


async def test_peers_of_another_network_are_let_go() -> None:
    async with transport(1) as node, transport(2, config(network="other")) as foreign:
        await foreign.dial(node.addresses[0])
        # Whoever hears the other's name first hangs up.
        await eventually(lambda: bool(node.bans() or foreign.bans()))
        (ban,) = node.bans() or foreign.bans()
        assert '"other"' in ban.reason
        assert '"test"' in ban.reason
        assert 30 < ban.seconds_left <= 60
        await eventually(lambda: not node.peers() and not foreign.peers())


async def test_messages_beyond_the_budget_are_ignored_and_a_flood_is_banned() -> None:
    heard: list[bytes] = []

    def judge(message: Message) -> Verdict:
        heard.append(message.data)
        return Verdict.ACCEPT

    settings = config(peer_messages=Budget(1, 50), ban_score=-50.0)
    async with connected(settings, config()) as (strict, flood):
        strict.subscribe("votes", judge)
        await publish_until_heard(flood, "votes", b"first")
        for number in range(150):
            await flood.publish("votes", b"%d" % number)
        await eventually(lambda: strict.statistics()["messages_received"] == 151)
        assert 50 <= len(heard) <= 60
        assert strict.statistics()["messages_over_budget"] == 151 - len(heard)
        assert strict.bans() == [], "too much is no crime"
        async with strict.events() as events:
            for number in range(300):
                await flood.publish("votes", b"more %d" % number)
            event = await until(events, PeerEventKind.BANNED, flood.peer_id)
        assert "flood" in event.reason
