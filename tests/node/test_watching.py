"""What tells an operator that something is wrong: clocks, health, and the metrics of a miner."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from noria.chain.miner import MinerStatus
from noria.network.config import TransportConfig
from noria.network.messages import PeerStatus, encode_status
from noria.network.topics import chain_topics, protocol_specs, topic_specs
from noria.network.transport import Request
from noria.node.config import NodeConfig
from noria.node.full import FullNode
from noria.node.view import BEHIND_MAX, FINALITY_LAG_MAX
from noria.primitives.types import Hash32
from tests.chain.drawn import PARAMETERS, Network
from tests.network.settings import eventually, transport
from tests.node.networked import Networked, Speaker
from tests.node.served import drawn_miner, served
from tests.virtual_time import run_virtually

AHEAD_SECONDS = 0.7
"""More than half a slot."""


# ---------------------------------------------------------------- clocks


def told(logs: list[Any]) -> list[float]:
    return [line["ahead_seconds"] for line in logs if line["event"] == "clock_differs"]


@pytest.mark.parametrize("ahead", [AHEAD_SECONDS, -AHEAD_SECONDS])
def test_a_clock_that_differs_from_most_peers_is_told_once(tmp_path: Path, ahead: float) -> None:
    async def story() -> None:
        network = Networked(tmp_path)
        for number in range(3):
            await network.join(number, mines=False)
        await network.run_to(5)
        skewed = Speaker(network, 3, False, "skewed", -ahead)
        network.nodes.append(skewed)
        network.speakers.append(skewed)
        with capture_logs() as logs:
            await skewed.start()
            await network.run_to(45)
            # Peers are asked every ten seconds, and the operator is told once.
            (seen,) = told(logs)
            assert seen == pytest.approx(ahead, abs=0.1)
            assert skewed.sync.clocks.ahead_seconds == pytest.approx(ahead, abs=0.1)
            # One of three peers has another clock: it is not the other two's that is wrong.
            for node in network.speakers[:3]:
                assert node.sync.clocks.ahead_seconds == pytest.approx(0, abs=0.1)
            # Synchronised, all is well; if it goes wrong again, that is news.
            skewed.lag = 0.0
            await network.run_to(65)
            assert skewed.sync.clocks.ahead_seconds == pytest.approx(0, abs=0.1)
            assert len(told(logs)) == 1
            skewed.lag = -ahead
            await network.run_to(85)
            assert len(told(logs)) == 2
        (line, _) = [line for line in logs if line["event"] == "clock_differs"]
        assert line["log_level"] == "warning"
        assert "synchronise" in line["advice"]
        await network.stop()

    run_virtually(story())


def test_a_clock_that_differs_by_less_than_half_a_slot_is_not_told(tmp_path: Path) -> None:
    async def story() -> None:
        network = Networked(tmp_path)
        await network.join(0, mines=False)
        skewed = Speaker(network, 1, False, "skewed", -0.3)
        network.nodes.append(skewed)
        with capture_logs() as logs:
            await skewed.start()
            await network.run_to(25)
        assert told(logs) == []
        assert skewed.sync.clocks.ahead_seconds == pytest.approx(0.3, abs=0.1)
        await network.stop()

    run_virtually(story())


# ---------------------------------------------------------------- health and metrics


def specified(folder: Path, genesis_seconds: int) -> NodeConfig:
    """How to run a node alone, a miner of a new chain, which has genesis alone."""
    folder.mkdir()
    spec = folder / "chain.json"
    spec.write_bytes(Network(folder, 1, genesis_seconds=genesis_seconds).spec.to_json())
    return drawn_miner(folder, folder / "node", spec=spec)


async def get(url: str) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


async def health(url: str) -> tuple[int, list[str]]:
    code, text = await get(f"{url}/health")
    report = json.loads(text)
    assert report["healthy"] is (code == 200)
    assert report["uptimeSeconds"] >= 0
    return code, report["problems"]


def follower(config: NodeConfig, **changes: Any) -> NodeConfig:
    return dataclasses.replace(config, miner_keystore=None, miner_address=None, password_file=None, **changes)


async def test_a_node_on_a_chain_that_stands_still_is_not_well(tmp_path: Path) -> None:
    slots = (FINALITY_LAG_MAX + 1) * PARAMETERS.epoch_slots + 2
    config = follower(specified(tmp_path / "one", int(time.time()) - slots))
    async with served(config) as (_, url):
        code, problems = await health(url)
        assert code == 503
        assert len(problems) == 2
        silent, lag = problems
        assert slots <= int(silent.removeprefix("no block for ").removesuffix(" slots")) < slots + 10
        assert lag == f"nothing final for {FINALITY_LAG_MAX + 1} epochs"


async def test_a_node_with_peers_to_find_and_none_found_is_not_well(tmp_path: Path) -> None:
    config = follower(specified(tmp_path / "one", int(time.time())), bootstrap=("/ip4/127.0.0.1/tcp/1",))
    async with served(config) as (_, url):
        assert await health(url) == (503, ["no peers"])
    # Who was told of no peers misses none.
    async with served(dataclasses.replace(config, bootstrap=())) as (_, url):
        assert await health(url) == (200, [])


@asynccontextmanager
async def claimant(node: FullNode) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """A peer that says what head it has, as a test tells it to, and has nothing."""
    root, parameters = node.chain.rules.genesis_root, node.spec.parameters
    topics = chain_topics(root)
    height = 0

    def status() -> bytes:
        now = node.chain.clock.milliseconds()
        return encode_status(PeerStatus(root, 0, root, height, height, Hash32(bytes(32)), now))

    async def answer(request: Request) -> bytes:
        return status()

    config = TransportConfig(
        network=root.hex(),
        agent="claimant/1",
        topics=topic_specs(topics, parameters),
        protocols=protocol_specs(topics, parameters),
        listen=("/ip4/127.0.0.1/tcp/0",),
        bootstrap=(node.transport.addresses[0],),
    )

    async def think(request: Request) -> bytes:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async with transport(7, config) as peer:
        peer.serve(topics.status, answer)
        peer.serve(topics.range, think)
        await eventually(lambda: any(info.agent for info in peer.peers()))

        async def claim(wanted: int) -> None:
            nonlocal height
            height = wanted
            await peer.request(node.transport.peer_id, topics.status, status())

        yield claim


async def test_a_node_behind_its_peers_is_not_well(tmp_path: Path) -> None:
    config = follower(specified(tmp_path / "one", int(time.time())))
    async with served(config) as (node, url), claimant(node) as claim:
        await claim(BEHIND_MAX)
        assert await health(url) == (200, [])
        await claim(BEHIND_MAX + 1)
        assert await health(url) == (503, [f"{BEHIND_MAX + 1} blocks behind its peers"])


async def metrics(url: str) -> dict[str, float]:
    code, text = await get(f"{url}/metrics")
    assert code == 200
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def counted(status: MinerStatus) -> tuple[int, int, int]:
    return status.blocks, status.votes, status.lost


async def test_a_miners_metrics_count_what_it_does(tmp_path: Path) -> None:
    # A journal that is new lets its miner vote in the next epoch only: that begins soon.
    slots = PARAMETERS.epoch_slots - 2
    config = specified(tmp_path / "one", int(time.time()) - slots)
    async with served(config) as (node, url):
        assert node.miner is not None
        async with asyncio.timeout(60):
            # Of its credited work nothing is here: slots for which it must be shown are lost.
            while not all(counted(node.miner.status)):
                await asyncio.sleep(0.1)
        before, found, after = node.miner.status, await metrics(url), node.miner.status
        names = ("blocks", "votes", "slots_lost")
        values = [found[f"noria_miner_{name}_total"] for name in names]
        for least, value, most in zip(counted(before), values, counted(after), strict=True):
            assert 0 < least <= value <= most
    async with served(follower(config)) as (_, url):
        assert not [name for name in await metrics(url) if "miner" in name]
