"""Jobs that programs left behind."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from noria.client import leftovers
from noria.client.leftovers import ATTEMPTS, JOBS_MAX, close_leftovers
from noria.client.wallet import Wallet
from noria.market.access import CallReverted, Head
from noria.market.contracts import Job, JobState, MarketRules, Opened
from noria.market.requester.journal import JobJournal
from noria.primitives.types import ZERO_ADDRESS, ZERO_HASH, Address, Wei
from tests.market.requester.fakes import ROOT, key_of

WALLET = Wallet(key_of(1))
SESSION = key_of(2)
OPENED = object()
"""The event of the chain's one job."""


def a_job(state: JobState, **changes: Any) -> Job:
    job = Job(
        number=7,
        state=state,
        requester=WALLET.address,
        session_key=SESSION.address,
        terms=ZERO_HASH,
        opened_block=10,
        closing_block=0,
        miners=2,
        places=2,
        replicas=2,
        public=True,
        directed=False,
        max_price=1,
        free=Wei(0),
        share=Wei(0),
        deadline=0,
        developer=ZERO_ADDRESS,
        royalty=0,
    )
    return replace(job, **changes)


class Chain:
    """A chain with one job."""

    genesis_root, chain_id = ROOT, 5

    def __init__(self, job: Job | None, block: int = 20) -> None:
        self.job, self.block = job, block
        self.calls: list[str] = []
        self.refuses = False
        self.taken_back = 0
        """So many of the next calls are in blocks that are taken back."""
        self.comes_again = False
        """Whether the first of them is in a block again when the next one is made, which is refused then."""
        self.final = 0
        self.opened_in: int | None = None
        self.searched: list[tuple[int, int]] = []

    async def head(self) -> Head:
        return Head(self.block, ZERO_HASH, 0, 1)

    async def final_nonce(self, account: Address) -> int:
        return self.final

    async def logs(self, addresses: Any, topics: Any, first: int, last: int) -> list[Any]:
        self.searched.append((first, last))
        return [OPENED] if self.opened_in is not None and first <= self.opened_in <= last else []

    def _do(self, name: str, state: JobState) -> None:
        if self.refuses:
            raise CallReverted("no")
        self.calls.append(name)
        assert self.job is not None
        if self.taken_back:
            self.taken_back -= 1
            if self.comes_again:
                self.job = replace(self.job, state=state, closing_block=self.block)
                raise CallReverted("the job is over")
            return
        self.job = replace(self.job, state=state, closing_block=self.job.closing_block or self.block)

    async def close(self, number: int) -> None:
        assert self.job is not None
        is_open = self.job.state is JobState.OPEN
        self._do("close", JobState.ENDED if is_open else JobState.CLOSING)

    async def refund(self, number: int) -> None:
        self._do("refund", JobState.ENDED)


@pytest.fixture
def journal(tmp_path: Path) -> JobJournal:
    return JobJournal(tmp_path / "jobs.sqlite")


async def tidy(
    monkeypatch: pytest.MonkeyPatch, journal: JobJournal, chain: Chain, number: int | None = 7
) -> tuple[str, list[str]]:
    row = journal.create(ROOT, WALLET.address, SESSION.secret, title="", node="", budget=1)
    if number is not None:
        journal.update(row, number=number, state="running", view=b"{}")
    # As if the process were gone.
    journal._do("update jobs set process_start = 1 where id = ?", (row,))

    async def read_job(access: Any, asked: int) -> Job | None:
        return chain.job if chain.job is not None and chain.job.number == asked else None

    async def read_rules(access: Any) -> MarketRules:
        return MarketRules(challenge_blocks=4, close_blocks=4, fee_basis_points=500)

    monkeypatch.setattr(leftovers, "read_job", read_job)
    monkeypatch.setattr(leftovers, "read_rules", read_rules)
    monkeypatch.setattr(leftovers, "JobChain", lambda access, sender: chain)
    access: Any = chain
    [done] = await close_leftovers(access, WALLET, journal)
    assert done.state == journal.jobs()[0].state
    return done.state, chain.calls


async def test_what_is_in_a_block_again_is_not_done_twice(
    monkeypatch: pytest.MonkeyPatch, journal: JobJournal
) -> None:
    chain = Chain(a_job(JobState.ASSIGNED))
    chain.taken_back, chain.comes_again = 1, True
    assert await tidy(monkeypatch, journal, chain) == ("closing", ["close"])


async def test_a_job_at_work_is_closed_and_paid_back_later(
    monkeypatch: pytest.MonkeyPatch, journal: JobJournal
) -> None:
    chain = Chain(a_job(JobState.ASSIGNED))
    assert await tidy(monkeypatch, journal, chain) == ("closing", ["close"])
    chain.block = 25
    access: Any = chain
    [done] = await close_leftovers(access, WALLET, journal)
    assert (done.state, chain.calls) == ("closed", ["close", "refund"])
    assert await close_leftovers(access, WALLET, journal) == []


