"""A requester's job over miners that are honest, broken or liars."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from noria.market.access import ChainAccessError
from noria.market.contracts import Job, JobState
from noria.market.messages import BatchOffer, Result
from noria.market.requester.errors import (
    BudgetSpent,
    JobClosed,
    JobNotOpened,
    NoAgreement,
    NoMachine,
    NoMiners,
    NotFunded,
)
from noria.market.requester.evidence import Settled
from noria.market.requester.journal import JobJournal
from noria.market.requester.money import START_UNITS
from noria.market.requester.reasons import explain
from noria.primitives.hashes import blake3
from noria.primitives.types import NOR, Wei
from noria.work.workers import Outcome
from tests.market.requester.fakes import (
    DOMAIN,
    PRICE,
    FakeMiner,
    TruthfulRuns,
    Wanted,
    Ways,
    key_of,
    truth,
)
from tests.market.requester.jobs import RunningJob, running_job


def inputs(count: int, prefix: str = "unit") -> list[bytes]:
    return [f"{prefix} {number}".encode() for number in range(count)]


def right(wanted: list[Wanted]) -> None:
    """Each unit was told once, and what was told is true."""
    for each in wanted:
        assert each.told == each.started == 1
        settled: Settled = each.future.result()
        assert (settled.status, settled.output, settled.fuel) == (
            each.expected.status,
            each.expected.output,
            each.expected.fuel,
        )


async def banned(job: RunningJob, k: int) -> str:
    place = job.runner.places[k]
    assert place.state == "banned"
    return place.reason


async def test_units_go_to_as_many_miners_as_there_are_replicas() -> None:
    async with running_job([FakeMiner(number) for number in range(3)]) as job:
        wanted = job.order(*inputs(60))
        await job.results(wanted)
        right(wanted)
        for each in wanted:
            replicas = each.future.result().replicas
            assert len(replicas) == 2
            assert len({signed.receipt.miner for signed in replicas}) == 2
            assert all(signed.seal is not None for signed in replicas)
        job.check_money()
        assert all(place.ledger.units > 0 for place in job.runner.places)
        assert not any(place.ledger.is_banned for place in job.runner.places)


async def test_one_replica_needs_no_seal() -> None:
    async with running_job([FakeMiner(0)], replicas=1) as job:
        wanted = job.order(*inputs(20))
        await job.results(wanted)
        right(wanted)
        assert wanted[0].future.result().replicas[0].seal is None
        job.check_money()


async def test_a_shared_part_travels_once_to_each_miner() -> None:
    miners = [FakeMiner(0), FakeMiner(1)]
    async with running_job(miners) as job:
        wanted = job.order(*inputs(30), shared=b"function" * 1000)
        await job.results(wanted)
        right(wanted)
        for miner in miners:
            [place] = miner.places.values()
            assert len(place.blobs) == 1


async def test_long_inputs_and_outputs_go_piece_by_piece() -> None:
    async with running_job([FakeMiner(0), FakeMiner(1)]) as job:
        wanted = job.order(b"long" + bytes(3 << 20), b"long output")
        await job.results(wanted)
        right(wanted)


# ---------------------------------------------------------------- liars


def flip_a_bit(outcome: Outcome, data: bytes) -> Outcome:
    output = bytes([outcome.output[0] ^ 1]) + outcome.output[1:]
    return replace(outcome, output=output)


def inflate(outcome: Outcome, data: bytes) -> Outcome:
    return replace(outcome, fuel=outcome.fuel + 1)


def collude(outcome: Outcome, data: bytes) -> Outcome:
    return replace(outcome, output=blake3(b"a plausible lie" + data))


@pytest.mark.parametrize("lie", [flip_a_bit, inflate, collude])
async def test_who_lies_is_found_out_by_an_own_run_and_banned(lie: object) -> None:
    runs = TruthfulRuns()
    miners = [FakeMiner(0), FakeMiner(1, Ways(lie=lie)), FakeMiner(2)]  # type: ignore[arg-type]
    async with running_job(miners, own_runs=runs) as job:
        wanted = job.order(*inputs(40))
        await job.results(wanted)
        right(wanted)
        assert "is wrong" in await banned(job, 1)
        assert runs.runs >= 1
        assert all(
            key_of(1).address != signed.receipt.miner for w in wanted for signed in w.future.result().replicas
        )
        job.check_money()


async def test_without_own_runs_a_third_miner_decides() -> None:
    miners = [FakeMiner(0), FakeMiner(1, Ways(lie=flip_a_bit)), FakeMiner(2)]
    async with running_job(miners) as job:
        wanted = job.order(*inputs(20))
        await job.results(wanted)
        right(wanted)
        assert "another output" in await banned(job, 1)


async def test_two_miners_that_disagree_and_nobody_else() -> None:
    async with running_job([FakeMiner(0), FakeMiner(1, Ways(lie=flip_a_bit))]) as job:
        [wanted] = job.order(b"a unit")
        await job.results([wanted])
        with pytest.raises(NoAgreement, match="gave different results"):
            wanted.future.result()
        assert wanted.told == 1


async def test_colluding_liars_are_caught_by_the_sample() -> None:
    runs = TruthfulRuns()
    miners = [FakeMiner(number, Ways(lie=collude)) for number in range(2)]
    honest = [FakeMiner(number) for number in range(2, 4)]
    async with running_job(miners, sample=1.0, own_runs=runs, spare=honest) as job:
        wanted = job.order(*inputs(10))
        await job.results(wanted)
        right(wanted)
        assert {job.runner.places[k].state for k in (0, 1)} == {"banned"}
        assert job.chain.calls.count("extend") >= 1


@pytest.mark.parametrize(
    ("ways", "why"),
    [
        (Ways(signs_with=key_of(55)), "not signed by the miner"),
        (Ways(change_result=lambda r: _with(r, index=r.index + 5_000), resigns=True), "has index"),
        (Ways(change_result=lambda r: _with(r, index=0), resigns=True), "index 0 for two receipts"),
        (Ways(change_result=lambda r: _with(r, weight=r.fuel - 1)), "none"),
        (
            Ways(change_result=lambda r: _with(r, output=b"other", output_bytes=5)),
            "not what its receipt names",
        ),
        (Ways(change_result=lambda r: _with(r, nonce=bytes(32))), "not the one that was sealed"),
        (Ways(change_result=lambda r: _with(r, fuel=2**40, weight=0)), "above the unit's limit"),
        (Ways(change_result=lambda r: _with(r, number=r.number + 10**6)), "never ordered"),
        (Ways(shows_unasked=True), "before it was asked for"),
    ],
)
async def test_what_cannot_be_true_is_seen_at_once(ways: Ways, why: str) -> None:
    miners = [FakeMiner(0, ways), FakeMiner(1), FakeMiner(2)]
    async with running_job(miners, own_runs=TruthfulRuns()) as job:
        wanted = job.order(*inputs(20))
        await job.results(wanted)
        right(wanted)
        assert why in await banned(job, 0)
        job.check_money()


def _with(result: Result, **changes: object) -> Result:
    import msgspec

    return msgspec.structs.replace(result, **changes)


# ---------------------------------------------------------------- batches


async def test_batches_are_approved_once_their_receipts_are_right() -> None:
    miners = [FakeMiner(0), FakeMiner(1)]
    async with running_job(miners) as job:
        wanted = job.order(*inputs(32))
        await job.results(wanted)
        closing = asyncio.ensure_future(job.runner.close())
        async with asyncio.timeout(10):
            await closing
        for miner in miners:
            [place] = miner.places.values()
            assert not place.offers
            assert not place.unbatched
            assert len(place.approved) >= 4
        signed = wanted[0].future.result().replicas[0]
        proven = signed.find_proof()
        assert proven is not None
        assert proven.proof.receipt == signed.receipt


def other_root(offer: BatchOffer) -> BatchOffer:
    import msgspec

    return msgspec.structs.replace(offer, root=bytes(32))


def more_fuel(offer: BatchOffer) -> BatchOffer:
    import msgspec

    return msgspec.structs.replace(offer, fuel=offer.fuel + 1, weight=offer.weight + 1)


@pytest.mark.parametrize("change", [other_root, more_fuel])
async def test_a_batch_of_something_else_is_not_approved(change: object) -> None:
    miners = [FakeMiner(0, Ways(change_offer=change)), FakeMiner(1), FakeMiner(2)]  # type: ignore[arg-type]
    async with running_job(miners) as job:
        wanted = job.order(*inputs(60))
        await job.results(wanted)
        right(wanted)
        async with asyncio.timeout(10):
            while job.runner.places[0].state != "banned":
                await asyncio.sleep(0.01)
        assert "another root or with other sums" in job.runner.places[0].reason
        [place] = miners[0].places.values()
        assert not place.approved


# ---------------------------------------------------------------- machines


async def test_a_miner_that_dies_is_replaced_by_others() -> None:
    miners = [FakeMiner(0, Ways(dies_after=5)), FakeMiner(1), FakeMiner(2)]
    async with running_job(miners) as job:
        wanted = job.order(*inputs(40))
        await job.results(wanted)
        right(wanted)
        job.check_money()


async def test_a_miner_that_comes_back_goes_on() -> None:
    miners = [FakeMiner(0, Ways(dies_after=5)), FakeMiner(1)]
    async with running_job(miners) as job:
        wanted = job.order(*inputs(40))
        while miners[0].is_up:
            await asyncio.sleep(0.01)
        miners[0].ways.dies_after = None
        miners[0].forget()
        miners[0].is_up = True
        await job.results(wanted)
        right(wanted)


async def test_a_miner_that_never_answers_hinders_nobody() -> None:
    miners = [FakeMiner(0, Ways(answers=False)), FakeMiner(1), FakeMiner(2)]
    async with running_job(miners) as job:
        wanted = job.order(*inputs(20))
        await job.results(wanted)
        right(wanted)


async def test_a_miner_that_stood_still_goes_on_over_the_same_line() -> None:
    miners = [FakeMiner(0), FakeMiner(1)]
    async with running_job(miners) as job:
        await job.results(job.order(*inputs(4)))
        miners[1].ways.answers = False
        async with asyncio.timeout(20):
            while job.runner.places[1].state == "ready":
                await asyncio.sleep(0.01)
        miners[1].ways.answers = True
        wanted = job.order(*inputs(10, "later"))
        await job.results(wanted)
        right(wanted)
        job.check_money()


async def test_a_slow_copy_is_run_elsewhere_near_the_end() -> None:
    miners = [FakeMiner(0), FakeMiner(1), FakeMiner(2)]
    async with running_job(miners) as job:
        await job.results(job.order(*inputs(10)))
        miners[0].ways.delay_seconds = 3_600.0
        wanted = job.order(*inputs(6, "late"))
        await job.results(wanted)
        right(wanted)
        assert job.runner.dispatcher.counts.replaced >= 1


async def test_a_machine_s_failure_is_no_result() -> None:
    miners = [FakeMiner(0, Ways(fails_machine=True)), FakeMiner(1), FakeMiner(2)]
    async with running_job(miners) as job:
        wanted = job.order(*inputs(10))
        await job.results(wanted)
        right(wanted)
        assert not job.runner.places[0].ledger.is_banned


async def test_a_unit_that_no_machine_can_run_is_given_up() -> None:
    miners = [FakeMiner(number, Ways(fails_machine=True)) for number in range(3)]
    async with running_job(miners) as job:
        [wanted] = job.order(b"too much")
        await job.results([wanted])
        with pytest.raises(NoMachine, match="no memory"):
            wanted.future.result()
        assert wanted.told == 1


# ---------------------------------------------------------------- money


async def test_the_budget_ends_by_name_and_more_can_be_added() -> None:
    # A unit costs about 10^12 wei at each miner.
    budget = 20 * 10**12
    async with running_job([FakeMiner(0), FakeMiner(1)], budget=budget) as job:
        wanted = job.order(*inputs(30))
        await job.results(wanted)
        done = [each for each in wanted if each.future.exception() is None]
        spent = [each for each in wanted if isinstance(each.future.exception(), BudgetSpent)]
        assert len(done) + len(spent) == 30
        assert 5 <= len(done) <= 10
        assert "executor.top_up" in str(spent[0].future.exception())
        job.check_money()
        assert job.runner.purse.spent <= budget
        await job.runner.top_up(100 * 10**12)
        more = job.order(*inputs(30, "more"))
        await job.results(more)
        right(more)
        job.check_money()


async def test_caps_are_raised_from_what_is_free() -> None:
    async with running_job([FakeMiner(0), FakeMiner(1)], budget=100 * 10**12) as job:
        wanted = job.order(*inputs(40))
        await job.results(wanted)
        right(wanted)
        assert "raise_cap" in job.chain.calls
        job.check_money()


async def test_too_little_money() -> None:
    async with running_job([FakeMiner(0)], replicas=1, budget=1000 * NOR) as job:
        [wanted] = job.order(b"unit")
        await job.results([wanted])
        with pytest.raises(NotFunded):
            wanted.future.result()
        assert job.runner.view().state == "failed"


async def test_miners_that_release_in_different_orders_do_not_wait_for_each_other() -> None:
    # Each unit costs what it costs at most: nothing is allowed ahead of a few units.
    data = inputs(10)
    limit = truth(data[0], 10**9).fuel
    for count, replicas in ((2, 2), (3, 3)):
        ways = [Ways(workers=20, last_first=bool(number % 2)) for number in range(count)]
        miners = [FakeMiner(number, way) for number, way in enumerate(ways)]
        for way in ways:
            way.delay_seconds = 0.05
        async with running_job(miners, replicas=replicas) as job:
            wanted = job.order(
                *[b"%02d" % number + data[0] for number in range(40)], fuel_limit=limit + 2_000
            )
            await job.results(wanted)
            right(wanted)
            job.check_money()


class GatedRuns(TruthfulRuns):
    """Own runs that take until they are let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def run(self, input: bytes, fuel_limit: int) -> Outcome:
        await self.gate.wait()
        return await super().run(input, fuel_limit)


