"""Money before results: nothing is released beyond what is allowed, and all of that is paid."""

from __future__ import annotations

import asyncio
from typing import Any

from noria.market.contracts import JobState
from noria.market.messages import Allow
from noria.market.miner.session import UNRELEASED_MAX
from noria.market.typed_data import sign_allow
from noria.work.ids import ProgramId
from tests.market.miner.world import BOSS, DOMAIN, PRICE, STRANGER, Boss, Miner, declined
from tests.work.modules import turns

ENOUGH = 10**13


async def one_price(boss: Boss) -> int:
    """Run a unit, and return what one like it costs."""
    await boss.order(boss.unit(1_000, b"same"), allow=ENOUGH)
    await boss.collect_all(1)
    return int(boss.results.pop(1_000).fuel) * PRICE


async def working(miner: Miner, program: ProgramId, number: int = 1, **changes: int) -> Boss:
    miner.chain.open(number, program=program, **changes)
    boss = Boss(miner, program, job=number)
    await boss.hello()
    return boss


async def test_results_are_held_until_they_are_allowed(miner: Miner, echo: ProgramId) -> None:
    each = await one_price(await working(miner, echo))
    boss = await working(miner, echo, 2)
    await boss.order(*[boss.unit(n, b"same") for n in range(4)])
    while boss.last is None or boss.last.held < 4:
        await boss.collect(1_000)
    assert boss.results == {}
    assert (boss.last.needed, boss.last.earned) == (str(each), "0")
    # One wei less than the second one costs releases the first alone.
    await boss.collect(5_000, allow=boss.allow(2 * each - 1))
    await boss.collect_all(1)
    answer = await boss.collect(0)
    assert (answer.held, answer.needed, answer.earned) == (3, str(2 * each), str(each))
    await boss.collect_all(2, allow=boss.allow(2 * each))
    answer = await boss.collect(0)
    assert (answer.held, answer.needed, answer.earned) == (2, str(3 * each), str(2 * each))
    await boss.collect_all(4, allow=boss.allow(4 * each))
    answer = await boss.collect(0)
    assert (answer.held, answer.needed, answer.earned) == (0, "0", str(4 * each))
    assert sorted(result.index for result in boss.results.values()) == [0, 1, 2, 3]


async def test_an_allow_only_rises(miner: Miner, echo: ProgramId) -> None:
    each = await one_price(await working(miner, echo))
    boss = await working(miner, echo, 2)
    await boss.order(allow=2 * each)
    await boss.order(boss.unit(1, b"same"), boss.unit(2, b"same"), allow=each)
    await boss.collect_all(2)


