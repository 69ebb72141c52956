"""Batches on their way to money: whoever stops, restarts or takes blocks back loses nothing."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from noria.market.contracts import JobState
from noria.market.messages import Approval
from noria.market.miner.admission import Declined
from noria.market.miner.batching import PATIENCE_BLOCKS, WORTH
from noria.market.miner.journal import JournalForeign, open_journal
from noria.market.miner.settling import Settler
from noria.primitives.types import Address, Hash32
from noria.work.batches import verify_draw
from noria.work.ids import ProgramId
from noria.work.workers import WorkerPool
from tests.market.miner.world import MINER, PRICE, ROOT, RULES, STRANGER, Boss, Miner, a_miner, declined

ENOUGH = 10**13


async def done(miner: Miner, program: ProgramId, units: int = 5, number: int = 1) -> Boss:
    """A job with so many results, none of which is offered yet, because gas is dear."""
    if number not in miner.chain.state.jobs:
        miner.chain.gas_price_wei = 10**15
        miner.chain.open(number, program=program)
    boss = Boss(miner, program, job=number)
    await boss.hello()
    await boss.order(*[boss.unit(n, b"%d" % n) for n in range(units)], allow=ENOUGH)
    await boss.collect_all(units)
    return boss


async def offered(boss: Boss) -> None:
    """Have everything offered in one batch."""
    async with asyncio.timeout(20):
        while True:
            answer = await boss.collect(1_000, flush=True)
            if sum(offer.count for offer in answer.offers) == len(boss.results):
                return


def earned(boss: Boss) -> int:
    return sum(int(result.fuel) for result in boss.results.values()) * PRICE


async def all_paid(miner: Miner, boss: Boss) -> None:
    """To the last wei, once, and what weighs is credited and can be shown."""
    chain = miner.chain
    await miner.settled(lambda: chain.state.places[boss.job, boss.k].committed == earned(boss))

    def settled() -> bool:
        mine = [batch for batch in chain.state.batches.values() if batch.job == boss.job]
        return all(batch.paid and (batch.credited or not batch.weight) for batch in mine)

    async with asyncio.timeout(20):
        while not settled():
            chain.mine()
            await asyncio.sleep(0.1)
    mine = [batch for batch in chain.state.batches.values() if batch.job == boss.job]
    assert sum(batch.fuel for batch in mine) * PRICE == earned(boss)
    assert sum(batch.count for batch in mine) == len(boss.results)
    for batch in mine:
        if batch.weight:
            for offset in (0, batch.weight - 1):
                certificate, data = miner.work.certificate(batch.root, offset)
                number = next(
                    n for n, r in boss.results.items() if r.index == certificate.proof.receipt.index
                )
                assert data == b"%d" % number


async def over(miner: Miner) -> None:
    """Wait until everything is final and nothing is left."""
    async with asyncio.timeout(20):
        while miner.service.status().sessions:
            miner.chain.mine(1, final=True)
            await asyncio.sleep(0.1)


async def test_a_batch_is_offered_approved_and_paid_at_once(miner: Miner, echo: ProgramId) -> None:
    boss = await done(miner, echo)
    assert boss.last is not None
    assert boss.last.offers == []
    await offered(boss)
    answer = await boss.collect(0)
    (offer,) = answer.offers
    assert (offer.first_index, offer.count) == (0, 5)
    assert offer.fuel * PRICE == earned(boss)
    miner.chain.gas_price_wei = 0
    await boss.collect(0, approvals=boss.approvals(answer.offers))
    await miner.settled(lambda: miner.chain.calls == ["commit_approved"])
    await miner.settled(lambda: boss.last is not None)
    answer = await boss.collect(0)
    while answer.paid != answer.earned:
        answer = await boss.collect(100)
    assert int(answer.earned) == int(answer.committed) == int(answer.paid) == earned(boss)
    assert answer.offers == []
    await all_paid(miner, boss)
    assert miner.chain.calls == ["commit_approved", "credit"]


async def test_a_false_approval_is_no_approval(miner: Miner, echo: ProgramId) -> None:
    boss = await done(miner, echo)
    await offered(boss)
    answer = await boss.collect(0)
    (right,) = boss.approvals(answer.offers)
    (foreign,) = replace(boss, key=STRANGER).approvals(answer.offers)
    forged = [foreign, Approval(right.root, bytes(65)), Approval(bytes(32), right.signature)]
    await boss.collect(0, approvals=forged)
    assert len((await boss.collect(0)).offers) == 1
    await boss.collect(0, approvals=[right])
    assert (await boss.collect(0)).offers == []


async def test_without_approval_the_allow_pays_later(miner: Miner, echo: ProgramId) -> None:
    boss = await done(miner, echo)
    await offered(boss)
    miner.chain.gas_price_wei = 0
    miner.chain.mine(PATIENCE_BLOCKS)
    await miner.settled(lambda: miner.chain.calls == ["commit"])
    assert [batch.paid for batch in miner.chain.state.batches.values()] == [False]
    await all_paid(miner, boss)
    assert miner.chain.calls == ["commit", "finalize", "credit"]


async def test_gas_is_not_spent_on_what_is_worth_little(miner: Miner, echo: ProgramId) -> None:
    price, chain = 10**10, miner.chain
    chain.gas_price_wei = 10**15
    chain.open(program=echo, price=price, cap=10**24)
    boss = Boss(miner, echo)
    await boss.hello()
    await boss.order(*[boss.unit(n, b"%d" % n) for n in range(5)], allow=10**22)
    await boss.collect_all(5)
    income = sum(result.fuel for result in boss.results.values()) * price * 95 // 100
    # Commit, pay, credit: 240,000 gas.
    chain.gas_price_wei = income // 240_000 // WORTH + 1
    chain.mine(20)
    await asyncio.sleep(0.3)
    assert (await boss.collect(0)).offers == []
    # With some more it is worth it.
    await boss.order(*[boss.unit(n, b"%d" % n) for n in range(5, 8)])
    await boss.collect_all(8)
    chain.mine()
    await miner.settled(lambda: miner.service.status().sessions[0].offers)
    assert chain.calls == []
    chain.mine(PATIENCE_BLOCKS)
    await miner.settled(lambda: chain.calls == ["commit"])
    assert chain.state.places[1, 0].next_index == 8
    session = miner.service.status().sessions[0]
    await miner.settled(lambda: session.record.gas == 100_000 * chain.gas_price_wei)
    ledger = await miner.service.earnings(10)
    assert ledger.totals.earned == sum(result.fuel for result in boss.results.values()) * price


async def test_a_longer_batch_takes_the_place_of_one_that_is_worth_little(
    miner: Miner, echo: ProgramId
) -> None:
    boss = await done(miner, echo, 3)
    await offered(boss)
    first = (await boss.collect(0)).offers
    await boss.collect(0, approvals=boss.approvals(first))
    await boss.order(*[boss.unit(n, b"%d" % n) for n in range(3, 6)])
    await boss.collect_all(6)
    await offered(boss)
    (second,) = (await boss.collect(0)).offers
    assert (second.first_index, second.count) == (0, 6)
    miner.chain.close()
    await all_paid(miner, boss)
    assert len(miner.chain.state.batches) == 1


async def test_a_job_that_closes_has_everything_committed_whatever_gas_costs(
    miner: Miner, echo: ProgramId
) -> None:
    boss = await done(miner, echo)
    miner.chain.close()
    await all_paid(miner, boss)
    assert miner.chain.calls == ["commit", "finalize", "credit"]
    miner.chain.change_job(state=JobState.ENDED)
    await over(miner)
    assert await declined(boss.hello()) == "closed"
    (place,) = (await miner.service.earnings(10)).places
    assert (place.state, place.earned, place.paid) == ("ended", earned(boss), earned(boss))
    assert place.credited == place.weight > 0
    assert await miner.journal.receipts(1, 0, 100) == []
    assert (await miner.service.earnings(10)).totals.paid == earned(boss)


async def test_a_job_that_is_over_before_its_miner_is_back(miner: Miner, echo: ProgramId) -> None:
    boss = await done(miner, echo)
    miner.chain.close()
    miner.chain.state.jobs[1] = replace(miner.chain.state.jobs[1], state=JobState.ENDED, closing_block=1)
    await over(miner)
    (place,) = (await miner.service.earnings(10)).places
    assert (place.state, place.paid) == ("ended", 0)
    assert place.earned == earned(boss)


# ---------------------------------------------------------------- restarts


STEPS = ("ordered", "released", "taken", "offered", "approved", "sent", "committed", "paid", "credited")


@pytest.mark.parametrize("step", STEPS)
async def test_a_restart_after_any_step_loses_nothing_that_was_released(
    miner: Miner, echo: ProgramId, step: str
) -> None:
    chain = miner.chain
    chain.gas_price_wei = 10**15
    chain.open(program=echo)
    boss = Boss(miner, echo)
    await boss.hello()
    units = [boss.unit(n, b"%d" % n) for n in range(4)]
    await boss.order(*units, allow=ENOUGH)
    if step == "ordered":
        await miner.restart()
        await boss.hello()
        await boss.order(*units)
    while len(boss.results) < 4:
        await boss.collect(1_000, take=False)
    if step == "released":
        before = dict(boss.results)
        await miner.restart()
        assert sorted((await boss.hello()).known) == [0, 1, 2, 3]
        boss.results.clear()
        await boss.collect_all(4)
        # The very same receipts: nothing has run or was numbered twice.
        assert boss.results == before
    await boss.collect(0)
    if step == "taken":
        await miner.restart()
        welcome = await boss.hello()
        assert (welcome.known, welcome.next_index) == ([], 4)
        assert int(welcome.earned) == earned(boss)
    await offered(boss)
    if step == "offered":
        await miner.restart()
        await boss.hello()
        await offered(boss)
    answer = await boss.collect(0)
    assert sum(offer.count for offer in answer.offers) == 4
    await boss.collect(0, approvals=boss.approvals(answer.offers))
    if step == "approved":
        await miner.restart()
        await boss.hello()
        assert (await boss.collect(0)).offers == []
    chain.swallow = step == "sent"
    chain.gas_price_wei = 0
    chain.mine()
    if step == "sent":
        await asyncio.sleep(0.3)
        assert chain.calls == []
        await miner.restart()
        chain.swallow = False
        chain.mine()
    await miner.settled(lambda: chain.calls == ["commit_approved"])
    if step in ("committed", "paid"):
        await miner.restart()
    chain.mine(RULES.challenge_blocks)
    await miner.settled(lambda: chain.calls == ["commit_approved", "credit"])
    if step == "credited":
        await miner.restart()
    await all_paid(miner, boss)
    assert chain.calls == ["commit_approved", "credit"]
    # And numbers and indices go on.
    await boss.hello()
    await boss.order(boss.unit(9, b"9"), allow=ENOUGH)
    await boss.collect_all(5)
    assert boss.results[9].index == 4
    chain.close()
    await all_paid(miner, boss)


async def test_a_journal_that_cannot_be_written_releases_nothing(miner: Miner, echo: ProgramId) -> None:
    miner.chain.open(program=echo)
    boss = Boss(miner, echo)
    await boss.hello()
    assert miner.journal._write_to is not None
    miner.journal._write_to.execute("DROP TABLE receipt")
    await boss.order(boss.unit(1, b"x"), allow=ENOUGH)
    await miner.settled(lambda: miner.service.status().problem)
    with pytest.raises(Declined, match=r"^busy: .*journal"):
        await boss.collect(0)
    assert boss.results == {}


async def test_a_place_that_cannot_be_settled_stops_and_goes_on_when_it_can(
    miner: Miner, echo: ProgramId, monkeypatch: pytest.MonkeyPatch
) -> None:
    boss = await done(miner, echo, units=1)
    (session,) = miner.service.status().sessions

    async def broken(settler: Settler) -> bool:
        raise RuntimeError("nobody has thought of this")

    with monkeypatch.context() as patch:
        patch.setattr(Settler, "_act", broken)
        miner.chain.mine()
        await miner.settled(lambda: session.problem)
        assert await boss.order(boss.unit(7, b"x")) == [(7, "full")]
        # What it has is told all the same.
        assert (await boss.collect(0)).results == []
    miner.chain.mine()
    await miner.settled(lambda: not session.problem)
    assert await boss.order(boss.unit(7, b"7")) == []
    await boss.collect_all(2)
    miner.chain.close()
    await all_paid(miner, boss)


async def test_another_miners_journal_is_refused(tmp_path: Path) -> None:
    journal = await open_journal(tmp_path / "journal.sqlite", ROOT, MINER.address)
    await journal.close()
    for root, miner in ((ROOT, Address(bytes(20))), (Hash32(bytes(32)), MINER.address)):
        with pytest.raises(JournalForeign, match="use another folder"):
            await open_journal(tmp_path / "journal.sqlite", root, miner)


# ---------------------------------------------------------------- reorganisations


async def test_commits_that_are_taken_back_are_made_again(miner: Miner, echo: ProgramId) -> None:
    boss = await done(miner, echo)
    await offered(boss)
    answer = await boss.collect(0)
    miner.chain.gas_price_wei = 0
    await boss.collect(0, approvals=boss.approvals(answer.offers))
    await miner.settled(lambda: miner.chain.calls == ["commit_approved"])
    miner.chain.revert(1)
    await miner.settled(lambda: miner.chain.calls == ["commit_approved"] * 2)
    miner.chain.mine(RULES.challenge_blocks)
    await miner.settled(lambda: miner.service.status().sessions[0].credited)
    miner.chain.revert(1)
    await miner.settled(lambda: miner.chain.calls[2:] == ["credit"] * 2)
    # Everything, from the commit on.
    miner.chain.revert(len(miner.chain.blocks) - 2)
    await all_paid(miner, boss)
    assert miner.chain.calls[4:] == ["commit_approved", "credit"]


async def test_a_job_that_the_chain_takes_back_and_gives_again(miner: Miner, echo: ProgramId) -> None:
    boss = await done(miner, echo)
    await boss.order(boss.unit(50, b"50", sealed=True))
    while not boss.seals:
        await boss.collect(1_000)
    chain = miner.chain
    state = chain.state
    job, place = state.jobs.pop(1), state.places.pop((1, 0))
    chain.mine()
    await miner.settled(lambda: not miner.service.status().sessions[0].is_here)
    assert await declined(boss.collect(0)) == "unknown-job"
    assert await declined(boss.hello()) == "unknown-job"
    chain.state.jobs[1], chain.state.places[1, 0] = job, place
    chain.mine()
    await boss.hello()
    answer = await boss.collect(0)
    assert int(answer.earned) == earned(boss)
    assert boss.failures == {50: "cancelled"}
    chain.close()
    await all_paid(miner, boss)


async def test_another_job_under_the_same_number_is_another_job(miner: Miner, echo: ProgramId) -> None:
    boss = await done(miner, echo)
    chain = miner.chain
    old_job, old_place = chain.state.jobs[1], chain.state.places[1, 0]
    chain.open(program=echo, price=PRICE + 1)
    other = Boss(miner, echo, price=PRICE + 1)
    welcome = await other.hello()
    assert (welcome.next_index, welcome.earned, welcome.known) == (0, "0", [])
    await other.order(other.unit(0, b"0"), allow=ENOUGH)
    await other.collect_all(1)
    # The first one comes back, and is the first one again.
    chain.state.jobs[1], chain.state.places[1, 0] = old_job, old_place
    chain.mine()
    await miner.settled(lambda: [s.is_here for s in miner.service.status().sessions] == [True, False])
    welcome = await boss.hello()
    assert welcome.next_index == 5
    assert int(welcome.earned) == earned(boss)
    chain.close()
    await all_paid(miner, boss)
    # What was done on the other branch is given up once that is final.
    async with asyncio.timeout(20):
        while len(miner.service.status().sessions) == 2:
            chain.mine(1, final=True)
            await asyncio.sleep(0.1)
    states = {place.price: place.state for place in (await miner.service.earnings(9)).places}
    assert states[PRICE + 1] == "gone"


async def test_a_place_that_comes_back_is_taken_care_of_once(miner: Miner, echo: ProgramId) -> None:
    boss = await done(miner, echo)
    await boss.order(boss.unit(50, b"50", sealed=True))
    while not boss.seals:
        await boss.collect(1_000)
    chain, places = miner.chain, miner.service._places
    mine, place = places.at(1, 0), chain.state.places[1, 0]
    # Another branch and back, before anybody has looked.
    chain.state.places[1, 0] = replace(place, price=PRICE + 1)
    await Boss(miner, echo, price=PRICE + 1).hello()
    assert places.at(1, 0) is not mine
    chain.state.places[1, 0] = place
    welcome = await boss.hello()
    assert places.at(1, 0) is mine
    assert len(miner.service.status().sessions) == 2
    assert int(welcome.earned) == earned(boss)
    # What was under way is told of, whatever has become of it.
    async with asyncio.timeout(20):
        while 50 not in boss.results and 50 not in boss.failures:
            await boss.collect(1_000, open=[50])
    chain.close()
    await all_paid(miner, boss)


async def test_after_a_restart_each_job_of_a_number_is_taken_care_of_once(
    miner: Miner, echo: ProgramId
) -> None:
    boss = await done(miner, echo, 2)
    chain = miner.chain
    job, place = chain.state.jobs[1], chain.state.places[1, 0]
    chain.open(program=echo, price=PRICE + 1)
    other = Boss(miner, echo, price=PRICE + 1)
    await other.hello()
    await other.order(*[other.unit(number, b"%d" % number) for number in range(9)], allow=ENOUGH)
    await other.collect_all(9)
    chain.state.jobs[1], chain.state.places[1, 0] = job, place
    chain.mine()
    await miner.restart()
    places = miner.service._places
    before = set(places)
    assert len(before) == 2
    last = places.at(1, 0)
    assert last is not None
    assert last.session.record.price == PRICE + 1
    await boss.hello()
    assert set(places) == before
    assert places.at(1, 0) is not last
    chain.close()
    await all_paid(miner, boss)


async def test_a_place_is_not_taken_on_again_before_everything_of_it_is_let_go(
    miner: Miner, echo: ProgramId, monkeypatch: pytest.MonkeyPatch
) -> None:
    boss = await done(miner, echo)
    chain, release = miner.chain, miner.deliveries.release
    entered, go_on = threading.Event(), threading.Event()

    def slow(place: int) -> None:
        entered.set()
        assert go_on.wait(20)
        release(place)

    monkeypatch.setattr(miner.deliveries, "release", slow)
    job, place = chain.state.jobs.pop(1), chain.state.places.pop((1, 0))
    try:
        while not entered.is_set():
            chain.mine(1, final=True)
            await asyncio.sleep(0.05)
        chain.state.jobs[1], chain.state.places[1, 0] = job, place
        assert await declined(boss.hello()) == "closed"
    finally:
        go_on.set()
    await miner.settled(lambda: not miner.service.status().sessions)
    welcome = await boss.hello()
    assert welcome.known == []


async def test_a_chain_that_is_behind_takes_nothing_apart(miner: Miner, echo: ProgramId) -> None:
    """A node whose store was lost catches up from genesis, while its miner knows what is final."""
    boss = await done(miner, echo, 3)
    await offered(boss)
    miner.chain.gas_price_wei = 0
    await boss.collect(0, approvals=boss.approvals((await boss.collect(0)).offers))
    await miner.settled(lambda: miner.chain.calls == ["commit_approved"])
    miner.chain.mine(RULES.challenge_blocks)
    await miner.settled(lambda: miner.chain.calls[-1] == "credit")
    async with asyncio.timeout(20):
        while miner.service.status().sessions[0].record.paid != earned(boss):
            miner.chain.mine(1, final=True)
            await asyncio.sleep(0.1)
    miner.chain.gas_price_wei = 10**15
    await boss.order(*[boss.unit(n, b"%d" % n) for n in range(3, 6)])
    await boss.collect_all(6)
    await offered_rest(boss, 3)
    before = miner.chain.state
    miner.chain.state.batches, kept = {}, before.batches
    place = before.places[1, 0]
    miner.chain.change_place(committed=0, next_index=0)
    await asyncio.sleep(0.3)
    await miner.restart()
    miner.chain.mine(3)
    await asyncio.sleep(0.3)
    assert miner.chain.calls == ["commit_approved", "credit"]
    miner.chain.state.batches = kept
    miner.chain.state.places[1, 0] = place
    miner.chain.close()
    await all_paid(miner, boss)


async def offered_rest(boss: Boss, count: int) -> None:
    async with asyncio.timeout(20):
        while sum(offer.count for offer in (await boss.collect(500, flush=True)).offers) != count:
            pass


async def test_batches_that_nobody_can_ask_for_are_forgotten(
    tmp_path: Path, pool: WorkerPool, pinned: dict[ProgramId, Path], echo: ProgramId
) -> None:
    counting: set[Hash32] = set()
    async with a_miner(tmp_path, pool, pinned, counting=lambda: counting) as miner:
        boss = await done(miner, echo)
        miner.chain.close()
        await all_paid(miner, boss)
        (root,) = miner.work.roots()
        certificate, _ = miner.work.certificate(root, 0)
        batch, _records = await miner.service._places._keeper.build(
            miner.service.status().sessions[0].record, 0, 5
        )
        verify_draw(batch.commitment, certificate.proof, 0)
        # It is in the journal, then in the window, then in neither.
        await miner.service._forget_old()
        assert miner.work.roots() == [root]
        counting.add(root)
        miner.chain.change_job(state=JobState.ENDED)
        await over(miner)
        await miner.service._forget_old()
        assert miner.work.roots() == [root]
        counting.clear()
        await miner.service._forget_old()
        assert miner.work.roots() == []
