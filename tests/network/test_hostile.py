"""Whatever bytes come to the port, and however fast, the node goes on within its memory."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from contextlib import suppress
from pathlib import Path

import pytest

from noria.network.config import Budget
from noria.network.transport import BATCH, Message, Request, Transport, Verdict
from tests.network.nodes import Node
from tests.network.settings import (
    ECHO,
    WAIT_SECONDS,
    config,
    connected,
    eventually,
    publish_until_heard,
    transport,
    wait,
)

MULTISTREAM = b"\x13/multistream/1.0.0\n"
NOISE = b"\x07/noise\n"


async def echo(request: Request) -> bytes:
    return request.data


def port(node: Transport) -> int:
    return int(node.addresses[0].split("/")[4])


async def send(node: Transport, data: bytes, *, read: bool) -> bytes:
    """Send bytes to a node's port, and return what it says until it hangs up or says nothing for a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port(node))
    said = b""
    with suppress(TimeoutError, ConnectionError):
        writer.write(data)
        await wait(writer.drain())
        while read:
            more = await asyncio.wait_for(reader.read(4096), 0.1)
            said, read = said + more, bool(more)
    writer.close()
    return said


def mutations(count: int) -> list[bytes]:
    """Return bytes that are nearly a handshake, or not at all; the same on every run."""
    source = random.Random(11)
    handshake = MULTISTREAM + NOISE + struct.pack(">H", 48) + source.randbytes(48)
    found = [
        b"",
        b"\x00" * 4096,
        b"\xff" * 4096,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\xff\xff\xff\xff\x7f",
        MULTISTREAM,
        MULTISTREAM * 500,
        MULTISTREAM + b"\x03ls\n",
        MULTISTREAM + b"\x0b/plaintext\n",
        MULTISTREAM + NOISE + b"\x00\x00",
        MULTISTREAM + NOISE + b"\xff\xff" + source.randbytes(65535),
        handshake,
        handshake + handshake,
    ]
    while len(found) < count:
        mutated = bytearray(handshake + source.randbytes(source.randrange(200)))
        for _ in range(source.randrange(1, 8)):
            mutated[source.randrange(len(mutated))] = source.randrange(256)
        cut = source.randrange(len(mutated))
        found.append(bytes(mutated[:cut]) if source.random() < 0.3 else bytes(mutated))
    return found


async def test_any_bytes_on_the_port_change_nothing_for_others() -> None:
    async with connected(config(connections_per_ip=64), config()) as (node, honest):
        node.serve(ECHO, echo)
        for number, data in enumerate(mutations(150)):
            await send(node, data, read=number % 3 == 0)
        assert await honest.request(node.peer_id, ECHO, b"still here") == b"still here"
        assert [peer.peer for peer in node.peers()] == [honest.peer_id]
        assert node.statistics()["connections_refused"] > 100


async def test_a_node_says_what_it_speaks_before_a_secret_is_agreed_and_nothing_else() -> None:
    async with transport(1) as node:
        said = await send(node, MULTISTREAM + b"\x0b/plaintext\n", read=True)
        assert said.startswith(MULTISTREAM)
        assert b"noria" not in said


async def test_silent_connections_end_with_the_time_for_the_handshake() -> None:
    async with (
        transport(1, config(handshake_seconds=0.5, connections_per_ip=8)) as node,
        transport(2) as honest,
    ):
        silent = [await asyncio.open_connection("127.0.0.1", port(node)) for _ in range(8)]
        # They take all the room there is for this address, and not for long.
        ends = await wait(asyncio.gather(*(reader.read() for reader, _ in silent), return_exceptions=True))
        assert all(end == b"" or end == MULTISTREAM or isinstance(end, ConnectionError) for end in ends)
        for _, writer in silent:
            writer.close()
        assert await wait(honest.dial(node.addresses[0])) == node.peer_id


def resident() -> int:
    """Return the bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.timeout(180)
async def test_a_flood_takes_no_more_memory_than_declared() -> None:
    settings = config(
        pending_messages=64,
        pending_message_bytes=8 << 20,
        peer_messages=Budget(1e6, 1e6),
        validation_seconds=1.0,
    )
    never = asyncio.Event()
    judged = 0

    async def judge(_: Message) -> Verdict:
        nonlocal judged
        judged += 1
        await never.wait()
        return Verdict.ACCEPT

    async with transport(99, settings) as node:
        node.subscribe("blocks", judge)
        flood = Node(1)
        try:
            await flood.start(node.addresses[0])
            await flood.publish("blocks", "first")
            before = resident()
            for number in range(200):
                await flood.publish("blocks", f"{number:03}", 1 << 19)
            await eventually(lambda: node.statistics()["messages_received"] >= 150)
            grown = resident() - before
        finally:
            await flood.kill()
        assert grown < 64 << 20, grown
        assert 1 <= judged <= 64
        assert node.statistics()["messages_dropped"] > 50


async def test_a_flood_leaves_the_event_loop_its_turns() -> None:
    settings = config(peer_messages=Budget(1e6, 1e6))
    seen = at_turn = most = 0

    def pending() -> int:
        return node.statistics()["messages_pending"]

    def judge(_: Message) -> Verdict:
        nonlocal seen
        seen += 1
        if seen == 2:  # The loop stands still until there is far more to judge than fits into a turn.
            deadline = time.monotonic() + WAIT_SECONDS
            while pending() < 3 * BATCH and time.monotonic() < deadline:
                time.sleep(0.005)
            assert pending() >= 3 * BATCH
        return Verdict.ACCEPT

    async def watch() -> None:
        nonlocal at_turn, most
        while True:
            most, at_turn = max(most, seen - at_turn), seen
            await asyncio.sleep(0)

    async with connected(settings, config()) as (node, flood):
        node.subscribe("votes", judge)
        await publish_until_heard(flood, "votes", b"first")
        await eventually(lambda: seen == 1)
        watching = asyncio.create_task(watch())
        await wait(asyncio.gather(*(flood.publish("votes", b"%d" % number) for number in range(4 * BATCH))))
        await eventually(lambda: seen == 1 + 4 * BATCH)
        watching.cancel()
        assert BATCH // 2 < most <= BATCH, most
