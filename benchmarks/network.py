"""Gossip among 8 processes on one machine, and plain TCP beside it.

    python -m benchmarks.network [--quick] [--record]

A block of 50 KB goes from one node to the 7 others, each of which checks it before it goes on; then messages
of 2 KB at a growing pace, from all nodes in turn. Beside it the same block over seven plain TCP connections
between such processes, without encryption, multiplexing or gossip: what waking seven processes takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.peers import ROOT
from benchmarks.report import Table, publish
from noria.network.config import TopicSpec, TransportConfig
from noria.network.errors import TransportBusy
from noria.network.transport import Message, Transport, Verdict

NODES: Final = 8
BLOCK_BYTES: Final = 50_000
MESSAGE_BYTES: Final = 2_048
HEAD: Final = struct.Struct(">QQ")
LOST: Final = ("messages_dropped", "messages_over_budget", "messages_expired")
WAIT_SECONDS: Final = 60.0
GAP_SECONDS: Final = 0.25
SETTLE_SECONDS: Final = 3.0
"""For meshes to form, and for the last messages to arrive."""


# ---------------------------------------------------------------- one node


def stamp(number: int, size: int) -> bytes:
    return HEAD.pack(number, time.monotonic_ns()).ljust(size, b".")


async def lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


def tell(answer: object) -> None:
    print(json.dumps(answer), flush=True)


async def gossip_node(number: int, bootstrap: Sequence[str]) -> None:
    """Publish and listen as told by the lines of the input."""
    heard: list[int] = []

    def judge(message: Message) -> Verdict:
        heard.append(time.monotonic_ns() - HEAD.unpack_from(message.data)[1])
        return Verdict.ACCEPT

    config = TransportConfig(
        network="benchmark",
        agent="benchmark",
        topics=(TopicSpec("blocks", 1 << 20), TopicSpec("transactions", 1 << 17)),
        listen=("/ip4/127.0.0.1/tcp/0",),
        bootstrap=tuple(bootstrap),
    )
    async with await Transport.start(number.to_bytes(32, "big"), config) as node:
        for topic in config.topics:
            node.subscribe(topic.name, judge)
        tell(node.addresses[0])
        reader = await lines()
        while line := await reader.readline():
            match json.loads(line):
                case ["peers"]:
                    tell(sum(bool(peer.agent) for peer in node.peers()))
                case ["publish", topic, size, count, gap]:
                    begin = time.monotonic()
                    published = 0
                    for turn in range(count):
                        await asyncio.sleep(begin + turn * gap - time.monotonic())
                        with suppress(TransportBusy):  # All peers are behind: not sent to anybody.
                            published += await node.publish(topic, stamp(number << 32 | turn, size))
                    tell(published)
                case ["report"]:
                    tell([heard, time.process_time(), dict(node.statistics())])
                    heard.clear()


async def plain_node() -> None:
    """Take blocks over a plain TCP connection."""
    heard: list[int] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                data = await reader.readexactly(BLOCK_BYTES)
                heard.append(time.monotonic_ns() - HEAD.unpack_from(data)[1])
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    tell(server.sockets[0].getsockname()[1])
    reader = await lines()
    while await reader.readline():
        tell([heard, 0, {}])
        heard.clear()
    server.close()


# ---------------------------------------------------------------- all of them


class Process:
    """A node in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.address: Any = None

    @classmethod
    async def start(cls, stack: AsyncExitStack, *arguments: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.network", *arguments,
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 26,
        )  # fmt: skip
        node = cls(process)
        stack.push_async_callback(node.stop)
        node.address = await node.answer()
        return node

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def answer(self) -> Any:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), WAIT_SECONDS)
        if not line:
            raise SystemExit("a node has ended before its time")
        return json.loads(line)

    async def ask(self, *command: object) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self.answer()


@dataclass(frozen=True, slots=True)
class Heard:
    """What all nodes heard."""

    milliseconds: list[float]
    processor_seconds: float
    dropped: int


async def report(nodes: Sequence[Process]) -> Heard:
    reports = [await node.ask("report") for node in nodes]
    return Heard(
        sorted(nanoseconds / 1e6 for heard, _, _ in reports for nanoseconds in heard),
        sum(seconds for _, seconds, _ in reports),
        sum(count for *_, counts in reports for name, count in counts.items() if name in LOST),
    )


