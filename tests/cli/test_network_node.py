"""Nodes of one machine are forks of a process that has read in their modules."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from noria.node.devnet.layout import Network, NetworkError, NodeEntry
from noria.node.devnet.processes import Nursery, running, start_nodes

IMPORT = """
import importlib
import sys
from pathlib import Path
from noria.cli.network_node import MODULES
for name in MODULES:
    importlib.import_module(name)
print(Path("/proc/self/status").read_text().split("Threads:")[1].split()[0])
"""


def network(folder: Path, *names: str) -> Network:
    nodes = tuple(NodeEntry(name, "peer", "0x" + "00" * 20, 1, 2) for name in names)
    return Network(folder, nodes)


def test_what_a_node_reads_in_starts_no_thread() -> None:
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT], capture_output=True, text=True, timeout=120
    )
    assert found.stdout.strip() == "1", found.stderr


def test_each_node_gets_its_own_log_and_pid_file(tmp_path: Path) -> None:
    made = network(tmp_path, "node-1", "node-2")
    start_nodes(made, made.nodes)
    # Neither has a configuration: each says so, in its log, and ends.
    pids = {int(made.pid_file(node).read_text().split()[0]) for node in made.nodes}
    assert len(pids) == 2
    for node in made.nodes:
        ended = threading.Event()
        for _ in range(1_000):
            if running(made, node) is None:
                break
            ended.wait(0.03)
        assert f"error: {made.config(node)}" in made.log(node).read_text()


def test_a_nursery_that_starts_nothing_leaves_nothing(tmp_path: Path) -> None:
    with Nursery() as nursery:
        process = nursery._process
    assert process.returncode is not None
    made = network(tmp_path, "node-1")
    with Nursery() as nursery:
        nursery.start(made, [])
    assert not made.pid_file(made.nodes[0]).exists()


def test_why_nodes_cannot_be_started_is_said(tmp_path: Path) -> None:
    made = network(tmp_path / "gone", "node-1")
    with pytest.raises(NetworkError, match="cannot be started"):
        start_nodes(made, made.nodes)