async def test_a_miner_that_claims_each_unit_s_limit_gets_a_few_units_price() -> None:
    limit = 100_000_000
    most = limit * PRICE
    runs = GatedRuns()
    liar = FakeMiner(0, Ways(workers=20, lie=lambda outcome, _: replace(outcome, fuel=limit)))
    slow = FakeMiner(1, Ways(workers=20, releases=False))
    async with running_job([liar, slow], own_runs=runs, spare=[FakeMiner(2)]) as job:
        wanted = job.order(*inputs(60))
        async with asyncio.timeout(10):
            while len(job.runner.places) < 2:
                await asyncio.sleep(0.01)
            ledger = job.runner.places[0].ledger
            while ledger.received < (START_UNITS + 1) * most:
                await asyncio.sleep(0.01)
            [place] = liar.places.values()
            asked = place.collects
            while place.collects < asked + 5:
                await asyncio.sleep(0.01)
        assert ledger.received == ledger.allowed == (START_UNITS + 1) * most

        # The other one speaks: this machine finds out which is right, and neither gets anything meanwhile.
        slow.ways.releases = True
        async with asyncio.timeout(10):
            while not all(place.is_in_question for place in job.runner.places):
                await asyncio.sleep(0.01)
        calls = list(job.chain.calls)
        allowed = [place.ledger.allowed for place in job.runner.places]
        later = job.order(*inputs(20, "later"))
        waiting = job.runner.dispatcher.waiting
        assert waiting >= len(later)
        asked = place.collects
        async with asyncio.timeout(10):
            while place.collects < asked + 5:
                await asyncio.sleep(0.01)
        assert [place.ledger.allowed for place in job.runner.places] == allowed
        assert (job.chain.calls, job.runner.dispatcher.waiting) == (calls, waiting)

        runs.gate.set()
        await job.results([*wanted, *later])
        right([*wanted, *later])
        await banned(job, 0)
        assert ledger.received == (START_UNITS + 1) * most
        job.check_money()


