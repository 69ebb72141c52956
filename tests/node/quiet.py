"""What a quiet network of real processes does in some minutes: blocks, finality, processor and memory."""

from __future__ import annotations

import math
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from noria.execution.parameters import DEVNET
from noria.node.devnet.layout import Network, NodeEntry
from noria.node.devnet.processes import running
from tests.node.networks import call, final_number

SIGMAS = 4.0
LAG_EPOCHS_MAX = 3
DEPTH_MAX = 2
CORE_SHARE_MAX = 0.15
MEMORY_BYTES_MAX = 300 * 2**20


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
    """Resident memory of a process, what it shares with others included."""
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


@dataclass(frozen=True, slots=True)
class Expected:
    """A count or share beside what theory says of it."""

    found: float
    expected: float
    sigma: float

    @property
    def holds(self) -> bool:
        """Whether it is within four standard deviations."""
        return abs(self.found - self.expected) <= SIGMAS * self.sigma


@dataclass(frozen=True, slots=True)
class Quiet:
    """What was seen.

    Attributes
    ----------
    seconds, slots, blocks
        How long, and how many slots and final blocks there were in that time.
    share
        Of slots with a block.
    made
        Final blocks by miner.
    lag_epochs
        The most by which finality was behind, at any node.
    depths
        Of reorganisations, with their numbers.
    states
        How many certificates are in which state, as the first node knows them.
    cores, memory_bytes
        Shares of a core, and resident memory, by node.
    """

    seconds: float
    slots: int
    blocks: int
    share: Expected
    made: dict[str, Expected]
    lag_epochs: int
    depths: Counter[int]
    states: Counter[str]
    cores: list[float]
    memory_bytes: list[int]

    def failures(self) -> list[str]:
        """Say what was promised and is not so."""
        bad = [] if self.share.holds else [f"blocks in a share of slots of {self.share}"]
        bad += [f"blocks of {miner}: {made}" for miner, made in self.made.items() if not made.holds]
        if self.lag_epochs > LAG_EPOCHS_MAX:
            bad.append(f"finality {self.lag_epochs} epochs behind")
        if max(self.depths, default=0) > DEPTH_MAX:
            bad.append(f"reorganisations of depths {dict(self.depths)}")
        bad += [f"a node took {share:.1%} of a core" for share in self.cores if share > CORE_SHARE_MAX]
        bad += [f"a node took {used:,} bytes" for used in self.memory_bytes if used > MEMORY_BYTES_MAX]
        return bad


def watch(network: Network, seconds: float) -> Quiet:
    """Watch a network that already finalises, doing nothing else."""
    pids = [running(network, node) or 0 for node in network.nodes]
    before = [cpu_seconds(pid) for pid in pids]
    begun, lag = time.monotonic(), 0
    begin_slot = call(network.nodes[0], "noria_slot")
    while time.monotonic() - begun < seconds:
        lag = max(lag, *(call(node, "noria_finality")["lagEpochs"] for node in network.nodes))
        time.sleep(1)
    took = time.monotonic() - begun
    cores = [(cpu_seconds(pid) - spent) / took for pid, spent in zip(pids, before, strict=True)]
    memory = [memory_bytes(pid) for pid in pids]
    weights = {row["address"]: row["weight"] for row in call(network.nodes[0], "noria_weights")["miners"]}
    blocks = [block for block in final_blocks(network.nodes[0]) if block["slot"] > begin_slot]
    slots = blocks[-1]["slot"] - begin_slot
    wanted = expected_share(list(weights.values()))
    counted = Counter(block["proposer"] for block in blocks)
    made = {}
    for address, weight in weights.items():
        part = weight / sum(weights.values())
        spread = math.sqrt(len(blocks) * part * (1 - part))
        made[address] = Expected(counted[address], len(blocks) * part, spread)
    return Quiet(
        seconds=took,
        slots=slots,
        blocks=len(blocks),
        share=Expected(len(blocks) / slots, wanted, math.sqrt(wanted * (1 - wanted) / slots)),
        made=made,
        lag_epochs=lag,
        depths=Counter(reorganisations(network)),
        states=Counter(block["certificateState"] for block in blocks),
        cores=cores,
        memory_bytes=memory,
    )
