"""Whoever is sent away is written down, and a node with a wrong specification is told what to compare."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from structlog.testing import capture_logs

from noria.network.peers import FOREIGN, PeerEventKind, PeerId
from noria.node.bans import BanWatch
from noria.node.full import FullNode
from noria.primitives.line_budget import AT_ONCE
from tests.network.memory import MemoryNetwork
from tests.network.settings import config, eventually, transport
from tests.node.test_watching import follower, specified
from tests.virtual_time import run_virtually

EVENT = "peer_on_another_chain"


async def test_a_node_with_another_specification_than_its_peers_is_told_to_compare_them(
    tmp_path: Path,
) -> None:
    async with transport(1, config(network="other")) as peer:
        mine = follower(specified(tmp_path / "mine", int(time.time())), bootstrap=(peer.addresses[0],))
        with capture_logs() as logged:
            async with FullNode(mine, "noria/0") as node:

                def told() -> bool:
                    # Whoever hears the other's name first hangs up: the peer is to have another try.
                    if any(ban.peer == node.transport.peer_id for ban in peer.bans()):
                        peer.unban(node.transport.peer_id)
                    return any(line["event"] == EVENT for line in logged)

                await eventually(told)
                root = node.chain.rules.genesis_root.hex()
    line = next(line for line in logged if line["event"] == EVENT)
    assert (line["log_level"], line["peer"]) == ("warning", peer.peer_id)
    assert line["reason"] == f'{FOREIGN}"other", not "{root}"'
    assert "chain.json" in line["advice"]


def test_every_ban_is_told_also_those_from_before_and_many_do_not_flood_the_log() -> None:
    async def story() -> None:
        node = MemoryNetwork([], []).connect("node")
        node.ban(PeerId("early"), 60.0, "")
        watch = BanWatch(node)
        with capture_logs() as logged:
            watch.start()
            await asyncio.sleep(1)
            for number in range(3 * AT_ONCE):
                node.tell(PeerEventKind.BANNED, PeerId(f"peer {number}"))
            await asyncio.sleep(1)
            await watch.stop()
        assert [line["peer"] for line in logged[:2]] == ["early", "peer 0"]
        assert {line["event"] for line in logged} == {"peer_banned"}
        assert len(logged) <= AT_ONCE

    run_virtually(story())
