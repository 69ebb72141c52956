"""Requests and answers: every way in which there is none has its name, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace

import pytest

from noria.network.config import Budget, ProtocolSpec
from noria.network.errors import (
    AnswerMalformed,
    InvalidAddress,
    MessageTooLong,
    OverBudget,
    PeerNotConnected,
    ProtocolUnsupported,
    Refusal,
    RequestRefused,
    RequestTimeout,
    TransportBusy,
    TransportClosed,
    UnknownName,
)
from noria.network.patience import request_patiently
from noria.network.peers import PeerId
from noria.network.transport import Request, peer_id
from tests.network.nodes import nodes
from tests.network.settings import ECHO, SLOW, SMALL, config, connected, eventually, seed, transport, wait

STRANGER = peer_id(seed(99))


async def echo(request: Request) -> bytes:
    return request.data


async def hang(_: Request) -> bytes:
    await asyncio.Event().wait()
    return b""


@pytest.mark.parametrize("size", [0, 1, 70_000, 1 << 20])
async def test_an_answer_comes_back_whole(size: int) -> None:
    async with connected(config(), config()) as (server, client):
        server.serve(ECHO, echo)
        data = bytes(index % 251 for index in range(size))
        assert await client.request(server.peer_id, ECHO, data) == data


async def test_both_ends_ask_many_things_at_once() -> None:
    async with connected(config(), config()) as (one, two):
        one.serve(ECHO, echo)
        two.serve(ECHO, echo)
        asked = [(node, other, b"%d" % n) for n in range(50) for node, other in ((one, two), (two, one))]
        # As many at a time as one peer may have open.
        gate = asyncio.Semaphore(8)

        async def ask(index: int) -> bytes:
            node, other, data = asked[index]
            async with gate:
                return await node.request(other.peer_id, ECHO, data)

        answers = await wait(asyncio.gather(*(ask(index) for index in range(len(asked)))))
        assert answers == [data for _, _, data in asked]


async def test_the_handler_learns_who_asks_what() -> None:
    seen: list[Request] = []

    async def remember(request: Request) -> bytes:
        seen.append(request)
        return b""

    async with connected(config(), config()) as (server, client):
        server.serve(SMALL, remember)
        await client.request(server.peer_id, SMALL, b"who")
        assert seen == [Request(SMALL, client.peer_id, b"who")]


async def test_a_handler_says_no_and_a_broken_one_says_little() -> None:
    async def refuse(_: Request) -> bytes:
        raise Refusal("not before Monday\n" + "x" * 500)

    async def fail(_: Request) -> bytes:
        raise ValueError("a secret")

    async with connected(config(), config()) as (server, client):
        server.serve(ECHO, refuse)
        server.serve(SMALL, fail)
        with pytest.raises(RequestRefused, match=r"^not before Monday x+$") as refused:
            await client.request(server.peer_id, ECHO, b"")
        assert len(str(refused.value)) == 256
        with pytest.raises(RequestRefused, match=r"^it failed$"):
            await client.request(server.peer_id, SMALL, b"")


async def test_a_handler_that_hangs_is_given_up_at_both_ends() -> None:
    async with connected(config(), config()) as (server, client):
        server.serve(SLOW, hang)
        server.serve(ECHO, hang)
        begun = time.monotonic()
        with pytest.raises((RequestTimeout, RequestRefused)):
            await client.request(server.peer_id, SLOW, b"")
        with pytest.raises(RequestTimeout, match=r"no answer within 0\.3 seconds"):
            await client.request(server.peer_id, ECHO, b"", timeout_seconds=0.3)
        assert time.monotonic() - begun < 10


async def test_a_stopped_process_is_given_up() -> None:
    async with nodes(2) as (server, client):
        assert await client.ask("request", server.peer_id, ECHO, "hello", answer="answer") == "hello"
        server.signal(signal.SIGSTOP)
        try:
            client.tell("request", server.peer_id, SLOW, "hello")
            assert (await client.next("failed"))[1] == "RequestTimeout"
        finally:
            server.signal(signal.SIGCONT)
        assert await client.ask("request", server.peer_id, ECHO, "again", answer="answer") == "again"


async def test_a_killed_process_is_not_connected_any_more() -> None:
    async with nodes(2) as (server, client):
        client.tell("request", server.peer_id, ECHO, "hello")
        await client.next("answer")
        await server.kill()
        await client.next("disconnected", server.peer_id)
        client.tell("request", server.peer_id, ECHO, "hello")
        assert (await client.next("failed"))[1] == "PeerNotConnected"


async def test_what_cannot_be_asked_has_its_name() -> None:
    async with connected(config(), config()) as (server, client):
        with pytest.raises(ProtocolUnsupported):
            await client.request(server.peer_id, ECHO, b"")
        with pytest.raises(PeerNotConnected, match="is not connected"):
            await client.request(STRANGER, ECHO, b"")
        with pytest.raises(UnknownName, match='no protocol "/nothing"'):
            await client.request(server.peer_id, "/nothing", b"")
        with pytest.raises(UnknownName):
            server.serve("/nothing", echo)
        with pytest.raises(MessageTooLong, match="at most 16 bytes, not 17"):
            await client.request(server.peer_id, SMALL, bytes(17))
        with pytest.raises(InvalidAddress, match="a peer's name is like"):
            await client.request(PeerId("somebody"), ECHO, b"")


async def test_an_answer_beyond_the_size_is_not_sent_and_not_taken() -> None:
    async def answer(_: Request) -> bytes:
        return bytes(17)

    async with connected(config(), config()) as (server, client):
        server.serve(SMALL, answer)
        with pytest.raises(RequestRefused, match="too long"):
            await client.request(server.peer_id, SMALL, b"")
    generous = config(protocols=(ProtocolSpec(SMALL, 64, 64),))
    async with connected(generous, config()) as (server, client):
        server.serve(SMALL, answer)
        with pytest.raises(AnswerMalformed, match="at most 16"):
            await client.request(server.peer_id, SMALL, b"")


async def test_a_request_beyond_the_size_is_not_read() -> None:
    called: list[Request] = []

    async def answer(request: Request) -> bytes:
        called.append(request)
        return b""

    generous = config(protocols=(ProtocolSpec(SMALL, 1 << 20, 64),))
    async with connected(config(), generous) as (server, client):
        server.serve(SMALL, answer)
        for size in (17, 1 << 20):
            with pytest.raises((AnswerMalformed, PeerNotConnected)):
                await client.request(server.peer_id, SMALL, bytes(size))
        assert await client.request(server.peer_id, SMALL, bytes(16)) == b""
        assert [len(request.data) for request in called] == [16]


@pytest.mark.parametrize("size", [0, 1 << 20])
async def test_requests_beyond_the_budget_are_refused_and_counted(size: int) -> None:
    strict = config(peer_requests=Budget(0.5, 5))
    async with connected(strict, config()) as (server, client):
        server.serve(ECHO, echo)
        refused = 0
        for _ in range(20):
            try:
                await client.request(server.peer_id, ECHO, bytes(size))
            except OverBudget:
                refused += 1
        assert 10 <= refused <= 15
        assert server.statistics()["requests_refused"] == refused
        await eventually(lambda: server.peers()[0].score < -5)


async def test_one_peer_has_so_many_requests_open_and_no_more() -> None:
    open_now = 0
    most = 0
    release = asyncio.Event()

    async def answer(_: Request) -> bytes:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await release.wait()
        open_now -= 1
        return b"done"

    async with connected(config(peer_requests_open=4), config()) as (server, client):
        server.serve(ECHO, answer)
        asked = [asyncio.create_task(client.request(server.peer_id, ECHO, b"")) for _ in range(12)]
        await eventually(lambda: open_now == 4 and sum(task.done() for task in asked) == 8)
        release.set()
        answers = await wait(asyncio.gather(*asked, return_exceptions=True))
        assert answers.count(b"done") == 4
        assert most == 4
        assert await client.request(server.peer_id, ECHO, b"") == b"done"


async def test_requests_of_one_peer_have_so_many_bytes_and_no_more() -> None:
    release = asyncio.Event()
    sizes: list[int] = []

    async def answer(request: Request) -> bytes:
        sizes.append(len(request.data))
        await release.wait()
        return request.data

    # There is room for two of the longest answers in any case. Nothing is read without room for the longest.
    size = (1 << 20) // 2
    async with connected(config(peer_request_bytes=1), config()) as (server, client):
        server.serve(ECHO, answer)
        asked = [asyncio.create_task(client.request(server.peer_id, ECHO, bytes(size))) for _ in range(6)]
        await eventually(lambda: len(sizes) == 3 and sum(task.done() for task in asked) == 3)
        with pytest.raises(OverBudget, match="more bytes than your budget allows"):
            await client.request(server.peer_id, ECHO, b"x")
        assert server.statistics()["requests_refused"] == 4
        patient = asyncio.create_task(request_patiently(client, server.peer_id, ECHO, b"patient"))
        await eventually(lambda: server.statistics()["requests_refused"] > 4)
        release.set()
        answers = await wait(asyncio.gather(*asked, return_exceptions=True))
        assert answers.count(bytes(size)) == 3
        assert await wait(patient) == b"patient"
        assert await client.request(server.peer_id, ECHO, bytes(2 * size)) == bytes(2 * size)


async def test_patience_has_an_end() -> None:
    async with connected(config(peer_requests=Budget(0.001, 1)), config()) as (server, client):
        server.serve(ECHO, echo)
        assert await request_patiently(client, server.peer_id, ECHO, b"first") == b"first"
        with pytest.raises(OverBudget, match="more requests than your budget allows"):
            await request_patiently(client, server.peer_id, ECHO, b"second", pauses_max=2)
        assert server.statistics()["requests_refused"] == 3


async def test_own_requests_to_one_peer_leave_its_connection_room() -> None:
    async with connected(config(), config(own_requests_open=256)) as (server, client):
        server.serve(ECHO, hang)
        asked = [
            asyncio.create_task(client.request(server.peer_id, ECHO, b"", timeout_seconds=2))
            for _ in range(200)
        ]
        answers = await wait(asyncio.gather(*asked, return_exceptions=True))
        assert any(isinstance(answer, TransportBusy) for answer in answers)
        assert any(isinstance(answer, RequestTimeout) for answer in answers)
        assert [peer.peer for peer in client.peers()] == [server.peer_id]


async def test_own_requests_are_bounded() -> None:
    async with connected(config(), config(own_requests_open=2)) as (server, client):
        server.serve(ECHO, hang)
        asked = [
            asyncio.create_task(client.request(server.peer_id, ECHO, b"", timeout_seconds=2))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        with pytest.raises(TransportBusy, match="too many requests"):
            await client.request(server.peer_id, ECHO, b"")
        assert all(
            isinstance(error, RequestTimeout)
            for error in await asyncio.gather(*asked, return_exceptions=True)
        )


async def test_whoever_waits_when_the_transport_closes_is_told() -> None:
    async with connected(config(), config()) as (server, client):
        server.serve(ECHO, hang)
        asked = asyncio.create_task(client.request(server.peer_id, ECHO, b""))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(TransportClosed):
            await asked
        with pytest.raises(TransportClosed):
            await client.request(server.peer_id, ECHO, b"")


async def test_a_disconnect_ends_a_request() -> None:
    async with connected(config(), config()) as (server, client):
        server.serve(ECHO, hang)
        asked = asyncio.create_task(client.request(server.peer_id, ECHO, b""))
        await eventually(lambda: server.statistics()["requests_received"] == 1)
        await server.close()
        with pytest.raises((PeerNotConnected, AnswerMalformed)):
            await wait(asked)


async def test_nobody_is_asked_by_a_node_that_is_alone() -> None:
    async with transport(1, replace(config(), protocols=config().protocols[:1])) as node:
        with pytest.raises(PeerNotConnected):
            await node.request(STRANGER, ECHO, b"")
