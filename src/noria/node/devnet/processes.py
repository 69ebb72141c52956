"""Node processes of a network on this machine: started so that they outlive the command, and ended for sure.

A process is known by its id and by when the kernel started it, so that no other one is ever taken for it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from noria.node.devnet.layout import Network, NetworkError, NodeEntry

START_SECONDS: Final = 120.0
"""For reading in what a node needs, on the slowest machine."""
STOP_SECONDS: Final = 20.0
"""For an orderly end, before a process is killed."""
POLL_SECONDS: Final = 0.05
_STARTED_FIELD: Final = 19
"""Of /proc/PID/stat after the command's closing parenthesis: start time in clock ticks."""


def running(network: Network, node: NodeEntry) -> int | None:
    """Return the id of a node's process, `None` if it does not run."""
    try:
        pid_text, _, started = network.pid_file(node).read_text().partition(" ")
        pid = int(pid_text)
    except (OSError, ValueError):
        return None
    return pid if started and _started(pid) == started.strip() else None


class Nursery:
    """Starts nodes. It reads in what they need from when it is made, so make it early.

    Examples
    --------
    >>> def example(network: Network) -> None:
    ...     with Nursery() as nursery:
    ...         nursery.start(network, network.nodes)
    """

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-m", "noria.cli.network_node"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            raise NetworkError(f"nodes cannot be started: {error.strerror}") from error
        self._has_orders = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it; the nodes go on."""
        if self._has_orders:
            # Every process that it makes is noted before it ends.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self._process.kill()
        self._process.communicate()

    def start(self, network: Network, nodes: Sequence[NodeEntry]) -> None:
        """Start those nodes that do not run. This can be done once.

        Raises
        ------
        NetworkError
            Where they cannot be started.
        """
        orders = [
            {
                "arguments": ["node", "--config", str(network.config(node))],
                "folder": str(network.folder),
                "log": str(network.log(node)),
                "pid_file": str(network.pid_file(node)),
            }
            for node in nodes
            if running(network, node) is None
        ]
        self._has_orders = True
        try:
            _, problem = self._process.communicate(json.dumps(orders) + "\n", START_SECONDS)
        except subprocess.TimeoutExpired:
            raise NetworkError(f"nodes cannot be started within {START_SECONDS:g} s") from None
        if self._process.returncode:
            last = next(reversed(problem.split("\n")[:-1]), f"exit status {self._process.returncode}")
            raise NetworkError(f"nodes cannot be started: {last}")


def start_nodes(network: Network, nodes: Sequence[NodeEntry]) -> None:
    """Start those nodes that do not run.

    Raises
    ------
    NetworkError
        Where they cannot be started.
    """
    with Nursery() as nursery:
        nursery.start(network, nodes)


def write_pid_file(path: Path, pid: int) -> None:
    """Note which process a node is."""
    path.write_text(f"{pid} {_started(pid) or ''}")


def stop_nodes(
    network: Network, nodes: Sequence[NodeEntry], *, limit_seconds: float = STOP_SECONDS
) -> list[str]:
    """End nodes in order, all at once; return the names of those that had to be killed.

    When this returns, none of them runs.
    """
    pids = {node: pid for node in nodes if (pid := running(network, node)) is not None}
    for pid in pids.values():
        _send(pid, signal.SIGTERM)
        # A stopped process hears nothing until it goes on.
        _send(pid, signal.SIGCONT)
    late = _wait(network, list(pids), limit_seconds)
    for node in late:
        _send(pids[node], signal.SIGKILL)
    still = _wait(network, late, STOP_SECONDS)
    if still:
        raise NetworkError(f"{', '.join(node.name for node in still)} cannot be ended: see their processes")
    for node in nodes:
        network.pid_file(node).unlink(missing_ok=True)
    return [node.name for node in late]


def kill_node(network: Network, node: NodeEntry) -> None:
    """End a node's process without warning, as a power cut would.

    Raises
    ------
    NetworkError
        Where it does not run.
    """
    signal_node(network, node, signal.SIGKILL)
    if _wait(network, [node], STOP_SECONDS):
        raise NetworkError(f"{node.name} is still there {STOP_SECONDS:g} s after it was killed")
    network.pid_file(node).unlink(missing_ok=True)


def signal_node(network: Network, node: NodeEntry, number: signal.Signals) -> None:
    """Send a signal to a node's process.

    Raises
    ------
    NetworkError
        Where it does not run.
    """
    pid = running(network, node)
    if pid is None:
        raise NetworkError(f"{node.name} does not run: start it with noria network up --dir {network.folder}")
    _send(pid, number)


def partition(network: Network, groups: Sequence[Sequence[NodeEntry]]) -> None:
    """Let nodes of different groups not talk to each other; without groups all talk to all again.

    Each node is told whom to block in a file, which it reads again on SIGHUP.
    """
    for node in network.nodes:
        own = next((group for group in groups if node in group), None)
        blocked = [] if own is None else [other.peer_id for other in network.nodes if other not in own]
        if not groups:
            blocked = []
        path = network.node_folder(node) / "blocked-peers"
        partial = path.with_name("blocked-peers.partial")
        partial.write_text("".join(f"{peer}\n" for peer in blocked))
        partial.replace(path)
        if running(network, node) is not None:
            signal_node(network, node, signal.SIGHUP)


def _wait(network: Network, nodes: Sequence[NodeEntry], limit_seconds: float) -> list[NodeEntry]:
    """Wait for processes to end; return those that have not."""
    end = time.monotonic() + limit_seconds
    left = list(nodes)
    while True:
        left = [node for node in left if running(network, node) is not None]
        if not left or time.monotonic() >= end:
            return left
        time.sleep(POLL_SECONDS)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _started(pid: int) -> str | None:
    """Return when a process was started, in clock ticks since boot; `None` if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[_STARTED_FIELD]