@pytest.mark.parametrize(
    ("job", "block", "call", "count"),
    [
        (a_job(JobState.ASSIGNED), 20, "close", 1),
        (a_job(JobState.ASSIGNED), 20, "close", ATTEMPTS),
        (a_job(JobState.OPEN), 20, "close", ATTEMPTS),
        (a_job(JobState.OPEN), 80, "refund", ATTEMPTS),
        (a_job(JobState.CLOSING, closing_block=20), 25, "refund", 1),
    ],
)
async def test_what_a_reorganisation_takes_back_is_not_called_done(
    monkeypatch: pytest.MonkeyPatch, journal: JobJournal, job: Job, block: int, call: str, count: int
) -> None:
    chain = Chain(job, block)
    chain.taken_back = count
    state, calls = await tidy(monkeypatch, journal, chain)
    assert (state, set(calls)) == ("closing", {call})
    chain.block = 90
    access: Any = chain
    [done] = await close_leftovers(access, WALLET, journal)
    chain.block = 100
    assert done.state == "closed" or [
        each.state for each in await close_leftovers(access, WALLET, journal)
    ] == ["closed"]
    assert chain.job is not None
    assert chain.job.state is JobState.ENDED


@pytest.mark.parametrize(
    ("job", "block", "state", "calls"),
    [
        (None, 20, "closed", []),
        (a_job(JobState.OPEN), 20, "closed", ["close"]),
        (a_job(JobState.OPEN), 80, "closed", ["refund"]),
        (a_job(JobState.CLOSING, closing_block=20), 24, "closing", []),
        (a_job(JobState.CLOSING, closing_block=20), 25, "closed", ["refund"]),
        (a_job(JobState.ENDED), 25, "closed", []),
        (a_job(JobState.ASSIGNED, session_key=key_of(9).address), 25, "closed", []),
    ],
)
async def test_every_state_has_its_end(
    monkeypatch: pytest.MonkeyPatch,
    journal: JobJournal,
    job: Job | None,
    block: int,
    state: str,
    calls: list[str],
) -> None:
    assert await tidy(monkeypatch, journal, Chain(job, block)) == (state, calls)


async def test_a_program_that_goes_on_has_its_former_jobs_paid_back(
    monkeypatch: pytest.MonkeyPatch, journal: JobJournal
) -> None:
    chain = Chain(a_job(JobState.ASSIGNED))
    await tidy(monkeypatch, journal, chain)
    journal.set_state(journal.jobs()[0].id, "closed")
    # The same, of a process that is still there: it is left to end its job by itself.
    row = journal.create(ROOT, WALLET.address, SESSION.secret, title="", node="", budget=1)
    journal.update(row, number=7, state="closing", view=b"{}")
    chain.job, chain.calls = a_job(JobState.ASSIGNED), []
    access: Any = chain
    [own] = [each for each in await close_leftovers(access, WALLET, journal) if each.id == row]
    assert (own.state, own.message) == ("closing", "its program is about to end it")
    chain.job, chain.calls, chain.block = a_job(JobState.CLOSING, closing_block=20), [], 25
    [own] = [each for each in await close_leftovers(access, WALLET, journal) if each.id == row]
    assert own.state == "closed"
    assert "refund" in chain.calls


async def test_what_cannot_be_ended_now_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, journal: JobJournal
) -> None:
    chain = Chain(a_job(JobState.ASSIGNED))
    chain.refuses = True
    assert await tidy(monkeypatch, journal, chain) == ("running", [])


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch, journal: JobJournal) -> list[int]:
    """More jobs than are seen to in one go, whose programs are gone; the chain closes none of them now."""
    chain = Chain(a_job(JobState.ASSIGNED))
    chain.refuses = True

    async def read_job(access: Any, asked: int) -> Job | None:
        return replace(chain.job, number=asked) if chain.job is not None else None

    monkeypatch.setattr(leftovers, "read_job", read_job)
    monkeypatch.setattr(leftovers, "JobChain", lambda access, sender: chain)
    rows = []
    for number in range(JOBS_MAX + 4):
        row = journal.create(ROOT, WALLET.address, SESSION.secret, title="", node="", budget=1)
        journal.update(row, number=number, state="running", view=b"{}")
        journal.release(row)
        rows.append(row)
    return rows


async def test_a_job_that_is_left_has_its_turn_however_many_cannot_be_ended(
    journal: JobJournal, many: list[int]
) -> None:
    access: Any = Chain(None)
    seen = [{each.id for each in await close_leftovers(access, WALLET, journal)} for _ in range(2)]
    assert [len(rows) for rows in seen] == [JOBS_MAX, JOBS_MAX]
    assert seen[0] | seen[1] == set(many)


