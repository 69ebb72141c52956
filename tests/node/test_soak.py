"""Long runs of real processes (`make soak`): statistics of a quiet network, stopped nodes, partitions.

``NORIA_SOAK_SECONDS`` says how long the quiet network is watched, 600 if it is not set.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from noria.execution.parameters import DEVNET
from noria.node.devnet.layout import Network
from noria.node.devnet.processes import kill_node, partition, signal_node, start_nodes
from tests.node.networks import (
    assert_nobody_offended,
    assert_same_final_history,
    network_of,
    statuses,
    wait_for_final,
)
from tests.node.quiet import watch

SOAK_SECONDS = float(os.environ.get("NORIA_SOAK_SECONDS", "600"))
SECONDS = 180.0
pytestmark = [pytest.mark.soak, pytest.mark.timeout(SOAK_SECONDS + 900)]


def test_ten_minutes(tmp_path: Path) -> None:
    with network_of(tmp_path / "net", parameters=DEVNET, units=64) as network:
        wait_for_final(network, 1, SECONDS)
        seen = watch(network, SOAK_SECONDS)
        assert_same_final_history(network.nodes)
        assert_nobody_offended(network)
    assert not seen.failures(), seen


def lives_on(network: Network, epochs: int = 3) -> None:
    """All nodes finalise some epochs more, the same ones."""
    at = max(row["finalized_epoch"] or 0 for row in statuses(network))
    wait_for_final(network, at + epochs, SECONDS)
    assert_same_final_history(network.nodes)
    assert_nobody_offended(network)


def test_a_node_that_stood_still_for_a_minute(tmp_path: Path) -> None:
    with network_of(tmp_path / "net") as network:
        wait_for_final(network, 1, SECONDS)
        sleeper = network.nodes[1]
        signal_node(network, sleeper, signal.SIGSTOP)
        time.sleep(60)
        signal_node(network, sleeper, signal.SIGCONT)
        lives_on(network)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 1)])
def test_a_partition_heals(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    with network_of(tmp_path / "net") as network:
        wait_for_final(network, 1, SECONDS)
        cut = [list(network.nodes[: sizes[0]]), list(network.nodes[sizes[0] :])]
        partition(network, cut)
        time.sleep(4 * 8 * 1.0)  # four epochs
        apart = statuses(network)
        heads = {row["head_root"] for row in apart}
        assert len(heads) >= 2, "both sides make blocks of their own"
        partition(network, [])
        lives_on(network)


def test_every_node_is_killed_at_some_time(tmp_path: Path) -> None:
    with network_of(tmp_path / "net") as network:
        wait_for_final(network, 1, SECONDS)
        for turn in range(8):
            node = network.nodes[turn % len(network.nodes)]
            kill_node(network, node)
            time.sleep(1.3 * (turn % 3))
            start_nodes(network, [node])
            time.sleep(4)
        lives_on(network)
