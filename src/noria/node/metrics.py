"""Metrics of a node in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from noria.node.full import FullNode

PREFIX: Final = "noria_"


class NodeCollector(Collector):
    """Reads a node whenever it is asked; nothing is counted twice."""

    def __init__(self, node: FullNode) -> None:
        self._node = node

    def collect(self) -> Iterable[Metric]:
        """Return all metrics as they are now."""
        yield from self._chain()
        yield from self._peers()
        yield from self._miner()

    def _chain(self) -> Iterator[Metric]:
        chain = self._node.chain
        at, sync = chain.status, self._node.sync
        yield _gauge("slot", "Slot by the clock.", at.slot)
        yield _gauge("epoch", "Epoch by the clock.", at.epoch)
        yield _gauge("head_slot", "Slot of the head.", at.head_slot)
        yield _gauge("head_height", "Blocks since genesis.", at.head_height)
        yield _gauge("justified_epoch", "Last justified epoch.", at.justified.epoch)
        yield _gauge("finalised_epoch", "Last final epoch.", at.finalised.epoch)
        yield _gauge("blocks_waiting", "Blocks that cannot be judged yet.", at.waiting)
        yield _gauge("syncing", "1 while a peer is known to be further.", int(sync.is_behind))
        yield _gauge("sync_goal_height", "Highest head that a peer has claimed.", sync.goal)
        yield _gauge("mempool_transactions", "Transactions that wait.", len(chain.execution.mempool))
        yield _gauge("clock_ahead_seconds", "Against most peers.", sync.clocks.ahead_seconds or 0.0)
        states = GaugeMetricFamily(
            PREFIX + "certificates",
            "Certificates of recent blocks by what is known of them.",
            labels=["state"],
        )
        for state, count in chain.checker.counts().items():
            states.add_metric([state.value.replace(" ", "_")], count)
        yield states
        yield _gauge(
            "refuted_blocks", "Blocks whose certificates are lies and that are not final.", len(chain.refuted)
        )

    def _peers(self) -> Iterator[Metric]:
        node = self._node
        yield _gauge("peers", "Connected peers.", len(node.transport.peers()))
        yield _gauge("peers_banned", "Peers that are kept away.", len(node.transport.bans()))
        transport = GaugeMetricFamily(PREFIX + "transport", "Numbers of the transport.", labels=["name"])
        for name, value in node.transport.statistics().items():
            transport.add_metric([name], value)
        yield transport
        messages = CounterMetricFamily(
            PREFIX + "gossip_messages",
            "Messages by topic and what was found of them.",
            labels=["topic", "finding"],
        )
        for (topic, finding), count in sorted(node.gossip.counts.items()):
            messages.add_metric([topic, finding], count)
        yield messages

    def _miner(self) -> Iterator[Metric]:
        if self._node.miner is None:
            return
        status = self._node.miner.status
        for name, text, value in (
            ("miner_blocks", "Blocks made since the start.", status.blocks),
            ("miner_votes", "Votes cast since the start.", status.votes),
            ("miner_slots_lost", "Slots won without a block since the start.", status.lost),
        ):
            yield CounterMetricFamily(PREFIX + name, text, value=value)


def render(node: FullNode) -> tuple[str, bytes]:
    """Return content type and text of all metrics of a node and its process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(node))
    ProcessCollector(registry=registry)
    return CONTENT_TYPE_LATEST, generate_latest(registry)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value)
