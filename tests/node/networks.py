"""Networks of real node processes for tests: short epochs, free ports, everything ended afterwards."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from noria.cli.endpoint import Endpoint
from noria.cli.network import node_status
from noria.execution.parameters import DEVNET, ChainParameters
from noria.node.devnet.layout import Network, NodeEntry
from noria.node.devnet.making import Plan, make_network
from noria.node.devnet.processes import Nursery, running, stop_nodes

PARAMETERS = dataclasses.replace(DEVNET, epoch_slots=8)
T = TypeVar("T")


@contextmanager
def network_of(
    folder: Path, nodes: int = 4, *, parameters: ChainParameters = PARAMETERS, units: int = 16
) -> Iterator[Network]:
    """Make and start a network; whatever happens, no process of it is left."""
    with Nursery() as nursery:
        network = make_network(folder, Plan(nodes=nodes, units=units, parameters=parameters))
        try:
            nursery.start(network, network.nodes)
            yield network
        finally:
            stop_nodes(network, network.nodes, limit_seconds=10)
            assert [node.name for node in network.nodes if running(network, node)] == []


def wait_for(what: str, check: Callable[[], T | None], seconds: float, *, pause: float = 0.3) -> T:
    """Wait until something is there; fail by saying what was waited for and what was seen last."""
    end = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            found = check()
            if found:
                return found
            last = found
        except Exception as error:
            last = error
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s; last seen: {last!r}"
        time.sleep(pause)


def statuses(network: Network, nodes: Sequence[NodeEntry] | None = None) -> list[dict[str, Any]]:
    return [node_status(network, node) for node in nodes or network.nodes]


def wait_for_final(
    network: Network, epoch: int, seconds: float, nodes: Sequence[NodeEntry] | None = None
) -> list[dict[str, Any]]:
    """Wait until nodes have finalised an epoch."""

    def reached() -> list[dict[str, Any]] | None:
        rows = statuses(network, nodes)
        if all((row["finalized_epoch"] or 0) >= epoch for row in rows):
            return rows
        seen = [(row["name"], row["head_slot"], row["finalized_epoch"], row["problem"]) for row in rows]
        raise AssertionError(str(seen))

    return wait_for(f"all finalise epoch {epoch}", reached, seconds)


def call(node: NodeEntry, method: str, *params: object) -> Any:
    return Endpoint(node.rpc_url).call(method, *params)


def final_hashes(node: NodeEntry, last: int) -> list[str]:
    """Hashes of the canonical blocks up to a number."""
    return [call(node, "eth_getBlockByNumber", hex(number), False)["hash"] for number in range(last + 1)]


def final_number(node: NodeEntry) -> int:
    return int(call(node, "eth_getBlockByNumber", "finalized", False)["number"], 16)


def assert_same_final_history(nodes: Sequence[NodeEntry]) -> int:
    """No two nodes hold different blocks as final; return the number up to which that was compared."""
    last = min(final_number(node) for node in nodes)
    histories = [final_hashes(node, last) for node in nodes]
    assert all(history == histories[0] for history in histories)
    return last


def assert_nobody_offended(network: Network, nodes: Sequence[NodeEntry] | None = None) -> None:
    """No node has seen two votes or blocks of one miner that contradict each other, nor punished anybody."""
    for node in nodes or network.nodes:
        assert "offence_noticed" not in network.log(node).read_text()
        for miner in network.nodes:
            found = call(node, "noria_miner", miner.address)
            assert found is not None
            assert found["slashedEpoch"] in (None, 0), found
            assert found["jailed"] is False