# ---------------------------------------------------------------- ends


async def test_stopped_units_are_taken_back_and_end_once() -> None:
    miners = [FakeMiner(0, Ways(delay_seconds=3_600)), FakeMiner(1, Ways(delay_seconds=3_600))]
    async with running_job(miners) as job:
        wanted = job.order(*inputs(20))
        async with asyncio.timeout(10):
            while not all(miner.places and len(next(iter(miner.places.values())).units) for miner in miners):
                await asyncio.sleep(0.01)
        for each in wanted:
            job.runner.stop(each.unit)
        assert all(each.told == 1 for each in wanted)
        async with asyncio.timeout(10):
            while any(place.units for miner in miners for place in miner.places.values()):
                await asyncio.sleep(0.01)


async def test_a_closed_job_takes_no_units() -> None:
    async with running_job([FakeMiner(0), FakeMiner(1)]) as job:
        await job.results(job.order(b"one"))
        await job.runner.close()
        assert "close" in job.chain.calls
        [late] = job.order(b"two")
        with pytest.raises(JobClosed):
            late.future.result()


async def test_a_job_that_somebody_closes_ends_by_name() -> None:
    miners = [FakeMiner(0, Ways(delay_seconds=3_600)), FakeMiner(1)]
    async with running_job(miners) as job:
        wanted = job.order(*inputs(3))
        async with asyncio.timeout(10):
            while job.runner.state != "running":
                await asyncio.sleep(0.01)
        await job.chain.close(7)
        await job.results(wanted)
        with pytest.raises(JobClosed, match="is over"):
            wanted[0].future.result()


