"""A network of real processes: it finalises, survives kill -9, and lets an empty node in."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets

from noria.execution.accounts import dev_accounts
from noria.node.devnet.layout import Network, NodeEntry
from noria.node.devnet.processes import kill_node, running, start_nodes
from tests.chain.transfers import transfer
from tests.node.networks import (
    assert_nobody_offended,
    assert_same_final_history,
    call,
    final_number,
    network_of,
    statuses,
    wait_for,
    wait_for_final,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]
SECONDS = 120.0
"""Longest wait for anything; on an idle machine nothing takes a third of it."""


def noria(*arguments: str, limit_seconds: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "noria.cli.main", *arguments],
        capture_output=True, text=True, timeout=limit_seconds, check=False,
    )  # fmt: skip


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@contextmanager
def joining(network: Network, data_dir: Path) -> Iterator[str]:
    """A node with an empty store, which knows one of the others; its RPC's URL."""
    log = data_dir.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "noria.cli.main", "node", "--spec", str(network.spec),
                "--data-dir", str(data_dir), "--listen", "/ip4/127.0.0.1/tcp/0", "--rpc-port", "0",
                "--bootstrap", network.nodes[0].multiaddress,
            ],
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        address = data_dir / "address.json"
        wait_for(f"{log} says where it listens", address.exists, SECONDS)
        yield json.loads(address.read_text())["rpc"]
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def url_node(url: str) -> NodeEntry:
    return NodeEntry("joined", "", "", 0, int(url.rpartition(":")[2]))


def test_a_network_lives(tmp_path: Path) -> None:
    with network_of(tmp_path / "net") as network:
        first, second, third, fourth = network.nodes
        wait_for_final(network, 1, SECONDS)

        # What users send anywhere is in a block that becomes final everywhere.
        sender = dev_accounts()[0]
        tx = call(second, "eth_sendRawTransaction", "0x" + transfer(sender, 0).hex())
        receipt = wait_for(
            "the transaction is mined", lambda: call(third, "eth_getTransactionReceipt", tx), 60
        )
        assert receipt["status"] == "0x1"

        # Blocks show work, and others have run it again.
        shown = wait_for("a checked certificate", lambda: checked_certificate(fourth), 60)
        miners = {node.address.lower() for node in network.nodes}
        assert shown["certificate"]["receipt"]["miner"] == shown["proposer"]
        assert shown["proposer"] in miners
        weights = call(first, "noria_weights")
        assert {row["address"] for row in weights["miners"]} == miners
        assert weights["total"] == sum(row["weight"] for row in weights["miners"])
        assert all(row["work"] > 0 for row in weights["miners"])

        # Power cut: nothing is told to anybody, nothing is closed.
        kill_node(network, second)
        others = [first, third, fourth]
        at = max(row["finalized_epoch"] for row in statuses(network, others))
        wait_for_final(network, at + 1, SECONDS, others)
        start_nodes(network, [second])
        rows = wait_for_final(network, at + 2, SECONDS)
        assert len({row["head_height"] for row in rows}) <= 2
        made = call(second, "noria_status")["miner"]["votes"]
        wait_for("it votes again", lambda: call(second, "noria_status")["miner"]["votes"] > made, 60)

        with joining(network, tmp_path / "joined") as url:
            joined = url_node(url)
            goal = final_number(first)
            wait_for("the new node is where the others are", lambda: final_number(joined) >= goal, 60)
            assert call(joined, "noria_status")["miner"] is None
            assert assert_same_final_history([*network.nodes, joined]) >= goal

        assert_same_final_history(network.nodes)
        assert_nobody_offended(network)
        check_watching(first)
        check_verification(network)


def checked_certificate(node: NodeEntry) -> dict[str, Any] | None:
    """A certificate that this node has run again and found right."""
    for number in range(final_number(node), 0, -1):
        found = call(node, "noria_getCertificate", hex(number))
        if found["state"] == "right" and found["certificate"]:
            return dict(found)
    return None