async def test_the_job_that_is_asked_for_is_always_seen_to(journal: JobJournal, many: list[int]) -> None:
    access: Any = Chain(None)
    for row in many:
        done = await close_leftovers(access, WALLET, journal, first=row)
        assert done[0].id == row
        assert len(done) == JOBS_MAX


async def test_a_job_is_found_behind_however_many_later_ones(
    monkeypatch: pytest.MonkeyPatch, journal: JobJournal
) -> None:
    chain = Chain(a_job(JobState.ASSIGNED))
    await tidy(monkeypatch, journal, chain)
    [left] = journal.leftovers(ROOT)
    for _ in range(1_001):
        journal.set_state(
            journal.create(ROOT, WALLET.address, SESSION.secret, title="", node="", budget=1), "closed"
        )
    assert [job.id for job in journal.leftovers(ROOT)] == [left.id]


async def test_jobs_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch, journal: JobJournal) -> None:
    row = journal.create(ROOT, key_of(5).address, SESSION.secret, title="", node="", budget=1)
    journal._do("update jobs set process_start = 1 where id = ?", (row,))
    alive = journal.create(ROOT, WALLET.address, SESSION.secret, title="", node="", budget=1)
    access: Any = Chain(a_job(JobState.ASSIGNED))
    assert await close_leftovers(access, WALLET, journal) == []
    assert alive != row


# ---------------------------------------------------------------- openings that no block has


def left_while_opening(monkeypatch: pytest.MonkeyPatch, journal: JobJournal, chain: Chain) -> int:
    row = journal.create(ROOT, WALLET.address, SESSION.secret, title="", node="", budget=1)
    journal.note_opening(row, nonce=5, block=20)
    journal.release(row)

    async def read_job(access: Any, asked: int) -> Job | None:
        return chain.job if chain.job is not None and chain.job.number == asked else None

    monkeypatch.setattr(leftovers, "read_job", read_job)
    monkeypatch.setattr(leftovers, "JobChain", lambda access, sender: chain)
    monkeypatch.setattr(
        leftovers, "decode_event", lambda _: Opened(7, WALLET.address, ZERO_HASH, ZERO_HASH, Wei(1))
    )
    return row


async def test_an_opening_that_may_still_come_is_looked_for_again(
    monkeypatch: pytest.MonkeyPatch, journal: JobJournal
) -> None:
    chain = Chain(None)
    row = left_while_opening(monkeypatch, journal, chain)
    access: Any = chain
    for final in (0, 5):
        chain.final = final
        [done] = await close_leftovers(access, WALLET, journal)
        assert (done.id, done.number, done.state) == (row, None, "opening")
        assert "may still come" in done.message
    # A block has taken it meanwhile.
    chain.job, chain.opened_in, chain.block = a_job(JobState.OPEN), 24, 25
    [done] = await close_leftovers(access, WALLET, journal)
    assert (done.number, done.state, chain.calls) == (7, "closed", ["close"])
    assert journal.jobs()[0].number == 7
    assert await close_leftovers(access, WALLET, journal) == []


async def test_an_opening_whose_nonce_is_used_otherwise_can_never_come(
    monkeypatch: pytest.MonkeyPatch, journal: JobJournal
) -> None:
    chain = Chain(None)
    left_while_opening(monkeypatch, journal, chain)
    chain.final = 6
    access: Any = chain
    [done] = await close_leftovers(access, WALLET, journal)
    assert (done.state, done.message) == ("closed", "it was never opened: nothing is locked")


async def test_an_opening_that_comes_while_it_is_looked_for_is_found(
    monkeypatch: pytest.MonkeyPatch, journal: JobJournal
) -> None:
    chain = Chain(None)
    left_while_opening(monkeypatch, journal, chain)

    async def final_nonce(account: Address) -> int:
        chain.job, chain.opened_in = a_job(JobState.OPEN), 20
        return 6

    monkeypatch.setattr(chain, "final_nonce", final_nonce)
    access: Any = chain
    [done] = await close_leftovers(access, WALLET, journal)
    assert (done.state, chain.calls) == ("closed", ["close"])


async def test_an_opening_is_found_however_long_ago_it_was(
    monkeypatch: pytest.MonkeyPatch, journal: JobJournal
) -> None:
    chain = Chain(a_job(JobState.OPEN), block=120_000)
    left_while_opening(monkeypatch, journal, chain)
    # Earlier than the head was: a reorganisation.
    chain.opened_in = 15
    access: Any = chain
    [done] = await close_leftovers(access, WALLET, journal)
    assert (done.number, done.state, chain.calls) == (7, "closed", ["refund"])
    assert chain.searched == [(70_001, 120_000), (20_001, 70_000), (0, 20_000)]
