"""What state machines over a network share: virtual time, nodes that are killed, a witness of blocks."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from noria.chain.block_tree import KnownBlock
from noria.chain.certificates import CheckState
from noria.consensus.blocks import Block
from tests.chain.drawn import Network, Node
from tests.chain.mortal import NEVER, Mortal
from tests.virtual_time import VirtualLoop


class WatchedNode(Mortal):
    """A mortal node whose imported blocks somebody looks at as long as it lives."""

    def __init__(
        self,
        network: Network,
        number: int,
        tell: Callable[[int, str, bytes], None],
        imported: Callable[[Node, Block, KnownBlock], None],
    ) -> None:
        super().__init__(network, number, tell)
        self.look = imported

    def watch(self) -> None:
        super().watch()
        self.chain.listeners.append(Witness(self))


class Witness:
    """Hears of the blocks that a node takes in, its own included."""

    def __init__(self, node: WatchedNode) -> None:
        self._node = node

    def forwardable(self, block: Block) -> None:
        pass

    def imported(self, block: Block, known: KnownBlock) -> None:
        # What a killed node still does in memory never happened.
        if not self._node.dead:
            try:
                self._node.look(self._node, block, known)
            except Exception as error:
                self._node.failure = self._node.failure or error
                raise

    def settled(self, root: bytes, state: CheckState) -> None:
        pass

    def finalised(self, final: KnownBlock) -> None:
        pass


class NetworkMachine(RuleBasedStateMachine):
    """Plays with a network in virtual time, in a folder that is gone afterwards."""

    network: Network

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="noria-machine-"))
        self.loop = VirtualLoop()
        self.nodes: list[Mortal] = []

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(work)
        finally:
            asyncio.set_event_loop(None)
        for node in self.nodes:
            if node.failure is not None:
                raise node.failure

    @property
    def slot(self) -> int:
        """The slot that it is."""
        return int(self.loop.time())

    def running(self, numbers: Iterable[int]) -> list[Mortal]:
        """Those of these nodes that run."""
        return [node for node in self.nodes if node.number in set(numbers) and node.running]

    @staticmethod
    def say(hearers: Iterable[Node], kind: str, messages: Iterable[bytes], source: Node) -> None:
        """Let nodes hear something; nobody waits for what they find, which may take as long as a minute."""
        for data in messages:
            for node in hearers:
                node._spawn(node.hear(kind, data, source))

    async def to_slot(self, slot: int) -> None:
        """Let time pass; the killed are buried."""
        await self.network.run_to(slot)
        for node in self.nodes:
            if node.dead and node.remains.exists():
                await node.bury()

    async def killed(self, node: Mortal, steps: int) -> None:
        """Kill a node after so many steps, or at last after a few slots in which it has less to do."""
        node.steps_left = steps
        await self.to_slot(self.slot + 1 + steps // 4)
        if node.running:
            node.kill()
            await self.to_slot(self.slot + 1)

    async def all_again(self) -> None:
        """Mend the network, and start whoever does not run."""
        self.network.partition()
        for node in self.nodes:
            node.lag, node.steps_left = 0.0, NEVER
            if not node.running:
                await node.rise(0.0, NEVER)
        for node in self.nodes:
            for other in self.network.others(node):
                await node.catch_up(other)

    def teardown(self) -> None:
        try:
            # What has failed is told, and not what follows from it.
            if self.nodes and sys.exception() is None:
                self.end()
        finally:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.close()
            shutil.rmtree(self.folder)

    def end(self) -> None:
        """Check what can be checked at the end alone, and stop the network."""
        raise NotImplementedError
