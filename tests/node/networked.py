"""Nodes of drawn blocks behind gossip and sync, on a network in memory and in virtual time."""

from __future__ import annotations

from pathlib import Path

from noria.execution.parameters import ChainParameters
from noria.network.peers import PeerEventKind, PeerId
from noria.network.topics import Topics, chain_topics, protocol_specs, topic_specs
from noria.node.gossip import Gossip
from noria.node.sync import Sync
from noria.primitives.types import Hash32
from tests.chain.drawn import PARAMETERS, FakeKey, Network, Node
from tests.consensus.world import FAKE
from tests.network.memory import MemoryNetwork, MemoryTransport

ROOT = Hash32(b"\x07" * 32)
TOPICS: Topics = chain_topics(ROOT)


class Networked(Network):
    """A network whose nodes speak through transports."""

    def __init__(
        self,
        folder: Path,
        miners: int = 4,
        *,
        seed: int = 1,
        loss: float = 0.0,
        parameters: ChainParameters = PARAMETERS,
    ) -> None:
        super().__init__(folder, miners, scheme=FAKE, signer=FakeKey, parameters=parameters)
        self.speakers: list[Speaker] = []
        self.memory = MemoryNetwork(
            topic_specs(TOPICS, PARAMETERS), protocol_specs(TOPICS, PARAMETERS), seed=seed, loss=loss
        )

    async def join(self, number: int, *, mines: bool = True, name: str = "") -> Speaker:
        """Start a node."""
        node = Speaker(self, number, mines, name)
        self.nodes.append(node)
        self.speakers.append(node)
        await node.start()
        return node

    def separate(self, *groups: list[Speaker]) -> None:
        """Cut every link between groups; without any mend all."""
        self.memory.cut = {
            frozenset((one.peer, other.peer))
            for i, group in enumerate(groups)
            for rest in groups[i + 1 :]
            for one in group
            for other in rest
        }
        if not groups:
            for transport in self.memory.transports.values():
                for peer in self.memory.transports:
                    if peer != transport.peer_id:
                        transport.tell(PeerEventKind.IDENTIFIED, peer)


class Speaker(Node):
    """A node with a transport."""

    transport: MemoryTransport
    gossip: Gossip
    sync: Sync

    @property
    def peer(self) -> PeerId:
        return PeerId(self.folder.name)

    async def start(self) -> None:
        await super().start()
        assert isinstance(self.network, Networked)
        self.transport = self.network.memory.connect(self.peer)
        self.gossip = Gossip(self.transport, TOPICS, self.chain, self.hearsay)
        self.sync = Sync(self.transport, TOPICS, self.chain)
        self.gossip.start()
        self.sync.start()

    async def stop(self) -> None:
        if self.running:
            await self.sync.stop()
            await self.gossip.stop()
            await self.transport.close()
        await super().stop()


def blamed(node: Speaker, peer: PeerId) -> list[tuple[float, str]]:
    """What a node holds against a peer."""
    return node.transport.scores.get(peer, [])
