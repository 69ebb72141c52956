"""Workers are slow to start: one pool for all tests of the miner's side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from noria.work.ids import ProgramId
from noria.work.workers import ProgramSource, WorkerPool
from tests.market.miner.world import Miner, a_miner, programs


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> tuple[ProgramSource, ProgramSource]:
    return programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    with WorkerPool(1, cache=tmp_path_factory.mktemp("compiled")) as made:
        yield made


@pytest.fixture
def pinned(modules: tuple[ProgramSource, ProgramSource]) -> dict[ProgramId, Path]:
    return {source.id: source.path for source in modules}


@pytest.fixture
def echo(modules: tuple[ProgramSource, ProgramSource]) -> ProgramId:
    return modules[0].id


@pytest.fixture
def spin(modules: tuple[ProgramSource, ProgramSource]) -> ProgramId:
    return modules[1].id


@pytest.fixture
async def miner(tmp_path: Path, pool: WorkerPool, pinned: dict[ProgramId, Path]) -> AsyncIterator[Miner]:
    async with a_miner(tmp_path, pool, pinned) as made:
        yield made
