"""A whole job over miners in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from noria.market.requester.chain import JobChain, JobPlan
from noria.market.requester.job import JobRunner, JobSetting
from noria.market.requester.journal import JobJournal
from noria.market.requester.money import first_share
from noria.market.requester.sampling import OwnRuns
from noria.primitives.types import NOR, Wei
from noria.work.ids import ProgramId
from tests.market.requester.fakes import (
    DOMAIN,
    PRICE,
    PROGRAM,
    PROTOCOL,
    RULES,
    FakeChain,
    FakeMiner,
    FakeNetwork,
    TruthfulRuns,
    Wanted,
    key_of,
)

PATIENCE = 30.0


class RunningJob:
    """A job under way, with everything that can be looked at."""

    def __init__(
        self, runner: JobRunner, chain: FakeChain, miners: list[FakeMiner], task: asyncio.Task[None]
    ) -> None:
        self.runner, self.chain, self.miners, self.task = runner, chain, miners, task

    def order(self, *datas: bytes, fuel_limit: int = 100_000_000, shared: bytes = b"") -> list[Wanted]:
        units = [Wanted(data, fuel_limit=fuel_limit, shared=shared) for data in datas]
        for unit in units:
            self.runner.add(unit.unit)
        return units

    async def results(self, wanted: list[Wanted]) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([unit.future for unit in wanted])

    def check_money(self) -> None:
        """What holds at any time: caps, allows and receipts are within the budget."""
        job = self.chain.job_now
        assert sum(row.cap for row in self.chain.rows) + job.free == self.runner.purse.budget
        for place in self.runner.places:
            row = self.chain.rows[place.who.k]
            assert place.ledger.allowed <= row.cap
            assert place.ledger.verified <= place.ledger.received <= place.ledger.allowed


@asynccontextmanager
async def running_job(
    miners: list[FakeMiner],
    *,
    replicas: int = 2,
    sample: float = 0.0,
    budget: int = 4 * NOR,
    own_runs: OwnRuns | None = None,
    spare: list[FakeMiner] | None = None,
    journal: JobJournal | None = None,
    drawn: int | None = None,
    patience: float = 300.0,
    told: list[str] | None = None,
) -> AsyncIterator[RunningJob]:
    session_key = key_of(999)
    count = drawn or len(miners)
    chain = FakeChain(miners, spare=list(spare or []), everybody=[*miners, *(spare or [])])
    plan = JobPlan(
        program=ProgramId(PROGRAM),
        details=b"",
        budget=Wei(budget),
        share=Wei(first_share(budget, count)),
        max_price=PRICE,
        miners=count,
        replicas=replicas,
        public=True,
    )
    setting = JobSetting(
        plan=plan,
        sample=sample,
        session_key=session_key,
        domain=DOMAIN,
        rules=RULES,
        protocol=PROTOCOL,
        title="a test",
        patience=patience,
    )
    network = FakeNetwork([*miners, *(spare or [])], session_key.address)
    runner = JobRunner(
        cast(JobChain, chain),
        network,
        setting,
        own_runs=own_runs,
        journal=journal,
        tell_wait=(told if told is not None else []).append,
    )
    task = asyncio.get_running_loop().create_task(runner.run())
    job = RunningJob(runner, chain, miners, task)
    try:
        yield job
    finally:
        async with asyncio.timeout(PATIENCE):
            await runner.close(hurry=True)
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()


def truthful() -> TruthfulRuns:
    return TruthfulRuns()