async def test_units_wait_until_the_miners_are_drawn() -> None:
    async with running_job([FakeMiner(0), FakeMiner(1)]) as job:
        wanted = job.order(*inputs(3))
        assert job.runner.dispatcher.waiting == 3
        await job.results(wanted)
        assert job.chain.calls[:2] == ["open", "assign"]


# ---------------------------------------------------------------- openings that no block has


async def test_an_opening_that_is_overdue_is_left_to_whoever_comes_next(tmp_path: Path) -> None:
    journal = JobJournal(tmp_path / "jobs.sqlite")
    async with running_job([FakeMiner(0), FakeMiner(1)], journal=journal) as job:
        job.chain.takes_openings, job.chain.overdue_seconds = False, 0.01
        [wanted] = job.order(b"unit")
        await job.results([wanted])
        with pytest.raises(JobNotOpened, match="may still come"):
            wanted.future.result()
        # The program goes on, and so may others: none of them waits for ever.
        [late] = job.order(b"late")
        await job.results([late])
        with pytest.raises(JobClosed):
            late.future.result()
    [left] = journal.leftovers(DOMAIN.genesis_root)
    assert (left.number, left.state, left.opening_nonce, left.opening_block) == (None, "opening", 3, 10)


async def test_a_job_that_is_given_up_while_it_is_opened_is_left_to_whoever_comes_next(
    tmp_path: Path,
) -> None:
    journal = JobJournal(tmp_path / "jobs.sqlite")
    async with running_job([FakeMiner(0), FakeMiner(1)], journal=journal) as job:
        job.chain.takes_openings = False
        job.order(b"unit")
        async with asyncio.timeout(10):
            while "open" not in job.chain.calls:
                await asyncio.sleep(0.01)
        # As a session's loop does when the user will not wait: what runs is cancelled.
        job.task.cancel()
        await asyncio.wait([job.task])
        assert job.runner.view().state == "opening"
    [left] = journal.leftovers(DOMAIN.genesis_root)
    assert (left.number, left.state) == (None, "opening")