async def test_an_allow_must_be_the_jobs_own(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    for key, job, k in ((STRANGER, 1, 0), (boss.key, 2, 0), (boss.key, 1, 1)):
        forged = Allow(str(ENOUGH), sign_allow(key, DOMAIN, job, k, ENOUGH))
        assert await declined(boss.collect(0, allow=forged)) == "wrong-signature"
    assert await declined(boss.collect(0, allow=Allow(str(ENOUGH), bytes(65)))) == "wrong-signature"
    # The requester's account may sign as well.
    await boss.order(boss.unit(1, b"x"))
    boss.allowed = ENOUGH
    allow = Allow(str(ENOUGH), sign_allow(BOSS, DOMAIN, 1, 0, ENOUGH))
    await boss.collect_all(1, allow=allow)


async def test_an_allow_beyond_the_cap_is_worth_the_cap(miner: Miner, echo: ProgramId) -> None:
    each = await one_price(await working(miner, echo))
    boss = await working(miner, echo, 2, cap=2 * each)
    await boss.order(*[boss.unit(n, b"same") for n in range(3)], allow=10**20)
    await boss.collect_all(2)
    while boss.last is None or not boss.last.held:
        await boss.collect(1_000)
    assert boss.last.earned == str(2 * each)
    assert await boss.order(boss.unit(9, b"same")) == [(9, "unpaid")]
    # More is put behind the place, and the third comes.
    miner.chain.change_place(2, cap=10**15)
    await boss.collect_all(3)
    assert await boss.order(boss.unit(9, b"same")) == []
    await boss.collect_all(4)


async def test_whoever_does_not_pay_gets_so_much_and_no_more(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    units = [boss.unit(n, b"same") for n in range(200)]
    assert await boss.order(*units) == []
    while boss.last is None or boss.last.held < UNRELEASED_MAX:
        await boss.collect(1_000)
    assert (boss.last.running, boss.last.queued) == (0, 200 - UNRELEASED_MAX)
    assert await boss.order(boss.unit(900, b"same")) == [(900, "unpaid")]
    assert boss.results == {}
    await boss.collect_all(200, allow=boss.allow(ENOUGH))
    assert sorted(result.index for result in boss.results.values()) == list(range(200))


async def test_sealed_units_that_are_never_opened_are_bounded_too(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    await boss.order(*[boss.unit(n, b"x", sealed=True) for n in range(100)], allow=ENOUGH)
    while len(boss.seals) < UNRELEASED_MAX:
        await boss.collect(1_000)
    answer = await boss.collect(100)
    assert (answer.running, answer.queued) == (0, 100 - UNRELEASED_MAX)
    async with asyncio.timeout(30):
        while len(boss.results) < 100:
            await boss.collect(1_000, open=[n for n in boss.seals if n not in boss.results])


async def test_a_job_that_closes_has_what_was_allowed_and_no_more(miner: Miner, echo: ProgramId) -> None:
    each = await one_price(await working(miner, echo))
    boss = await working(miner, echo, 2)
    await boss.order(*[boss.unit(n, b"same") for n in range(10)], allow=3 * each)
    await boss.collect_all(3)
    while boss.last is None or boss.last.held < 7:
        await boss.collect(1_000)
    miner.chain.close(2)
    await miner.settled(lambda: miner.chain.state.places[2, 0].committed == 3 * each)
    # Money that comes now comes too late.
    await boss.collect(0, allow=boss.allow(10 * each))
    answer = await boss.collect(0)
    assert boss.failures == {n: "closing" for n in range(10) if n not in boss.results}
    assert (answer.earned, answer.held) == (str(3 * each), 0)
    assert await boss.order(boss.unit(50, b"same")) == [(50, "closing")]
    miner.chain.mine(10, final=True)
    await miner.settled(lambda: [b.paid for b in miner.chain.state.batches.values() if b.job == 2] == [True])
    assert len(boss.results) == 3


async def test_a_deadline_ends_a_job_even_if_nobody_closes_it(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo, deadline=miner.chain.times[-1] + 50)
    await boss.order(boss.unit(1, b"x"), allow=ENOUGH)
    await boss.collect_all(1)
    miner.chain.mine(60)
    await miner.settled(lambda: miner.chain.calls == ["commit"])
    assert await boss.order(boss.unit(2, b"x")) == [(2, "closing")]


async def test_units_that_run_end_with_their_job(miner: Miner, spin: ProgramId) -> None:
    boss = await working(miner, spin)
    await boss.order(*[boss.unit(n, turns(10**12), limit=5 * 10**12) for n in range(4)], allow=ENOUGH)
    await miner.settled(lambda: miner.pool.stats().running)
    miner.chain.close()
    await miner.settled(lambda: miner.pool.stats().running == 0)
    while len(boss.failures) < 4:
        await boss.collect(1_000)
    assert set(boss.failures.values()) == {"closing"}


async def test_royalties_are_part_of_the_price(miner: Miner, echo: ProgramId) -> None:
    each = await one_price(await working(miner, echo)) // PRICE
    miner.chain.open(2, program=echo, royalty=5)
    boss = Boss(miner, echo, job=2)
    await boss.hello()
    await boss.order(boss.unit(1, b"same"), allow=each * (PRICE + 5) - 1)
    while boss.last is None or not boss.last.held:
        await boss.collect(1_000)
    assert boss.last.needed == str(each * (PRICE + 5))
    await boss.collect_all(1, allow=boss.allow(each * (PRICE + 5)))


async def test_only_drawn_public_jobs_with_replicas_carry_weight(miner: Miner, echo: ProgramId) -> None:
    cases: tuple[tuple[dict[str, Any], bool], ...] = (
        ({}, True),
        ({"directed": True}, False),
        ({"public": False}, False),
        ({"replicas": 1}, False),
        ({"places": 1}, False),
    )
    for number, (changes, weighs) in enumerate(cases, 1):
        miner.chain.open(number, program=echo, **changes)
        boss = Boss(miner, echo, job=number)
        await boss.hello()
        await boss.order(boss.unit(1, b"x"), boss.unit(2, b"x", limit=2 * 10**8), allow=ENOUGH)
        await boss.collect_all(2)
        assert boss.results[1].weight == (boss.results[1].fuel if weighs else 0)
        # A limit above U_MAX carries none anywhere.
        assert boss.results[2].weight == 0
    assert miner.chain.state.jobs[1].state is JobState.ASSIGNED
