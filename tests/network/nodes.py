"""Nodes in processes of their own, as a test sees them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.network.settings import wait

REPOSITORY = Path(__file__).resolve().parents[2]


class Node:
    """A process of `tests.network.node_process`. What it tells is kept until somebody waits for it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.peer_id = ""
        self.address = ""
        self.told: list[list[Any]] = []
        self._news = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: str) -> None:
        self.told.clear()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.network.node_process", str(self.number), *arguments,
            cwd=REPOSITORY, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read(self.process))
        _, self.peer_id, self.address = await self.next("ready")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            async with self._news:
                self.told.append(json.loads(line))
                self._news.notify_all()

    async def next(self, *words: Any) -> list[Any]:
        """Return, and take, the first thing told that begins with these words; wait for it."""

        def take() -> list[Any] | None:
            for index, told in enumerate(self.told):
                if told[: len(words)] == list(words):
                    return self.told.pop(index)
            return None

        async def found() -> list[Any]:
            async with self._news:
                while (told := take()) is None:
                    await self._news.wait()
                return told

        return await wait(found())  # type: ignore[no-any-return]

    def tell(self, *command: Any) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")

    async def ask(self, *command: Any, answer: str) -> Any:
        self.tell(*command)
        return (await self.next(answer))[1]

    async def publish(self, topic: str, text: str, size: int = 0) -> None:
        """Publish as soon as somebody listens."""
        while not await self.ask("publish", topic, text, size, answer="published"):
            await asyncio.sleep(0.05)

    def heard(self, text: str) -> bool:
        return any(told[0] == "message" and told[4].startswith(text) for told in self.told)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    async def kill(self) -> None:
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        if self._reading is not None:
            await self._reading


@asynccontextmanager
async def nodes(count: int) -> AsyncIterator[list[Node]]:
    """Run so many nodes, of which each knows only the first; wait until all are connected to it."""
    running = [Node(number) for number in range(1, count + 1)]
    try:
        await running[0].start()
        await asyncio.gather(*(node.start(running[0].address) for node in running[1:]))
        for node in running[1:]:
            await running[0].next("identified", node.peer_id)
            await node.next("identified", running[0].peer_id)
        yield running
    finally:
        await asyncio.gather(*(node.kill() for node in running))