async def test_a_job_whose_opening_was_never_sent_leaves_nothing(tmp_path: Path) -> None:
    journal = JobJournal(tmp_path / "jobs.sqlite")
    async with running_job([FakeMiner(0)], replicas=1, budget=1000 * NOR, journal=journal) as job:
        await job.results(job.order(b"unit"))
    assert journal.jobs()[0].state == "failed"
    assert journal.leftovers(DOMAIN.genesis_root) == []


async def test_a_job_that_could_not_be_ended_is_left_though_its_program_goes_on(tmp_path: Path) -> None:
    journal = JobJournal(tmp_path / "jobs.sqlite")
    async with running_job([FakeMiner(0), FakeMiner(1)], journal=journal) as job:
        await job.results(job.order(b"unit"))
        job.chain.refuses.add("close")
        await job.runner.close()
        [left] = journal.leftovers(DOMAIN.genesis_root)
        assert (left.number, left.state, left.is_alive) == (7, "closing", False)


# ---------------------------------------------------------------- the chain


async def test_a_reorganisation_gives_the_job_another_number() -> None:
    miners = [FakeMiner(0), FakeMiner(1)]
    async with running_job(miners) as job:
        await job.results(job.order(*inputs(10)))
        chain = job.chain
        chain.stored = replace(chain.job_now, number=9)
        chain.rows = [replace(row, job=9) for row in chain.rows]
        async with asyncio.timeout(10):
            while job.runner.number != 9 or len(job.runner.places) != 2:
                await asyncio.sleep(0.01)
        wanted = job.order(*inputs(10, "later"))
        await job.results(wanted)
        right(wanted)
        assert {signed.receipt.job for signed in wanted[0].future.result().replicas} == {9}
        job.check_money()


