"""More jobs than a miner takes care of at once: which of them stay."""

from __future__ import annotations

import asyncio

import pytest

from noria.market.miner import places
from noria.work.ids import ProgramId
from tests.market.miner.world import PRICE, Boss, Miner, declined
from tests.work.modules import turns

ENOUGH = 10**13
DEAR = 10**15
"""A gas price at which nothing here is worth its commit."""


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PLACES_MAX", 3)


async def greeted(miner: Miner, program: ProgramId, job: int) -> Boss:
    miner.chain.open(job, program=program)
    boss = Boss(miner, program, job=job)
    await boss.hello()
    return boss


async def with_result(miner: Miner, program: ProgramId, job: int, units: int = 1) -> Boss:
    boss = await greeted(miner, program, job)
    await boss.order(*[boss.unit(number, b"%d" % number) for number in range(units)], allow=ENOUGH)
    await boss.collect_all(units)
    return boss


def jobs(miner: Miner) -> list[int]:
    return sorted(session.record.job for session in miner.service.status().sessions)


async def test_places_that_earn_nothing_keep_nobody_out(miner: Miner, echo: ProgramId) -> None:
    idle = [await greeted(miner, echo, job) for job in (1, 2, 3)]
    new = await with_result(miner, echo, 4)
    assert jobs(miner) == [2, 3, 4]
    assert await declined(idle[0].collect(0)) == "no-session"
    # Coming back does not make it worth more than the others.
    assert await declined(idle[0].hello()) == "busy"
    await greeted(miner, echo, 5)
    await greeted(miner, echo, 6)
    assert jobs(miner) == [4, 5, 6]
    await new.collect(0)


async def test_what_a_place_that_is_let_go_has_under_way_is_given_up(miner: Miner, spin: ProgramId) -> None:
    boss = await greeted(miner, spin, 1)
    slow = turns(10**12)
    await boss.order(*[boss.unit(number, slow, limit=5 * 10**12) for number in range(4)], allow=ENOUGH)
    await miner.settled(lambda: miner.pool.stats().running)
    await boss.collect(0)
    waiting = asyncio.create_task(boss.collect(20_000))
    await asyncio.sleep(0)
    for job in (2, 3, 4):
        await greeted(miner, spin, job)
    await asyncio.wait_for(waiting, 5)
    assert boss.failures == dict.fromkeys(range(4), "cancelled")
    await miner.settled(lambda: miner.pool.stats().running == 0)


async def test_a_place_to_which_money_is_owed_stays(miner: Miner, echo: ProgramId) -> None:
    rich = [await with_result(miner, echo, job) for job in (1, 2, 3)]
    miner.chain.open(4, program=echo)
    late = Boss(miner, echo, job=4)
    assert await declined(late.hello()) == "busy"
    # Also between the commit and the end of its block's time.
    async with asyncio.timeout(20):
        while len(miner.chain.state.batches) < 3:
            miner.chain.mine()
            await asyncio.sleep(0.05)
    assert await declined(late.hello()) == "busy"
    async with asyncio.timeout(20):
        while any(live.settler.is_owed for live in miner.service._places):
            miner.chain.mine(1, final=True)
            await asyncio.sleep(0.05)
    assert all(session.paid for session in miner.service.status().sessions)
    await late.hello()
    assert len(jobs(miner)) == 3
    assert 4 in jobs(miner)
    await rich[-1].collect(0)


async def test_what_is_not_worth_its_gas_keeps_nobody_out(miner: Miner, echo: ProgramId) -> None:
    miner.chain.gas_price_wei = DEAR
    most = await with_result(miner, echo, 1, units=5)
    least = await with_result(miner, echo, 2)
    middle = await with_result(miner, echo, 3, units=3)
    new = await greeted(miner, echo, 4)
    assert jobs(miner) == [1, 3, 4]
    # What it has earned is worth more than nothing.
    await least.hello()
    assert jobs(miner) == [1, 2, 3]
    assert await declined(new.hello()) == "busy"
    for boss in (most, least, middle):
        total = sum(int(result.fuel) for result in boss.results.values()) * PRICE
        answer = await boss.collect(0)
        assert answer.earned == str(total)
    # A number that has a receipt keeps it.
    assert await least.order(least.unit(0, b"other")) == [(0, "number-taken")]


async def test_after_a_restart_those_come_first_to_whom_something_is_owed(
    miner: Miner, echo: ProgramId, monkeypatch: pytest.MonkeyPatch
) -> None:
    miner.chain.gas_price_wei = DEAR
    await with_result(miner, echo, 1)
    await greeted(miner, echo, 2)
    await greeted(miner, echo, 3)
    monkeypatch.setattr(places, "PLACES_MAX", 2)
    await miner.restart()
    assert jobs(miner) == [1, 3]
    # Numbers of places go on.
    monkeypatch.setattr(places, "PLACES_MAX", 3)
    await greeted(miner, echo, 4)
    assert jobs(miner) == [1, 3, 4]
