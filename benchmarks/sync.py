"""How fast a node with an empty store catches up: small blocks from another process, over real transports.

    python -m benchmarks.sync [--blocks 1000] [--quick] [--record]

A chain of blocks as real networks make them — real signatures, lottery, votes, certificates of units that
were really run, one transfer in each block — is made in virtual time by four miners. One process serves it,
another one joins with an empty folder and real, durable stores. The clock runs from the first block to the
last one; certificates are checked beside it within their share of a core, as always.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.peers import ROOT
from benchmarks.report import Table, publish
from noria._core import Engine
from noria.chain.chain_service import ChainService
from noria.chain.recovery import open_chain
from noria.chain.service import Chain
from noria.chain.unit_runner import PoolRunner
from noria.execution.accounts import dev_accounts
from noria.execution.spec import ChainSpec
from noria.network.config import TransportConfig
from noria.network.topics import chain_topics, protocol_specs, topic_specs
from noria.network.transport import Transport
from noria.node.logs import configure_logging
from noria.node.sync import Sync
from noria.work.workers import WorkerPool
from tests.chain.drawn import GENESIS_SECONDS, PROGRAM, Network
from tests.chain.transfers import transfer
from tests.virtual_time import run_virtually
from tests.work.modules import SPIN

TARGET: Final = 200
"""Blocks per second."""
SECONDS: Final = 900.0


def make_chain(folder: Path, blocks: int) -> None:
    """Let four miners make a chain in virtual time; the first one's stores stay in the folder."""

    async def story() -> None:
        network = Network(folder, 4)
        (folder / "chain.json").write_bytes(network.spec.to_json())
        for number in range(4):
            await network.add(number)
        head, nonce = network.nodes[0].chain, 0
        while head.head.node.height < blocks:
            for node in network.nodes:
                await node.execution.submit([transfer(dev_accounts()[9], nonce)])
            nonce += 1
            await asyncio.sleep(1.0)
        (folder / "slot").write_text(str(head.slot))
        await network.stop()

    run_virtually(story())


def wall_after(folder: Path) -> Callable[[], float]:
    """A clock that goes on where the chain ended."""
    begun = time.monotonic()
    at = GENESIS_SECONDS + int((folder / "slot").read_text())
    return lambda: at + time.monotonic() - begun


@asynccontextmanager
async def node(made: Path, own: Path, *bootstrap: str) -> AsyncIterator[tuple[ChainService, Transport]]:
    """A node without a miner, on real time and with durable stores."""
    wall, spec = wall_after(made), ChainSpec.load(made / "chain.json")
    module = own / "spin.wasm"
    module.write_bytes(SPIN)
    engine = Engine(str(own / "engine"), spec.engine_json())
    execution = Chain(engine, spec, automine=False, clock=wall)
    await execution.start()
    pool = WorkerPool(1, cache=own / "compiled")
    runner = PoolRunner(pool, {PROGRAM: module}, cache=own / "compiled")
    chain = await open_chain(execution, own / "blocks.sqlite", wall=wall, runner=runner)
    await chain.start()
    topics = chain_topics(chain.rules.genesis_root)
    transport = await Transport.start(
        secrets.token_bytes(32),
        TransportConfig(
            network="sync",
            agent="benchmark",
            topics=topic_specs(topics, spec.parameters),
            protocols=protocol_specs(topics, spec.parameters),
            listen=("/ip4/127.0.0.1/tcp/0",),
            bootstrap=bootstrap,
        ),
    )
    sync = Sync(transport, topics, chain)
    sync.start()
    try:
        yield chain, transport
    finally:
        await sync.stop()
        await chain.stop()
        await transport.close()
        await execution.stop()
        await asyncio.to_thread(pool.close, cancel_queued=True)
        chain.store.close()
        engine.close()


async def serve(made: Path) -> None:
    """Serve a chain until the input ends."""
    async with node(made, made / "node0") as (_, transport):
        print(transport.addresses[0], flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def join(made: Path, own: Path, address: str, blocks: int) -> tuple[float, float]:
    """Catch up; return blocks per second on the clock, and processor seconds for each block."""
    async with node(made, own, address) as (chain, _):
        async with asyncio.timeout(SECONDS):
            while not (first := chain.head.node.height):
                await asyncio.sleep(0.005)
            begun, cpu = time.monotonic(), _cpu()
            while (last := chain.head.node.height) < blocks:
                await asyncio.sleep(0.02)
        seconds, spent = time.monotonic() - begun, _cpu() - cpu
    return (last - first) / seconds, spent / (last - first)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--blocks", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="100 blocks, once")
    parser.add_argument("--record", action="store_true", help="write the table to docs/benchmarks.md")
    parser.add_argument("--made", type=Path, help="folder of a chain; made if it is not there")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    configure_logging("error")
    if options.serve is not None:
        asyncio.run(serve(options.serve))
        return
    blocks, rounds = (100, 1) if options.quick else (options.blocks, options.rounds)
    with tempfile.TemporaryDirectory() as temporary:
        made = options.made or Path(temporary) / "made"
        if not (made / "slot").exists():
            made.mkdir(parents=True, exist_ok=True)
            make_chain(made, blocks)
        found = []
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sync", "--serve", str(made)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as server:  # fmt: skip
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            for number in range(rounds):
                own = Path(temporary) / f"own{number}"
                own.mkdir()
                found.append(asyncio.run(join(made, own, address, blocks)))
                shutil.rmtree(own)
            server.communicate("")
    rates, cpu = [rate for rate, _ in found], [seconds * 1e3 for _, seconds in found]
    table = Table(
        f"{blocks} blocks from one other process",
        ("", "median", "least", "most", "target"),
        [
            ("blocks per second", *(f"{value:.0f}" for value in summary(rates)), f"≥ {TARGET}"),
            ("processor time per block, ms", *(f"{value:.1f}" for value in summary(cpu)), ""),
        ],
    )
    notes = [
        f"{rounds} rounds; processor time is that of the node that joins, in all threads. The other serves"
        " on the same machine."
    ]
    publish("sync", [table], notes, record=options.record)


def summary(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, least and most."""
    return statistics.median(values), min(values), max(values)


if __name__ == "__main__":
    main()