async def test_a_node_that_is_away_for_a_while_hinders_no_result() -> None:
    async with running_job([FakeMiner(0), FakeMiner(1)]) as job:
        await job.results(job.order(b"first"))
        ask = job.chain.job

        async def away(number: int) -> Job | None:
            raise ChainAccessError("connection refused")

        job.chain.job = away  # type: ignore[method-assign]
        async with asyncio.timeout(10):
            while "cannot be asked" not in job.runner.problem:
                await asyncio.sleep(0.01)
        assert "connection refused" in str(explain(job.runner.view()))
        wanted = job.order(*inputs(10, "meanwhile"))
        await job.results(wanted)
        right(wanted)
        job.chain.job = ask  # type: ignore[method-assign]
        async with asyncio.timeout(10):
            while job.runner.problem:
                await asyncio.sleep(0.01)


async def test_nobody_can_be_drawn() -> None:
    async with running_job([FakeMiner(0)], replicas=1) as job:
        job.chain.refuses.add("assign")
        [wanted] = job.order(b"unit")
        async with asyncio.timeout(10):
            while "could not be drawn" not in job.runner.problem:
                await asyncio.sleep(0.01)
        assert "no-miner" in [reason.name for reason in explain(job.runner.view()).reasons]
        await job.results([wanted])
        with pytest.raises(NoMiners, match="raise max_price"):
            wanted.future.result()


async def test_a_job_that_is_cancelled_from_elsewhere(tmp_path: Path) -> None:
    journal = JobJournal(tmp_path / "jobs.sqlite")
    miners = [FakeMiner(0, Ways(delay_seconds=3_600)), FakeMiner(1)]
    async with running_job(miners, journal=journal) as job:
        [wanted] = job.order(b"unit")
        async with asyncio.timeout(10):
            while job.runner.state != "running":
                await asyncio.sleep(0.01)
        [stored] = journal.jobs()
        journal.ask_close(stored.id)
        await job.results([wanted])
        with pytest.raises(JobClosed, match="noria job cancel"):
            wanted.future.result()
        await job.runner.close()
        assert "close" in job.chain.calls
    assert journal.jobs()[0].state == "closing"


async def test_a_reorganisation_takes_the_job_away_for_a_while() -> None:
    async with running_job([FakeMiner(0), FakeMiner(1)]) as job:
        await job.results(job.order(*inputs(4)))
        chain = job.chain
        stored, rows = chain.job_now, list(chain.rows)
        chain.stored = None
        async with asyncio.timeout(10):
            while "took job 7 back" not in job.runner.problem:
                await asyncio.sleep(0.01)
        assert "waits for a block again" in str(explain(job.runner.view()))
        # The opening is in a block again; the miners are drawn anew, in another order.
        chain.stored = replace(stored, state=JobState.OPEN, free=Wei(4 * NOR))
        chain.rows = []
        chain.miners.reverse()
        async with asyncio.timeout(10):
            while [place.who.miner for place in job.runner.places] != [row.miner for row in reversed(rows)]:
                await asyncio.sleep(0.01)
        wanted = job.order(*inputs(10, "later"))
        await job.results(wanted)
        right(wanted)
        job.check_money()


async def test_a_reorganisation_takes_the_job_and_its_money_away() -> None:
    async with running_job([FakeMiner(0), FakeMiner(1)]) as job:
        await job.results(job.order(*inputs(4)))
        job.chain.stored, job.chain.money = None, 5
        job.chain.refuses.add("close")
        wanted = job.order(*inputs(200, "later"))
        await job.results(wanted)
        with pytest.raises(JobNotOpened, match="Nothing is locked, nothing was paid"):
            wanted[-1].future.result()


async def test_a_reorganisation_takes_the_draw_back() -> None:
    miners = [FakeMiner(0), FakeMiner(1), FakeMiner(2)]
    async with running_job(miners, drawn=2, spare=[]) as job:
        await job.results(job.order(*inputs(4)))
        chain = job.chain
        chain.stored = replace(chain.job_now, state=JobState.OPEN, free=Wei(4 * NOR), places=0)
        chain.rows = []
        chain.miners = [miners[0], miners[2]]
        async with asyncio.timeout(10):
            while miners[2].address not in {place.who.miner for place in job.runner.places}:
                await asyncio.sleep(0.01)
        # More than once would be paid for and refused.
        assert 2 <= chain.calls.count("assign") <= 4
        wanted = job.order(*inputs(10, "later"))
        await job.results(wanted)
        right(wanted)
        job.check_money()
