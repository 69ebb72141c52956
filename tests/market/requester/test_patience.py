"""Jobs in which nothing happens any more: they end by name, and no sooner than they should."""

import asyncio

import pytest

from noria.market.access import ChainAccessError, Head
from noria.market.requester import patience
from noria.market.requester.errors import JobStalled
from noria.market.requester.patience import NOTICE_SECONDS, Patience, first_line, stalled_message
from noria.market.requester.reasons import Explanation, Reason
from noria.work.workers import Outcome
from tests.market.requester.fakes import FakeMiner, Ways, truth
from tests.market.requester.jobs import RunningJob, running_job


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_counts_from_the_last_sign_of_life() -> None:
    clock = Clock()
    waiting = Patience(300, clock)
    for seconds, signs, moving, waited in [
        (0, 1, False, 0),
        (299, 1, False, 299),
        (0, 2, False, 0),  # something has happened
        (250, 2, True, 0),  # something is under way
        (300, 2, False, 300),
    ]:
        clock.now += seconds
        waiting.look(signs, is_moving=moving)
        assert waiting.waited == waited
        assert not waiting.is_over
    clock.now += 0.1
    assert waiting.is_over
    waiting.begin_again()
    assert not waiting.is_over


def test_what_is_waited_for_is_told_once() -> None:
    clock = Clock()
    waiting = Patience(300, clock)
    told = []
    for _ in range(100):
        clock.now += 1
        waiting.look(0, is_moving=False)
        told.append(waiting.should_tell())
    assert sum(told) == 1
    assert told.index(True) == NOTICE_SECONDS


def test_the_words() -> None:
    explained = Explanation("Job 7 is running.", (Reason("a", "No miner."), Reason("b", "No money.")))
    assert first_line(explained) == "Job 7 is running. No miner."
    assert first_line(Explanation("Job 7 is running.", ())) == "Job 7 is running."
    message = stalled_message(explained, 300.4)
    assert message.startswith("nothing has happened for 300 seconds")
    assert str(explained) in message
    assert "patience=" in message


async def is_running(job: RunningJob) -> None:
    async with asyncio.timeout(10):
        while sum(place.is_usable for place in job.runner.places) < len(job.miners):
            await asyncio.sleep(0.01)


async def test_miners_that_are_all_gone_are_not_waited_for_for_ever() -> None:
    miners = [FakeMiner(0, Ways(dies_after=3)), FakeMiner(1, Ways(dies_after=3))]
    async with running_job(miners, patience=0.8) as job:
        wanted = job.order(*[b"unit %d" % number for number in range(20)])
        await job.results(wanted)
        failed = [each for each in wanted if each.future.exception() is not None]
        assert failed
        for each in failed:
            with pytest.raises(JobStalled, match=r"cannot be reached|does not answer") as stalled:
                each.future.result()
            assert "Job 7 is running" in str(stalled.value)
            assert each.told == 1
        # The job goes on if they come back.
        for miner in miners:
            miner.ways.dies_after, miner.is_up = None, True
        await is_running(job)
        wanted = job.order(b"later")
        await job.results(wanted)
        assert wanted[0].future.result().status == wanted[0].expected.status
        job.check_money()


async def test_banned_miners_of_which_nobody_is_left() -> None:
    def lie(outcome: Outcome, data: bytes) -> Outcome:
        return Outcome(outcome.status, b"a lie about " + data, outcome.log, outcome.fuel, 0.0)

    miners = [FakeMiner(0, Ways(lie=lie)), FakeMiner(1, Ways(delay_seconds=0.01))]
    async with running_job(miners, patience=0.8) as job:
        await is_running(job)
        job.runner.places[0].ban("it lied")
        job.runner.places[1].close("not-mining")
        [wanted] = job.order(b"unit")
        await job.results([wanted])
        with pytest.raises(JobStalled, match="is banned: it lied"):
            wanted.future.result()


async def test_a_long_unit_is_no_stall() -> None:
    release = asyncio.Event()

    async def run(data: bytes, fuel_limit: int) -> Outcome:
        await release.wait()
        return truth(data, fuel_limit)

    miners = [FakeMiner(number, Ways(run=run, tells_running=True)) for number in range(2)]
    async with running_job(miners, patience=0.6) as job:
        [wanted] = job.order(b"long")
        await is_running(job)
        async with asyncio.timeout(10):
            while not all(place.is_at_work for place in job.runner.places):
                await asyncio.sleep(0.01)
        await asyncio.sleep(2.0)
        assert not wanted.future.done()
        release.set()
        await job.results([wanted])
        assert wanted.future.exception() is None


async def test_a_chain_that_stands_still_before_the_miners_are_drawn() -> None:
    async with running_job([FakeMiner(0), FakeMiner(1)], patience=0.6) as job:

        async def away(after: int, timeout_seconds: float) -> Head:
            raise ChainAccessError("connection refused")

        job.chain.wait_head = away  # type: ignore[method-assign]
        [wanted] = job.order(b"unit")
        await job.results([wanted])
        with pytest.raises(JobStalled, match="the node cannot be asked: connection refused"):
            wanted.future.result()
        # Without hurry, too: nothing is left to wait for.
        async with asyncio.timeout(10):
            await job.runner.close()


async def test_a_node_that_is_away_while_the_miners_are_drawn() -> None:
    async with running_job([FakeMiner(0), FakeMiner(1)]) as job:
        wait, times = job.chain.wait_head, 0

        async def away(after: int, timeout_seconds: float) -> Head:
            nonlocal times
            times += 1
            if times <= 2:
                raise ChainAccessError("connection refused")
            return await wait(after, timeout_seconds)

        job.chain.wait_head = away  # type: ignore[method-assign]
        [wanted] = job.order(b"unit")
        await job.results([wanted])
        assert wanted.future.exception() is None
        assert times > 2


async def test_who_waits_is_told_what_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "NOTICE_SECONDS", 0.5)
    told: list[str] = []
    async with running_job([FakeMiner(0)], replicas=2, drawn=2, told=told) as job:
        job.order(b"unit")
        async with asyncio.timeout(10):
            while not told:
                await asyncio.sleep(0.05)
    assert len(told) == 1
    assert told[0].startswith("Job 7 is running: 0 of 1 units done")
    assert "1 of 2 miners were drawn" in told[0]
