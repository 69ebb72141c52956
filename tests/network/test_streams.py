"""Streams of bytes: what is written arrives, each end knows how the other ended, and nothing grows."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.network.config import Budget, StreamSpec
from noria.network.errors import (
    InvalidAddress,
    PeerNotConnected,
    ProtocolUnsupported,
    StreamClosed,
    StreamFailed,
    StreamReset,
    StreamTimeout,
    TransportBusy,
    TransportClosed,
    UnknownName,
)
from noria.network.peers import PeerEventKind, PeerId
from noria.network.streams import Stream
from noria.network.transport import Request, Transport, peer_id
from tests.network.nodes import Node
from tests.network.settings import (
    ECHO,
    IDLE,
    RAW,
    SLOW,
    WAIT_SECONDS,
    config,
    connected,
    eventually,
    seed,
    transport,
    until,
    wait,
)

STRANGER = peer_id(seed(99))
BUFFER = 1 << 18
"""Of the protocol ``RAW``."""
PIECE = 1 << 20


def some_bytes(size: int, number: int = 1) -> bytes:
    return random.Random(number).randbytes(size)


async def read_all(stream: Stream, max_bytes: int = PIECE) -> bytes:
    pieces = []
    while data := await stream.read(max_bytes):
        assert len(data) <= max_bytes
        pieces.append(data)
    assert await stream.read(max_bytes) == b"", "the end stays the end"
    return b"".join(pieces)


async def say(stream: Stream, data: bytes) -> None:
    await stream.write(data)
    await stream.close_write()


async def echo_stream(stream: Stream) -> None:
    while data := await stream.read(PIECE):
        await stream.write(data)


class Taken:
    """A handler that hands its streams to a test, and holds them until it is told what to do."""

    def __init__(self, node: Transport, protocol: str = RAW) -> None:
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.ends: dict[Stream, asyncio.Future[None]] = {}
        node.accept_streams(protocol, self.hold)

    async def hold(self, stream: Stream) -> None:
        end = self.ends[stream] = asyncio.get_running_loop().create_future()
        self.streams.put_nowait(stream)
        try:
            await end
        finally:
            del self.ends[stream]

    async def next(self) -> Stream:
        return await wait(self.streams.get())  # type: ignore[no-any-return]


@asynccontextmanager
async def pair(protocol: str = RAW) -> AsyncIterator[tuple[Transport, Transport, Stream, Stream]]:
    """Two transports and both ends of a stream between them."""
    async with connected(config(), config()) as (server, client):
        taken = Taken(server, protocol)
        own = await wait(client.open_stream(server.peer_id, protocol))
        yield server, client, own, await taken.next()


async def again_and_again(call: Callable[[], Awaitable[object]]) -> None:
    while True:
        await wait(call())


async def until_stuck(stream: Stream, piece: bytes) -> tuple[asyncio.Task[None], Callable[[], int]]:
    """Write until the other end has no more room; return what writes on, and how much it has written."""
    written = 0

    async def write() -> None:
        nonlocal written
        while True:
            await stream.write(piece)
            written += len(piece)

    writing = asyncio.create_task(write())
    await eventually(lambda: written >= BUFFER)
    return writing, lambda: written


def open_streams(node: Transport) -> int:
    return node.statistics()["streams_open"]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# ---------------------------------------------------------------- bytes


async def test_many_bytes_go_both_ways_at_once() -> None:
    async with pair() as (server, client, own, theirs):
        there, back = some_bytes(6 * PIECE + 1, 1), some_bytes(5 * PIECE + 3, 2)
        # Nobody could write all of it before the other reads.
        _, _, arrived, returned = await wait(
            asyncio.gather(say(own, there), say(theirs, back), read_all(theirs), read_all(own, 1000))
        )
        assert arrived == there
        assert returned == back
        assert (own.peer, theirs.peer) == (server.peer_id, client.peer_id)
        assert own.protocol == theirs.protocol == RAW
        await eventually(lambda: open_streams(client) == 0)


def test_any_pieces_arrive_as_the_same_bytes() -> None:
    small = config(streams=(StreamSpec(RAW, WAIT_SECONDS, 8, 1000),), peer_requests=Budget(1e6, 1e6))
    large = config(streams=(StreamSpec(RAW, WAIT_SECONDS, 8, 70_000),), peer_requests=Budget(1e6, 1e6))

    async def both(stack: AsyncExitStack) -> tuple[Transport, Transport, Taken]:
        server, client = await stack.enter_async_context(connected(small, large))
        return server, client, Taken(server)

    async def exchange(
        nodes: tuple[Transport, Transport, Taken], pieces: list[int], back: list[int], sizes: list[int]
    ) -> None:
        server, client, taken = nodes

        async def write(stream: Stream, sizes: list[int], data: bytes) -> None:
            for size in sizes:
                await stream.write(data[:size])
                data = data[size:]
            await stream.close_write()

        async def read(stream: Stream) -> bytes:
            found, turn = b"", 0
            while data := await stream.read(sizes[turn % len(sizes)]):
                assert len(data) <= sizes[turn % len(sizes)]
                found, turn = found + data, turn + 1
            return found

        async with await client.open_stream(server.peer_id, RAW) as own:
            theirs = await taken.next()
            there, here = some_bytes(sum(pieces), 1), some_bytes(sum(back), 2)
            _, _, arrived, returned = await wait(
                asyncio.gather(write(own, pieces, there), write(theirs, back, here), read(theirs), read(own))
            )
            assert arrived == there
            assert returned == here
        taken.ends[theirs].set_result(None)

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        nodes = runner.run(both(stack))
        lengths = st.lists(
            st.one_of(st.integers(0, 3), st.integers(0, 2000), st.integers(0, 90_000)), max_size=6
        )

        @given(lengths, lengths, st.lists(st.integers(1, 80_000), min_size=1, max_size=4))
        def any_pieces(pieces: list[int], back: list[int], sizes: list[int]) -> None:
            runner.run(
                exchange(nodes, pieces, back, [max(size, sum(pieces + back) // 200) for size in sizes])
            )

        try:
            any_pieces()
        finally:
            runner.run(stack.aclose())


async def test_many_streams_do_not_mix_and_do_not_wait_for_each_other() -> None:
    async with connected(config(), config()) as (server, client):
        taken = Taken(server)
        stuck = await client.open_stream(server.peer_id, RAW)
        await taken.next()
        writing, _ = await until_stuck(stuck, bytes(1 << 14))
        server.accept_streams(RAW, echo_stream)

        async def ask(number: int) -> None:
            async with await client.open_stream(server.peer_id, RAW) as stream:
                data = some_bytes(300_000 + number, number)
                _, back = await asyncio.gather(say(stream, data), read_all(stream))
                assert back == data

        await wait(asyncio.gather(*(ask(number) for number in range(7))))
        assert not writing.done()
        writing.cancel()


async def test_the_event_loop_sees_no_single_bytes() -> None:
    async with pair() as (server, client, own, theirs):
        for _ in range(2000):
            await own.write(b"x")
        # Everything has come by the time that this has.
        await own.close_write()
        found, turns = 0, 0
        while data := await theirs.read(PIECE):
            found, turns = found + len(data), turns + 1
        assert found == 2000
        assert turns < 500, turns
        assert server.statistics()["streams_accepted"] == client.statistics()["streams_opened"] == 1


# ---------------------------------------------------------------- ends


async def test_each_end_may_stop_writing_and_go_on_reading() -> None:
    async with pair() as (_, _, own, theirs):
        await say(own, b"question")
        assert await read_all(theirs) == b"question"
        with pytest.raises(StreamClosed):
            await own.write(b"more")
        await own.close_write()
        await theirs.write(b"ans")
        assert await wait(own.read(2)) == b"an"
        await say(theirs, b"wer")
        assert await read_all(own) == b"swer"


async def test_a_handler_that_returns_closes_and_one_that_raises_resets() -> None:
    async def answer(stream: Stream) -> None:
        await stream.write(await stream.read(5))

    async def fail(stream: Stream) -> None:
        await stream.write(await stream.read(5))
        raise ValueError("a secret")

    async with connected(config(), config()) as (server, client):
        server.accept_streams(RAW, answer)
        async with await client.open_stream(server.peer_id, RAW) as stream:
            await stream.write(b"hello, and what nobody reads")
            assert await read_all(stream) == b"hello"
            # It is gone, and takes nothing more.
            with pytest.raises(StreamReset):
                await again_and_again(lambda: stream.write(bytes(BUFFER)))
        server.accept_streams(RAW, fail)
        async with await client.open_stream(server.peer_id, RAW) as stream:
            await stream.write(b"hello")
            assert await wait(stream.read(PIECE)) == b"hello"
            with pytest.raises(StreamReset):
                await wait(stream.read(1))
        await eventually(lambda: open_streams(server) == open_streams(client) == 0)


@pytest.mark.parametrize("ended", [False, True])
async def test_a_reset_is_no_end(ended: bool) -> None:
    async with pair() as (_, _, own, theirs):
        if ended:
            await own.close_write()
            assert await theirs.read(1) == b""
        else:
            await own.write(b"half")
        reading = asyncio.create_task(own.read(1))
        writing, _ = await until_stuck(theirs, bytes(1 << 14))
        await wait(reading)
        own.reset()
        own.reset()
        with pytest.raises(StreamReset):
            await wait(writing)
        if not ended:
            assert await wait(theirs.read(PIECE)) == b"half", "what came before is read"
            with pytest.raises(StreamReset):
                await wait(theirs.read(PIECE))
        for stream in (own, theirs):
            with pytest.raises(StreamFailed):
                await wait(stream.write(b"more"))
        with pytest.raises(StreamReset):
            await own.read(1)


async def test_a_reset_tells_whoever_waits_at_the_same_end() -> None:
    async with pair() as (_, _, own, _):
        writing, _ = await until_stuck(own, bytes(1 << 14))
        reading = asyncio.create_task(own.read(1))
        await asyncio.sleep(0)
        own.reset()
        for task in (reading, writing):
            with pytest.raises(StreamReset, match="this end"):
                await wait(task)


async def test_whatever_is_raised_inside_resets() -> None:
    async with pair() as (_, _, own, theirs):
        with pytest.raises(ZeroDivisionError):
            async with own:
                raise ZeroDivisionError
        with pytest.raises(StreamReset):
            await wait(theirs.read(1))


async def test_a_stream_that_nobody_holds_is_reset() -> None:
    async with connected(config(), config()) as (server, client):
        taken = Taken(server)
        own = await client.open_stream(server.peer_id, RAW)
        theirs = await taken.next()
        await own.write(b"hello")
        del own
        gc.collect()
        assert await wait(theirs.read(5)) == b"hello"
        with pytest.raises(StreamReset):
            await wait(theirs.read(1))
        await eventually(lambda: open_streams(server) == open_streams(client) == 0)


# ---------------------------------------------------------------- bounds


async def test_a_writer_waits_while_the_other_end_does_not_read() -> None:
    async def echo(request: Request) -> bytes:
        return request.data

    async with pair() as (server, client, own, theirs):
        server.serve(ECHO, echo)
        writing, written = await until_stuck(own, bytes(1 << 12))
        for _ in range(20):  # The connection goes on.
            await client.request(server.peer_id, ECHO, b"")
        assert written() == BUFFER
        assert not writing.done()
        assert await wait(theirs.read(PIECE)) == bytes(BUFFER)
        await eventually(lambda: written() >= BUFFER * 3 // 2)
        writing.cancel()


async def test_what_is_not_read_takes_no_memory_beyond_the_buffers() -> None:
    async with connected(config(), config()) as (server, client):
        taken, data = Taken(server), some_bytes(64 << 20)
        streams = [await client.open_stream(server.peer_id, RAW) for _ in range(8)]
        theirs = [await taken.next() for _ in streams]
        before = resident()
        writing = [asyncio.create_task(say(stream, data)) for stream in streams]
        # Each has sent all that it may.
        first = [await wait(stream.read(1)) for stream in theirs]
        assert first == [data[:1]] * 8
        await asyncio.wait(writing, timeout=0.5)
        assert not any(task.done() for task in writing)
        grown = resident() - before
        # At the reader what has come and what it has taken, at the writer what is under way; some for both.
        assert grown < 8 * 4 * BUFFER + (8 << 20), grown
        for task in writing:
            task.cancel()


async def test_one_peer_has_so_many_streams_and_no_more() -> None:
    async with connected(config(), config(), config()) as (server, client, other):
        taken = Taken(server)
        greedy = [await client.open_stream(server.peer_id, RAW) for _ in range(8)]
        held = [await taken.next() for _ in greedy]
        with pytest.raises(TransportBusy, match="too many streams"):
            await client.open_stream(server.peer_id, RAW)
        async with await other.open_stream(server.peer_id, RAW):
            await taken.next()
        taken.ends[held[0]].set_result(None)
        assert await read_all(greedy[0]) == b""
        await greedy[0].close()
        await eventually(lambda: open_streams(client) == 7)
        async with await client.open_stream(server.peer_id, RAW) as again:
            await taken.next()
            await again.write(b"there is room again")


async def test_streams_beyond_the_number_are_reset_and_counted() -> None:
    wide = config(streams=(StreamSpec(RAW, WAIT_SECONDS, 32),))
    async with connected(config(), wide) as (server, client):
        taken = Taken(server)
        streams = [await client.open_stream(server.peer_id, RAW) for _ in range(12)]
        held = [await taken.next() for _ in range(8)]
        reading = [asyncio.create_task(stream.read(1)) for stream in streams]
        await eventually(lambda: sum(task.done() for task in reading) == 4)
        assert [type(task.exception()) for task in reading if task.done()] == [StreamReset] * 4
        assert server.statistics()["streams_refused"] == 4
        assert server.statistics()["streams_accepted"] == open_streams(server) == 8
        for stream in held:
            await stream.write(b"x")
        await eventually(lambda: all(task.done() for task in reading))
        # They end, and there is room again.
        for end in list(taken.ends.values()):
            end.set_result(None)
        await eventually(lambda: open_streams(server) == 0)
        await client.open_stream(server.peer_id, RAW)
        await taken.next()


async def test_there_are_so_many_streams_in_all() -> None:
    async with connected(config(streams_open=3), config(own_streams_open=2), config()) as (server, one, two):
        taken = Taken(server)
        first = [await one.open_stream(server.peer_id, RAW) for _ in range(2)]
        with pytest.raises(TransportBusy):
            await one.open_stream(server.peer_id, RAW)
        second = [await two.open_stream(server.peer_id, RAW) for _ in range(2)]
        for _ in range(3):
            await taken.next()
        await eventually(lambda: server.statistics()["streams_refused"] == 1)
        for stream in (*first, *second):
            stream.reset()
        await eventually(lambda: open_streams(server) == 0)


async def test_streams_beyond_the_budget_are_refused_and_held_against_the_peer() -> None:
    async with connected(config(peer_requests=Budget(0.5, 5)), config()) as (server, client):
        server.accept_streams(RAW, echo_stream)
        refused = 0
        for _ in range(20):
            stream = await client.open_stream(server.peer_id, RAW)
            try:
                await say(stream, b"x")
                assert await wait(stream.read(1)) == b"x"
            except StreamReset:
                refused += 1
            await stream.close()
        assert 10 <= refused <= 15
        assert server.statistics()["streams_refused"] == refused
        await eventually(lambda: server.peers()[0].score < -5)


async def test_idle_streams_cost_no_time() -> None:
    async with pair() as (_, client, own, theirs):
        waiting = [asyncio.create_task(stream.read(1)) for stream in (own, theirs)]

        async def busy_share() -> float:
            begun = time.process_time()
            await asyncio.wait(waiting, timeout=0.5)
            return (time.process_time() - begun) / 0.5

        # What earlier tests left running in this process ends; who polls does not.
        shares = [await busy_share()]
        while shares[-1] > 0.5 and len(shares) < 20:
            shares.append(await busy_share())
        assert shares[-1] <= 0.5, shares
        assert open_streams(client) == 1
        for task in waiting:
            task.cancel()


# ---------------------------------------------------------------- what can go wrong


async def test_what_cannot_be_opened_has_its_name() -> None:
    async with connected(config(), config()) as (server, client):
        with pytest.raises(ProtocolUnsupported):
            await client.open_stream(server.peer_id, RAW)
        with pytest.raises(PeerNotConnected, match="is not connected"):
            await client.open_stream(STRANGER, RAW)
        for name in ("/nothing", ECHO):
            with pytest.raises(UnknownName, match=f'no protocol of streams "{name}"'):
                await client.open_stream(server.peer_id, name)
            with pytest.raises(UnknownName):
                server.accept_streams(name, echo_stream)
        with pytest.raises(UnknownName):
            await client.request(server.peer_id, RAW, b"")
        with pytest.raises(InvalidAddress):
            await client.open_stream(PeerId("somebody"), RAW)
        assert open_streams(client) == 0


async def test_requests_and_streams_are_served_side_by_side() -> None:
    async def echo(request: Request) -> bytes:
        return request.data

    async with connected(config(), config()) as (server, client):
        server.serve(ECHO, echo)
        server.accept_streams(IDLE, echo_stream)
        server.accept_streams(RAW, echo_stream)
        assert await client.request(server.peer_id, ECHO, b"asked") == b"asked"
        server.serve(SLOW, echo)
        for protocol in (RAW, IDLE):
            async with await client.open_stream(server.peer_id, protocol) as stream:
                await say(stream, b"said")
                assert await read_all(stream) == b"said"


async def test_a_node_without_streams_speaks_none() -> None:
    async with connected(config(streams=()), config()) as (server, client):
        with pytest.raises(UnknownName):
            server.accept_streams(RAW, echo_stream)
        with pytest.raises(ProtocolUnsupported):
            await client.open_stream(server.peer_id, RAW)


@pytest.mark.parametrize("waits", ["read", "write"])
async def test_a_stream_on_which_nothing_moves_is_over(waits: str) -> None:
    patient = config(streams=(StreamSpec(IDLE, WAIT_SECONDS, 2),))
    async with connected(patient, config()) as (server, client):
        taken = Taken(server, IDLE)
        own = await client.open_stream(server.peer_id, IDLE)
        theirs, begun = await taken.next(), time.monotonic()
        with pytest.raises(StreamTimeout, match=r"nothing moved on the stream for 1 seconds"):
            await wait(own.read(1) if waits == "read" else own.write(bytes(1 << 20)))
        assert 0.9 < time.monotonic() - begun < 10
        with pytest.raises(StreamTimeout):
            await own.write(b"late")
        with pytest.raises(StreamReset):
            await again_and_again(lambda: theirs.read(PIECE))
        await eventually(lambda: open_streams(server) == open_streams(client) == 0)


async def test_a_trickle_keeps_a_stream_and_costs_its_place() -> None:
    async with pair(IDLE) as (_, _, own, theirs):
        begun = time.monotonic()
        for number in range(14):
            await own.write(bytes([number]))
            assert await wait(theirs.read(9)) == bytes([number])
            await asyncio.sleep(0.1)
        assert time.monotonic() - begun > 1.3


@asynccontextmanager
async def process(node: Transport) -> AsyncIterator[Node]:
    """A node in a process of its own that sends back whatever comes."""
    other = Node(7)
    try:
        async with node.events() as events:
            await other.start(node.addresses[0])
            await until(events, PeerEventKind.IDENTIFIED, PeerId(other.peer_id))
        yield other
    finally:
        await other.kill()


async def test_a_killed_peer_is_a_reset() -> None:
    async with transport(1) as node, process(node) as other:
        stream = await node.open_stream(PeerId(other.peer_id), RAW)
        await stream.write(b"hello")
        assert await wait(stream.read(5)) == b"hello"
        reading = asyncio.create_task(stream.read(1))
        await asyncio.sleep(0)
        await other.kill()
        with pytest.raises(StreamReset):
            await wait(reading)
        with pytest.raises(StreamReset):
            await wait(stream.write(b"anybody?"))
        await eventually(lambda: open_streams(node) == 0)


async def test_a_stopped_peer_is_given_up_and_hinders_nobody() -> None:
    async with connected(config(), config()) as (node, third), process(node) as other:
        node.accept_streams(RAW, echo_stream)
        stream = await node.open_stream(PeerId(other.peer_id), IDLE)
        await stream.write(b"hello")
        assert await wait(stream.read(5)) == b"hello"
        other.signal(signal.SIGSTOP)
        try:
            with pytest.raises(StreamTimeout):
                await wait(stream.write(bytes(8 << 20)))
            with pytest.raises(StreamTimeout, match=r"no stream within 0\.3 seconds"):
                await node.open_stream(PeerId(other.peer_id), RAW, timeout_seconds=0.3)
            async with await third.open_stream(node.peer_id, RAW) as beside:
                await say(beside, b"beside")
                assert await read_all(beside) == b"beside"
        finally:
            other.signal(signal.SIGCONT)
        async with await node.open_stream(PeerId(other.peer_id), RAW) as again:
            await say(again, b"again")
            assert await wait(read_all(again)) == b"again"


@pytest.mark.parametrize("how", ["disconnect", "ban"])
async def test_whoever_is_let_go_has_no_streams_any_more(how: str) -> None:
    async with pair() as (server, client, own, theirs):
        waiting = [asyncio.create_task(stream.read(1)) for stream in (own, theirs)]
        await asyncio.sleep(0)
        if how == "ban":
            server.ban(client.peer_id, 60, "a whim")
        else:
            server.disconnect(client.peer_id)
        for task in waiting:
            with pytest.raises(StreamReset):
                await wait(task)
        for stream in (own, theirs):
            with pytest.raises(StreamReset):
                await wait(stream.write(b"more"))
        await eventually(lambda: open_streams(server) == open_streams(client) == 0)


async def test_a_disconnect_ends_an_own_request_at_once() -> None:
    async def hang(_: Request) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with connected(config(), config()) as (server, client):
        server.serve(ECHO, hang)
        asked = asyncio.create_task(client.request(server.peer_id, ECHO, b""))
        await eventually(lambda: server.statistics()["requests_received"] == 1)
        client.disconnect(server.peer_id)
        with pytest.raises(PeerNotConnected):
            await asyncio.wait_for(asked, 10)  # Not after the protocol's 20 seconds.


# ---------------------------------------------------------------- cancellation and closing


async def test_a_cancelled_read_loses_nothing() -> None:
    async with pair() as (_, _, own, theirs):
        data, found = some_bytes(200_000), b""
        source = random.Random(5)

        async def trickle() -> None:
            for start in range(0, len(data), 1000):
                await own.write(data[start : start + 1000])
                await asyncio.sleep(0)
            await own.close_write()

        writing, cancelled, ended = asyncio.create_task(trickle()), 0, False
        while not ended:
            reading = asyncio.create_task(theirs.read(777))
            for _ in range(source.randrange(4)):
                await asyncio.sleep(0)
            reading.cancel()
            try:
                piece = await reading
                found, ended = found + piece, not piece
            except asyncio.CancelledError:
                cancelled += 1
                await asyncio.sleep(0.001 if cancelled % 50 == 0 else 0)
        await writing
        assert found == data
        assert cancelled > 20


async def test_a_cancelled_write_resets_and_one_that_has_not_begun_does_not() -> None:
    async with pair() as (_, _, own, theirs):
        first = asyncio.create_task(own.write(bytes(3 * BUFFER)))
        second = asyncio.create_task(own.write(b"after it"))
        await wait(theirs.read(1))
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        taking = asyncio.create_task(read_all(theirs))
        await wait(first)
        await own.close_write()
        assert len(await wait(taking)) == 3 * BUFFER - 1
        third = asyncio.create_task(theirs.write(bytes(3 * BUFFER)))
        await wait(own.read(1))
        third.cancel()
        with pytest.raises(asyncio.CancelledError):
            await third
        with pytest.raises(StreamReset):
            await again_and_again(lambda: own.read(PIECE))


async def test_a_cancelled_opening_leaves_nothing_open() -> None:
    async with connected(config(), config()) as (server, client):
        taken = Taken(server)
        for turns in range(1, 6):
            opening = asyncio.create_task(client.open_stream(server.peer_id, RAW))
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        await eventually(lambda: open_streams(client) == 0)
        opened = server.statistics()["streams_accepted"]
        for _ in range(opened):
            stream = await taken.next()
            with pytest.raises(StreamReset):
                await wait(stream.read(1))
        await eventually(lambda: open_streams(server) == 0)


async def test_whoever_waits_when_the_transport_closes_is_told() -> None:
    async with pair() as (_, client, own, theirs):
        tasks: list[asyncio.Task[object]] = [
            asyncio.create_task(own.read(1)),
            asyncio.create_task(own.write(bytes(4 * BUFFER))),
        ]
        await wait(theirs.read(1))
        await wait(client.close())
        for task in tasks:
            with pytest.raises(TransportClosed):
                await task
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: own.read(1),
            lambda: own.write(b"late"),
            own.close_write,
            lambda: client.open_stream(STRANGER, RAW),
        ]
        for call in calls:
            with pytest.raises(TransportClosed):
                await wait(call())
        await own.close()
        with pytest.raises(StreamReset):
            await again_and_again(lambda: theirs.read(PIECE))


async def test_a_transport_closes_while_handlers_have_streams() -> None:
    async with connected(config(), config()) as (server, client):
        server.accept_streams(RAW, echo_stream)
        streams = [await client.open_stream(server.peer_id, RAW) for _ in range(4)]
        for stream in streams:
            await stream.write(b"x")
            assert await wait(stream.read(1)) == b"x"
        await wait(server.close())
        for stream in streams:
            with pytest.raises(StreamReset):
                await wait(stream.read(1))
        await eventually(lambda: open_streams(client) == 0)


async def test_what_was_said_before_the_transport_closed_arrives() -> None:
    async with pair() as (_, client, own, theirs):
        await say(own, b"goodbye")
        await client.close()
        assert await wait(read_all(theirs)) == b"goodbye"


async def test_a_read_takes_at_least_a_byte() -> None:
    async with pair() as (_, _, own, _):
        for size in (0, -1):
            with pytest.raises(ValueError, match="at least 1 byte"):
                await own.read(size)


async def test_a_stream_of_another_configuration_keeps_to_both() -> None:
    tiny = config(streams=(StreamSpec(RAW, WAIT_SECONDS, 8, 1),))
    async with connected(tiny, replace(config(), threads=2)) as (server, client):
        server.accept_streams(RAW, echo_stream)
        async with await client.open_stream(server.peer_id, RAW) as stream:
            _, back = await wait(asyncio.gather(say(stream, b"byte by byte"), read_all(stream)))
            assert back == b"byte by byte"
