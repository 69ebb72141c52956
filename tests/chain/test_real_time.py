"""The same chain with real threads, real signatures, real workers and the clock on the wall."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from noria.chain.certificates import CheckState
from noria.chain.unit_runner import PoolRunner
from noria.work.workers import WorkerPool
from tests.chain.drawn import GENESIS_SECONDS, PROGRAM, Network, agree, chain_of, running
from tests.work.modules import SPIN, place


@pytest.mark.slow
async def test_miners_on_threads_make_one_chain_and_check_it_in_workers(tmp_path: Path) -> None:
    network = Network(tmp_path, 2)
    source = place(tmp_path, SPIN)
    loop = asyncio.get_running_loop()
    began = loop.time()
    network.wall = lambda: GENESIS_SECONDS + loop.time() - began  # type: ignore[method-assign]
    with WorkerPool(1, cache=tmp_path / "compiled") as pool:
        network.machine = PoolRunner(pool, {PROGRAM: source.path}, cache=tmp_path / "compiled")  # type: ignore[assignment]
        await running(network)
        async with asyncio.timeout(60):
            async with network.nodes[0].chain.events.subscribe_finality() as finality:
                # The first epoch with votes is justified soon after a quarter of it.
                while (await finality.get()).justified.epoch < 1:
                    pass
        await asyncio.sleep(1)
        assert agree(network)
        roots = [
            block.root(network.nodes[0].chain.rules.genesis_root) for block in chain_of(network.nodes[0])
        ]
        assert len(roots) > 5
        states = [network.nodes[0].chain.certificate_state(root) for root in roots]
        assert CheckState.RIGHT in states
        assert set(states) <= {CheckState.RIGHT, CheckState.EMPTY, CheckState.WAITING, CheckState.CHECKING}
        await network.stop()
