"""A node in a process of its own, which does as it is told line by line.

Usage: ``python -m tests.network.node_process NUMBER [BOOTSTRAP …] [listen=ADDRESS]``. Each line of the input
is a JSON list, a command and its arguments; each line of the output is one, what happened first. Messages
that begin with ``bad`` are rejected, with ``skip`` ignored, all others accepted.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import structlog

from noria.network.streams import Stream
from noria.network.transport import Message, Request, Transport, Verdict
from tests.network.settings import ECHO, IDLE, RAW, SLOW, config, seed

VERDICTS = {b"bad": Verdict.REJECT, b"skip": Verdict.IGNORE}


def tell(*words: Any) -> None:
    print(json.dumps(words), flush=True)


def judge(message: Message) -> Verdict:
    tell("message", message.topic, message.source, len(message.data), message.data[:24].decode("latin-1"))
    return next((VERDICTS[start] for start in VERDICTS if message.data.startswith(start)), Verdict.ACCEPT)


async def echo(request: Request) -> bytes:
    return request.data


async def hang(_: Request) -> bytes:
    await asyncio.Event().wait()
    return b""


async def echo_stream(stream: Stream) -> None:
    while data := await stream.read(1 << 20):
        await stream.write(data)


async def watch(node: Transport) -> None:
    async with node.events() as events:
        async for event in events:
            tell(event.kind.value, event.peer, event.reason)


async def run(number: int, bootstrap: list[str]) -> None:
    listen = [address for address in bootstrap if address.startswith("listen=")]
    own = config(*(address for address in bootstrap if address not in listen))
    if listen:
        own = config(*own.bootstrap, listen=(listen[0].removeprefix("listen="),))
    async with await Transport.start(seed(number), own) as node:
        watching = asyncio.create_task(watch(node))
        for topic in own.topics:
            node.subscribe(topic.name, judge)
        node.serve(ECHO, echo)
        node.serve(SLOW, hang)
        node.accept_streams(RAW, echo_stream)
        node.accept_streams(IDLE, echo_stream)
        tell("ready", node.peer_id, node.addresses[0])
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            match json.loads(line):
                case ["publish", topic, text, size]:
                    data = text.encode().ljust(size, b".")
                    tell("published", await node.publish(topic, data))
                case ["request", peer, protocol, text]:
                    try:
                        tell("answer", (await node.request(peer, protocol, text.encode())).decode())
                    except Exception as error:
                        tell("failed", type(error).__name__, str(error))
                case ["peers"]:
                    tell("peers", {peer.peer: peer.score for peer in node.peers()})
                case ["statistics"]:
                    tell("statistics", dict(node.statistics()))
                case ["bans"]:
                    tell("bans", [ban.peer for ban in node.bans()])
                case other:
                    raise ValueError(other)
        watching.cancel()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(run(int(sys.argv[1]), sys.argv[2:]))