def quantile(values: Sequence[float], share: float) -> str:
    return f"{values[min(len(values) - 1, int(len(values) * share))]:.1f}" if values else "–"


async def start_gossip(stack: AsyncExitStack) -> list[Process]:
    nodes: list[Process] = []
    for number in range(1, NODES + 1):
        addresses = [node.address for node in nodes]
        nodes.append(await Process.start(stack, "--node", str(number), *addresses))
    async with asyncio.timeout(WAIT_SECONDS):
        for node in nodes:
            while await node.ask("peers") < NODES - 1:
                await asyncio.sleep(0.1)
    await asyncio.sleep(SETTLE_SECONDS)
    return nodes


async def plain_block(count: int) -> list[float]:
    async with AsyncExitStack() as stack:
        nodes = [await Process.start(stack, "--plain") for _ in range(NODES - 1)]
        writers = [(await asyncio.open_connection("127.0.0.1", node.address))[1] for node in nodes]
        for number in range(count):
            data = stamp(number, BLOCK_BYTES)
            for writer in writers:
                writer.write(data)
            await asyncio.sleep(GAP_SECONDS)
        found = (await report(nodes)).milliseconds
        for writer in writers:
            writer.close()
        return found


async def measure(quick: bool) -> tuple[list[Table], list[str]]:
    blocks = 20 if quick else 100
    seconds = 3 if quick else 10
    plain = await plain_block(blocks)
    rows = [["plain TCP, no encryption", quantile(plain, 0.5), quantile(plain, 0.99), "100 %", ""]]
    paced = []
    async with AsyncExitStack() as stack:
        nodes = await start_gossip(stack)
        await report(nodes)
        await nodes[0].ask("publish", "blocks", BLOCK_BYTES, blocks, GAP_SECONDS)
        await asyncio.sleep(SETTLE_SECONDS)
        found = (await report(nodes)).milliseconds
        share = len(found) / (blocks * (NODES - 1))
        rows.append(["noria", quantile(found, 0.5), quantile(found, 0.99), f"{share:.0%}", "50"])
        for pace in (100, 300, 600, 1_000, 2_000):
            before = await report(nodes)
            count = pace * seconds // NODES
            begin = time.monotonic()
            published = await asyncio.gather(
                *(node.ask("publish", "transactions", MESSAGE_BYTES, count, NODES / pace) for node in nodes)
            )
            took = time.monotonic() - begin
            await asyncio.sleep(SETTLE_SECONDS)
            heard = await report(nodes)
            share = len(heard.milliseconds) / (sum(published) * (NODES - 1))
            busy = (heard.processor_seconds - before.processor_seconds) / NODES / took
            paced.append([
                f"{pace} asked for",
                f"{sum(published) / took:,.0f}",
                f"{share:.2%}",
                quantile(heard.milliseconds, 0.5),
                quantile(heard.milliseconds, 0.99),
                f"{busy:.0%}",
                str(heard.dropped - before.dropped),
            ])  # fmt: skip
    tables = [
        Table(
            f"A block of {BLOCK_BYTES:,} bytes to {NODES - 1} other nodes",
            ["", "p50 ms", "p99 ms", "arrived", "target p50 ms"],
            rows,
        ),
        Table(
            f"Messages of {MESSAGE_BYTES:,} bytes, {NODES} nodes, from all in turn",
            [
                "per second",
                "published per second",
                "arrived",
                "p50 ms",
                "p99 ms",
                "of a core per node",
                "turned away",
            ],
            paced,
        ),
    ]
    notes = [
        f"{NODES} processes share the machine's cores; each judges every message in Python first. "
        "From the call of `publish` to the call of the validator. Target: 300 messages per second, no loss.",
        "Where the cores are full, messages wait in queues and are lost when their time (3 to 5 s) is up.",
    ]
    return tables, notes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer blocks, shorter")
    parser.add_argument("--record", action="store_true", help="write the tables to docs/benchmarks.md")
    parser.add_argument("--node", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.node:
        asyncio.run(gossip_node(int(arguments.node[0]), arguments.node[1:]))
    elif arguments.plain:
        asyncio.run(plain_node())
    else:
        tables, notes = asyncio.run(measure(arguments.quick))
        publish("network", tables, notes, record=arguments.record)


if __name__ == "__main__":
    main()
