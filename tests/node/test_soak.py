"""Long runs of real processes (`make soak`): statistics of a quiet network, stopped nodes, partitions.

``NORIA_SOAK_SECONDS`` says how long the quiet network is watched, 600 if it is not set.
"""

from __future__ import annotations

import math
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from noria.execution.parameters import DEVNET
from noria.node.devnet.layout import Network, NodeEntry
from noria.node.devnet.processes import kill_node, partition, running, signal_node, start_nodes
from tests.node.networks import (
    assert_nobody_offended,
    assert_same_final_history,
    call,
    final_number,
    network_of,
    statuses,
    wait_for_final,
)

SOAK_SECONDS = float(os.environ.get("NORIA_SOAK_SECONDS", "600"))
SIGMAS = 4.0
SECONDS = 180.0
pytestmark = [pytest.mark.soak, pytest.mark.timeout(SOAK_SECONDS + 900)]


def cpu_seconds(pid: int) -> float:
    """Of a process and its children that still run."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if entry.name == str(pid) or fields[1] == str(pid):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def reorganisations(network: Network) -> list[int]:
    """Depths of all reorganisations that nodes have logged."""
    return [
        int(depth)
        for node in network.nodes
        for line in network.log(node).read_text().splitlines()
        if "chain_reorganised" in line
        for depth in re.findall(r'"depth": (\d+)', line)
    ]


def final_blocks(node: NodeEntry) -> list[dict[str, Any]]:
    return [call(node, "noria_getBlock", hex(number)) for number in range(1, final_number(node) + 1)]


def expected_share(weights: Sequence[int]) -> float:
    """Share of slots that somebody wins: 1 - Π(1 - F·w/W)."""
    expected = Fraction(DEVNET.win_numerator, DEVNET.win_denominator)
    empty = Fraction(1)
    for weight in weights:
        empty *= 1 - expected * Fraction(weight, sum(weights))
    return float(1 - empty)


def test_ten_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with network_of(tmp_path / "net", parameters=DEVNET, units=64) as network:
        wait_for_final(network, 1, SECONDS)
        pids = [running(network, node) for node in network.nodes]
        before = [cpu_seconds(pid or 0) for pid in pids]
        begun, lag = time.monotonic(), 0
        begin_slot = call(network.nodes[0], "noria_slot")
        while time.monotonic() - begun < SOAK_SECONDS:
            lag = max(lag, *(call(node, "noria_finality")["lagEpochs"] for node in network.nodes))
            time.sleep(1)
        took = time.monotonic() - begun
        cpu = [cpu_seconds(pid or 0) - spent for pid, spent in zip(pids, before, strict=True)]
        memory = [memory_bytes(pid or 0) for pid in pids]
        weights = {row["address"]: row["weight"] for row in call(network.nodes[0], "noria_weights")["miners"]}
        blocks = [block for block in final_blocks(network.nodes[0]) if block["slot"] > begin_slot]
        depths = reorganisations(network)
        assert_same_final_history(network.nodes)
        assert_nobody_offended(network)

    slots = blocks[-1]["slot"] - begin_slot
    share, wanted = len(blocks) / slots, expected_share(list(weights.values()))
    sigma = math.sqrt(wanted * (1 - wanted) / slots)
    made = Counter(block["proposer"] for block in blocks)
    states = Counter(block["certificateState"] for block in blocks)
    with capsys.disabled():
        print(f"\n{took:.0f} s, {slots} slots, {len(blocks)} final blocks")
        print(f"share of slots with a block: {share:.4f}, expected {wanted:.4f} ± {sigma:.4f} (1σ)")
        for address, weight in weights.items():
            part = weight / sum(weights.values())
            spread = math.sqrt(len(blocks) * part * (1 - part))
            print(f"  {address}: {made[address]} blocks, expected {len(blocks) * part:.1f} ± {spread:.1f}")
        print(f"longest lag of finality: {lag} epochs; reorganisations by depth: {dict(Counter(depths))}")
        print(f"certificates as node-1 knows them: {dict(states)}")
        print("CPU of one core: " + ", ".join(f"{100 * spent / took:.1f} %" for spent in cpu))
        print("resident memory: " + ", ".join(f"{used / 2**20:.0f} MiB" for used in memory))
    assert abs(share - wanted) <= SIGMAS * sigma
    for address, weight in weights.items():
        part = weight / sum(weights.values())
        spread = math.sqrt(len(blocks) * part * (1 - part))
        assert abs(made[address] - len(blocks) * part) <= SIGMAS * spread, address
    assert lag <= 3
    assert max(depths, default=0) <= 2


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
