"""An `Executor` over miners in memory that run real units, and no node."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from noria import Executor
from noria.client import session
from noria.client.chain_setup import Connected
from noria.client.rpc_access import ChainFacts
from noria.client.wallet import Wallet
from noria.market.requester.sampling import PoolRuns
from noria.network.peers import PeerId
from noria.primitives.types import NOR, Address, Hash32, Wei
from noria.work.folders import compiled_folder
from noria.work.ids import ProgramId
from noria.work.workers import ProgramSource
from tests.client.runtime import python_runtime
from tests.market.requester.fakes import (
    DOMAIN,
    PRICE,
    FakeChain,
    FakeMiner,
    FakeNetwork,
    Ways,
    key_of,
)

UNIT_FUEL_MAX = 300_000_000
"""Some ten milliseconds: what the tests call long does not take long."""


class WorldAccess:
    """What a session reads of a chain."""

    url = "memory:"
    chain_id, genesis_root = DOMAIN.chain_id, DOMAIN.genesis_root

    def __init__(self, programs: dict[str, Hash32]) -> None:
        numbers = {
            "unit_fuel_max": UNIT_FUEL_MAX,
            "input_bytes_max": 256 << 10,
            "output_bytes_max": 64 << 20,
            "program_bytes_max": 4 << 20,
        }
        self.facts = ChainFacts(self.chain_id, self.genesis_root, numbers, programs)
        self.money = 100 * NOR

    async def balance(self, account: Address) -> Wei:
        return Wei(self.money)

    async def close(self) -> None:
        pass


class WorldNetwork(FakeNetwork):
    """A transport to the world's miners, for whatever session key the job was opened with."""

    def __init__(self, world: "World") -> None:
        super().__init__(world.miners, Address(bytes(20)))
        self.world = world

    async def request(
        self, peer: PeerId, protocol: str, data: bytes, *, timeout_seconds: float | None = None
    ) -> bytes:
        self.session_key = self.world.chain.job_now.session_key
        return await super().request(peer, protocol, data, timeout_seconds=timeout_seconds)

    async def close(self) -> None:
        pass


class World:
    """Miners of one program, a chain that pins it unless told otherwise, and what is needed to reach them."""

    def __init__(self, ways: list[Ways], money: int, program: ProgramSource, is_pinned: bool) -> None:
        self.runs = PoolRuns(program, compiled_folder(), workers=2)
        self.miners = []
        for number, way in enumerate(ways):
            way.run = way.run or self.runs.run
            way.program, way.pinned = program.id, is_pinned
            self.miners.append(FakeMiner(number, way))
        self.chain = FakeChain(self.miners, money=money, everybody=self.miners)
        self.access = WorldAccess({"program": program.id} if is_pinned else {})
        self.royalty_wei = 0
        self.domain = DOMAIN

    async def transport(self) -> WorldNetwork:
        return WorldNetwork(self)

    def job_chain(self, wallet: Wallet) -> FakeChain:
        self.chain.requester = wallet.address
        return self.chain

    async def floor_price(self) -> int:
        return PRICE

    async def royalty(self, program: ProgramId) -> int:
        return self.royalty_wei

    def units(self) -> int:
        """Units that miners hold now."""
        return sum(len(place.units) for miner in self.miners for place in miner.places.values())


@contextmanager
def world(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ways: list[Ways] | None = None,
    money: int = 100 * NOR,
    program: ProgramSource | None = None,
    is_pinned: bool = True,
) -> Iterator[World]:
    if program is None:
        runtime = python_runtime()
        program = ProgramSource(runtime.program_id, runtime.path)
    made = World(ways or [Ways(workers=1), Ways(workers=1), Ways(workers=1)], money, program, is_pinned)

    async def connect(node: str | None) -> Connected:
        return cast(Connected, made)

    async def nothing(*_: Any) -> list[Any]:
        return []

    monkeypatch.setattr(session, "connect", connect)
    monkeypatch.setattr(session, "fund", nothing)
    monkeypatch.setattr(session, "close_leftovers", nothing)
    monkeypatch.setenv("NORIA_JOBS", str(tmp_path / "jobs.sqlite"))
    try:
        yield made
    finally:
        made.runs.close()


def executor(**settings: Any) -> Executor:
    """An executor of the world that is patched in."""
    settings.setdefault("wallet", Wallet(key_of(4_711)))
    settings.setdefault("runtime", python_runtime())
    settings.setdefault("progress", False)
    settings.setdefault("budget", "4 NOR")
    return Executor(**settings)


def loop_of(made: Executor) -> asyncio.AbstractEventLoop:
    return made._session._loop
