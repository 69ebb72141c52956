"""A network of real processes of which one stands still for a while, and which is cut in two for a while."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from noria.node.devnet.layout import Network, NodeEntry
from noria.node.devnet.processes import signal_node
from tests.cli.command import assert_one_line_error, noria_here
from tests.node.networks import (
    assert_nobody_offended,
    assert_same_final_history,
    call,
    network_of,
    statuses,
    wait_for,
    wait_for_final,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SECONDS = 90.0
"""Longest wait for anything; on an idle machine nothing takes a third of it."""
AWAY_SLOTS = 10
"""How long what is interrupted stays so: more than an epoch."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network_of(tmp_path_factory.mktemp("network") / "net", units=4) as network:
        wait_for("all have a block", lambda: all(row["head_height"] for row in statuses(network)), SECONDS)
        yield network


def slots_pass(node: NodeEntry, slots: int) -> None:
    """Wait until a node's clock shows so many slots more."""
    end = call(node, "noria_slot") + slots
    wait_for(f"slot {end}", lambda: call(node, "noria_slot") >= end, SECONDS)


def final_epochs(rows: list[dict[str, Any]]) -> list[int]:
    return [row["finalized_epoch"] for row in rows]


def votes(node: NodeEntry) -> int:
    return int(call(node, "noria_status")["miner"]["votes"])


def all_go_on(network: Network) -> None:
    """All nodes finalise an epoch more than any has, and the same blocks."""
    wait_for_final(network, max(final_epochs(statuses(network))) + 1, SECONDS)
    assert_same_final_history(network.nodes)
    assert_nobody_offended(network)


def test_a_node_that_stood_still_comes_back_to_the_others(network: Network) -> None:
    sleeper, *others = network.nodes[1], network.nodes[0], *network.nodes[2:]
    (before,) = statuses(network, [sleeper])
    signal_node(network, sleeper, signal.SIGSTOP)
    try:
        slots_pass(others[0], AWAY_SLOTS)
        # Three of four are enough: the others go on.
        wait_for_final(network, before["finalized_epoch"] + 1, SECONDS, others)
    finally:
        signal_node(network, sleeper, signal.SIGCONT)
    made = votes(sleeper)
    all_go_on(network)
    wait_for("it votes again", lambda: votes(sleeper) > made, SECONDS)


def test_halves_that_do_not_talk_finalise_nothing_until_they_do(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*arguments: str) -> Any:
        return noria_here(capsys, "network", "partition", *arguments, "--dir", network.folder)

    halves = [list(network.nodes[:2]), list(network.nodes[2:])]
    cut = command("1,2", "node-3,4")
    try:
        assert (cut.returncode, cut.stdout) == (0, "")
        assert cut.stderr == "node-1, node-2 | node-3, node-4\n"
        wait_for(
            "each knows its own half alone",
            lambda: all(
                [peer["peerId"] for peer in call(node, "noria_peers")] == [other.peer_id]
                for half in halves
                for node, other in (half, half[::-1])
            ),
            SECONDS,
        )
        begun = max(final_epochs(statuses(network)))
        slots_pass(network.nodes[0], AWAY_SLOTS)
        apart = wait_for("blocks of both halves", lambda: rows_apart(network), SECONDS)
        # What was under way when the cut came may have become final, and nothing that came after it.
        assert set(final_epochs(apart)) <= {begun, begun + 1}
    finally:
        healed = command("--heal")
    assert (healed.returncode, healed.stderr) == (0, "all talk to all\n")
    wait_for("all talk to all", lambda: all(row["peers"] == 3 for row in statuses(network)), SECONDS)
    all_go_on(network)


def rows_apart(network: Network) -> list[dict[str, Any]] | None:
    """Where the nodes stand, once the halves have different heads."""
    rows = statuses(network)
    first, second = ({row["head_root"] for row in half} for half in (rows[:2], rows[2:]))
    return None if first & second else rows


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "--heal"),
        (["1,2", "3,4", "--heal"], 2, "--heal"),
        (["1,2", "3"], 2, "exactly one group"),
        (["1,2", "2,3,4"], 2, "exactly one group"),
        (["1,2", "3,5"], 1, "no node '5'"),
    ],
)
def test_what_is_no_partition(
    network: Network, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    outcome = noria_here(capsys, "network", "partition", *arguments, "--dir", network.folder)
    assert_one_line_error(outcome, code, words)
    assert [row["peers"] for row in statuses(network)] == [3, 3, 3, 3]