def check_watching(node: NodeEntry) -> None:
    """Health, metrics, peers, tags and subscriptions of a running node."""
    code, health = get(f"{node.rpc_url}/health")
    assert (code, json.loads(health)["problems"]) == (200, [])
    _, metrics = get(f"{node.rpc_url}/metrics")
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert float(values["noria_peers"]) == 3
    assert float(values["noria_finalised_epoch"]) >= 3
    assert float(values["process_resident_memory_bytes"]) > 1e6
    assert {peer["headSlot"] is not None for peer in call(node, "noria_peers")} == {True}
    numbers = [
        int(call(node, "eth_getBlockByNumber", tag, False)["number"], 16)
        for tag in ("finalized", "safe", "latest")
    ]
    assert numbers == sorted(numbers)
    assert 0 < numbers[0] < numbers[2]
    finality = call(node, "noria_finality")
    assert finality["lagEpochs"] == finality["epoch"] - finality["finalised"]["epoch"] <= 4

    async def subscribe() -> dict[str, Any]:
        async with websockets.connect(node.rpc_url.replace("http", "ws")) as socket:
            await socket.send('{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["finality"]}')
            assert "result" in json.loads(await socket.recv())
            async with asyncio.timeout(60):
                return dict(json.loads(await socket.recv())["params"]["result"])

    told = asyncio.run(subscribe())
    assert told["justified"]["epoch"] > told["finalised"]["epoch"] >= finality["finalised"]["epoch"]


def check_verification(network: Network) -> None:
    """`noria chain verify` while the node runs: all of it, and one block."""
    everything = noria("chain", "verify", "--dir", str(network.folder))
    assert everything.returncode == 0, everything.stderr
    assert "certificates were run again" in everything.stdout
    one = noria("chain", "verify", "--dir", str(network.folder), "--block", "3")
    assert one.returncode == 0, one.stderr
    assert "executed again" in one.stdout
    none = noria("chain", "verify", "--dir", str(network.folder), "--block", "1000000")
    assert none.returncode == 1
    # Where that takes long, how far it is has been told before.
    assert none.stderr.splitlines()[-1].startswith("error: there is no block 1000000")


def test_the_command_line_makes_and_ends_a_network(tmp_path: Path) -> None:
    folder = str(tmp_path / "net")
    try:
        up = noria("network", "up", "--nodes", "2", "--units", "4", "--dir", folder, "--until", "nothing")
        assert up.returncode == 0, up.stderr
        rows = wait_for("both nodes see each other", lambda: seen_each_other(folder), SECONDS)
        assert [row["name"] for row in rows] == ["node-1", "node-2"]
        assert {"head_slot", "head_root", "justified_epoch", "finalized_epoch", "peers"} <= rows[0].keys()

        # A second process in the same folder is refused in one line.
        second = noria("node", "--config", str(tmp_path / "net" / "node-1.toml"))
        assert second.returncode == 1
        assert "is in use by process" in second.stderr
        assert second.stderr.count("error:") == 1

        assert noria("network", "kill-node", "2", "--dir", folder).returncode == 0
        after = json.loads(noria("network", "status", "--json", "--dir", folder).stdout)["nodes"]
        assert [row["running"] for row in after] == [True, False]
        assert "node-1.log" in noria("network", "logs", "1", "--dir", folder).stdout
    finally:
        down = noria("network", "down", "--dir", folder)
    assert down.returncode == 0, down.stderr
    for name in ("node-1", "node-2"):
        assert not (tmp_path / "net" / f"{name}.pid").exists()
    assert not any(folder in command for command in command_lines())


def seen_each_other(folder: str) -> list[dict[str, Any]] | None:
    rows = json.loads(noria("network", "status", "--json", "--dir", folder).stdout)["nodes"]
    return rows if all(row["peers"] == 1 for row in rows) else None


def command_lines() -> list[str]:
    """Of all processes of this machine that can be seen."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return lines


def test_a_stopped_node_goes_down_too(tmp_path: Path) -> None:
    with network_of(tmp_path / "net", 1, units=2) as network:
        (node,) = network.nodes
        pid = running(network, node)
        assert pid is not None
        wait_for("the node answers", lambda: statuses(network)[0]["head_root"], SECONDS)
        os.kill(pid, signal.SIGSTOP)
