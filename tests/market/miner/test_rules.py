"""Rules of the miner's side that need no clock, disk or chain."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from noria.market.contracts import Job, JobState, Place
from noria.market.messages import BytesPart, Unit
from noria.market.miner import numbers as number_sets
from noria.market.miner.abandoned import WAIT_FACTOR, Abandoned
from noria.market.miner.batching import PATIENCE_BLOCKS, WORTH, Situation, Step, next_step
from noria.market.miner.entries import PlaceRecord
from noria.market.miner.numbers import NumberSet, TooScattered, decode_numbers
from noria.market.miner.session import UNRELEASED_MAX, Session
from noria.market.miner.terms import mark_of
from noria.market.miner.units import Finished, OrderedUnit, Signing
from noria.primitives.types import Address, Hash32, Wei
from noria.work.batches import BATCH_RECEIPTS_MAX, build_batch
from noria.work.ids import BlobId, ProgramId, UnitId, blob_id
from noria.work.receipts import Receipt, Status
from noria.work.workers import ProgramSource, UnitFuture
from tests.market.miner.world import MINER, ROOT, WEIGHT

# ---------------------------------------------------------------- batching

IDLE = Situation(
    offered=0,
    approved=False,
    fixed=False,
    age_blocks=0,
    offered_wei=0,
    ready=0,
    ready_wei=0,
    gas_wei=100,
    flush=False,
    closing=False,
)
WORTHY = 100 * WORTH


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({}, Step.WAIT),
        ({"flush": True, "closing": True}, Step.WAIT),
        ({"ready": 5, "ready_wei": WORTHY - 1}, Step.WAIT),
        ({"ready": 5, "ready_wei": WORTHY}, Step.OFFER),
        ({"ready": 1, "flush": True}, Step.OFFER),
        ({"ready": 1, "closing": True}, Step.OFFER),
        ({"ready": BATCH_RECEIPTS_MAX}, Step.OFFER),
        # Offered, worth its gas: approval is waited for, then the allow must do.
        ({"ready": 5, "offered": 5, "offered_wei": WORTHY, "approved": True}, Step.COMMIT),
        ({"ready": 5, "offered": 5, "offered_wei": WORTHY, "age_blocks": PATIENCE_BLOCKS - 1}, Step.WAIT),
        ({"ready": 5, "offered": 5, "offered_wei": WORTHY, "age_blocks": PATIENCE_BLOCKS}, Step.COMMIT),
        ({"ready": 9, "offered": 5, "offered_wei": WORTHY, "approved": True}, Step.COMMIT),
        # Offered and worth little: approved or not, it waits to grow.
        ({"ready": 5, "offered": 5, "offered_wei": 9, "approved": True, "age_blocks": 99}, Step.WAIT),
        ({"ready": 9, "offered": 5, "offered_wei": 9, "approved": True, "ready_wei": WORTHY}, Step.OFFER),
        ({"ready": 9, "offered": 5, "offered_wei": 9, "flush": True}, Step.OFFER),
        ({"ready": 9, "offered": 5, "offered_wei": 9}, Step.WAIT),
        # A job that closes has everything committed.
        ({"ready": 5, "offered": 5, "closing": True}, Step.COMMIT),
        ({"ready": 5, "offered": 5, "closing": True, "approved": True}, Step.COMMIT),
        ({"ready": 9, "offered": 5, "closing": True, "approved": True}, Step.COMMIT),
        ({"ready": 9, "offered": 5, "closing": True}, Step.OFFER),
        # What may have been sent keeps its borders.
        ({"ready": 9, "offered": 5, "fixed": True, "closing": True}, Step.COMMIT),
        ({"ready": 9, "offered": 5, "fixed": True}, Step.COMMIT),
        ({"ready": 4096, "offered": 4096, "offered_wei": 1, "approved": True}, Step.COMMIT),
    ],
)
def test_when_a_batch_is_offered_and_when_committed(changes: dict[str, Any], step: Step) -> None:
    assert next_step(replace(IDLE, **changes)) is step


@given(st.data())
def test_a_job_that_closes_never_waits_while_anything_is_unpaid(data: st.DataObject) -> None:
    counts = st.integers(0, BATCH_RECEIPTS_MAX)
    ready = data.draw(counts)
    at = replace(
        IDLE,
        closing=True,
        ready=ready,
        offered=data.draw(st.integers(0, ready)),
        approved=data.draw(st.booleans()),
        fixed=data.draw(st.booleans()),
        gas_wei=data.draw(st.integers(0, 10**20)),
        offered_wei=data.draw(st.integers(0, 10**20)),
        ready_wei=data.draw(st.integers(0, 10**20)),
    )
    assert (next_step(at) is Step.WAIT) == (ready == 0)


# ---------------------------------------------------------------- numbers


@given(st.lists(st.integers(0, 40)))
def test_a_set_of_numbers_is_one(values: list[int]) -> None:
    found, expected = NumberSet(), set()
    for value in values:
        found.add(value)
        expected.add(value)
        assert len(found) == len(expected)
    assert {n for n in range(42) if n in found} == expected
    again = decode_numbers(found.encode())
    assert list(again.ranges()) == list(found.ranges())
    ranges = list(found.ranges())
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(ranges))


def test_numbers_that_are_scattered_take_so_much_room_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_sets, "RANGES_MAX", 3)
    found = NumberSet()
    for value in (0, 10, 20):
        assert found.has_room()
        found.add(value)
    assert not found.has_room()
    with pytest.raises(TooScattered, match="one by one"):
        found.add(30)
    found.add(11)
    assert 11 in found


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc0", b"\x91\x92\x05\x04", b"\x92\x92\x00\x01\x92\x02\x03", b"\x91\x92\xff\x00", b"\x91\x05"],
)
def test_bytes_that_are_no_set_of_numbers(data: bytes) -> None:
    with pytest.raises(ValueError, match="no set of numbers"):
        decode_numbers(data)


# ---------------------------------------------------------------- one place

PRICE, CAP = 3, 5_000
JOB = Job(
    number=1,
    state=JobState.ASSIGNED,
    requester=Address(b"\1" * 20),
    session_key=Address(b"\2" * 20),
    terms=Hash32(bytes(32)),
    opened_block=1,
    closing_block=0,
    miners=2,
    places=2,
    replicas=2,
    public=True,
    directed=False,
    max_price=9,
    free=Wei(0),
    share=Wei(CAP),
    deadline=0,
    developer=Address(bytes(20)),
    royalty=1,
)
PLACE = Place(job=1, k=0, miner=MINER.address, price=PRICE, cap=Wei(CAP), committed=Wei(0), next_index=0)


def test_a_place_is_named_by_all_that_was_agreed() -> None:
    marks = {
        mark_of(job, place)
        for job, place in (
            (JOB, PLACE),
            (replace(JOB, number=2), PLACE),
            (replace(JOB, requester=JOB.session_key), PLACE),
            (replace(JOB, session_key=JOB.requester), PLACE),
            (replace(JOB, terms=Hash32(b"\1" * 32)), PLACE),
            (replace(JOB, royalty=2), PLACE),
            (replace(JOB, public=False), PLACE),
            (replace(JOB, directed=True), PLACE),
            (replace(JOB, replicas=1), PLACE),
            (JOB, replace(PLACE, k=1)),
            (JOB, replace(PLACE, price=4)),
            (JOB, replace(PLACE, miner=JOB.requester)),
        )
    }
    assert len(marks) == 12
    # What changes as the job goes on does not.
    later = replace(PLACE, cap=Wei(9), committed=Wei(3), next_index=7)
    assert mark_of(replace(JOB, state=JobState.CLOSING, free=Wei(1)), later) == mark_of(JOB, PLACE)


def record() -> PlaceRecord:
    return PlaceRecord(
        id=1,
        job=1,
        k=0,
        mark=mark_of(JOB, PLACE),
        program=bytes(32),
        price=PRICE,
        royalty=1,
        credits=True,
        state="open",
        allow_total=0,
        allow_signature=b"",
        spent=NumberSet(),
        next_index=0,
        earned=0,
        fuel=0,
        weight=0,
        paid=0,
        credited=0,
        gas=0,
        opened=0,
        seen=0,
    )


def session() -> Session:
    return Session(record(), JOB, PLACE, Signing(ROOT, MINER, b"secret", WEIGHT), pinned=True)


def finished(unit: OrderedUnit, fuel: int = 1, milliseconds: int = 1, long: bytes | None = None) -> Finished:
    """What came of a unit; with a long output where there is one."""
    output = b"output" if long is None else long
    return Finished(
        unit=UnitId(Hash32(unit.number.to_bytes(32, "big"))),
        input=blob_id(b""),
        input_bytes=0,
        status=Status.OK,
        fuel=fuel,
        output_id=blob_id(output),
        output=output if long is None else None,
        output_bytes=len(output),
        log=b"",
        milliseconds=milliseconds,
    )


def test_numbers_have_their_room_before_their_units_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_sets, "RANGES_MAX", 4)
    place = session()
    place.record.allow_total = CAP
    place.record.spent.add(1_000)
    orders = [place.order(Unit(number, 100, [])) for number in (10, 20, 30, 40)]
    assert [None if each is None else each.reason for each in orders] == [None, None, None, "full"]
    while place.may_begin():
        unit = place.begin()
        place.finish(unit, finished(unit))
    made = place.release()
    assert [each.index for each in made] == [0, 1, 2]
    assert len(list(place.record.spent.ranges())) == 4
    # What is taken back makes room again.
    monkeypatch.setattr(number_sets, "RANGES_MAX", 5)
    place.released(made)
    assert place.order(Unit(50, 100, [])) is None
    assert place.order(Unit(60, 100, [])) is not None
    place.cancel([50])
    assert place.order(Unit(60, 100, [])) is None


def run_all(place: Session, seconds: float, long: bytes | None = None) -> int:
    count = 0
    while place.may_begin():
        unit = place.begin()
        place.finish(unit, finished(unit, milliseconds=int(seconds * 1000), long=long))
        count += 1
    return count


@pytest.mark.parametrize("sealed", [False, True])
def test_units_that_were_taken_back_after_they_had_run_are_still_a_risk(sealed: bool) -> None:
    now = [1_000.0]
    place = session()
    place._abandoned = Abandoned(lambda: now[0])
    for number in range(200):
        assert place.order(Unit(number, 100, [], sealed)) is None
    assert run_all(place, 10) == UNRELEASED_MAX
    place.cancel(range(UNRELEASED_MAX))
    # Nothing is paid for: nothing more is run.
    assert (place.unreleased, place.abandoned) == (UNRELEASED_MAX, UNRELEASED_MAX)
    assert run_all(place, 10) == 0
    # Whoever had good reasons can go on after some time,
    now[0] += 10 * WAIT_FACTOR + 1
    assert run_all(place, 10) == 1
    # … and what is paid for makes up for the rest, one by one.
    place.record.allow_total = CAP
    place.open(range(200))
    assert len(place.release()) == 1
    assert run_all(place, 10) == 2
    assert len(place.release()) == 2
    assert run_all(place, 10) == 4


def test_units_that_are_taken_back_before_they_run_cost_nothing() -> None:
    place = session()
    for number in range(3):
        place.order(Unit(number, 100, []))
    waits, runs = place.begin(), place.begin()
    program = ProgramSource(ProgramId(Hash32(bytes(32))), Path("none"))
    waits.future = UnitFuture(program, b"", 1, lambda _: finished(waits))
    runs.future = UnitFuture(program, b"", 1, lambda _: finished(runs))
    assert runs.future.set_running_or_notify_cancel()
    assert place.cancel(range(3)) == [waits, runs]
    assert place.abandoned == 1


def test_little_that_is_paid_for_does_not_make_up_for_much() -> None:
    now = [0.0]
    abandoned = Abandoned(lambda: now[0])
    abandoned.make_up(100)
    abandoned.add(60)
    abandoned.add(1)
    for _ in range(59):
        abandoned.make_up(1)
    assert len(abandoned) == 2
    abandoned.make_up(1)
    assert len(abandoned) == 1
    now[0] += WAIT_FACTOR
    assert len(abandoned) == 0


def test_a_long_output_is_let_go_by_each_unit_that_had_it() -> None:
    place = session()
    for number in range(4):
        place.order(Unit(number, 100, [], number == 3))
    last = place.begin()
    run_all(place, 1, long=b"long")
    # Held, sealed, and given up while it runs.
    place.cancel([1, 3, last.number])
    assert place.unwanted == [blob_id(b"long")] * 2
    place.finish(last, finished(last, long=b"long"))
    assert len(place.unwanted) == 3
    place.record.allow_total = CAP
    place.released(place.release())
    assert list(place.results) == [2]
    place.take([2, 2])
    assert len(place.unwanted) == 4


class OnePlace(RuleBasedStateMachine):
    """Whatever a requester says and however units end, in any order."""

    @initialize()
    def begin(self) -> None:
        self.record = record()
        self.session = Session(self.record, JOB, PLACE, Signing(ROOT, MINER, b"secret", WEIGHT), pinned=True)
        self.running: list[OrderedUnit] = []
        self.unwritten: list[Any] = []
        self.written: list[Any] = []
        self.taken: set[int] = set()

    @rule(number=st.integers(0, 30), sealed=st.booleans(), size=st.integers(0, 2))
    def order(self, number: int, sealed: bool, size: int) -> None:
        known = number in self.session.known()
        refused = self.session.order(Unit(number, 100, [BytesPart(bytes(size))], sealed))
        if refused is None:
            assert number in self.session.known()
        elif number in self.record.spent:
            assert refused.reason in ("number-taken", "closing", "unpaid", "full")
        assert not known or number in self.session.known()

    @precondition(lambda self: self.session.may_begin())
    @rule()
    def run(self) -> None:
        self.running.append(self.session.begin())

    @precondition(lambda self: self.running)
    @rule(data=st.data(), fuel=st.integers(0, 100), status=st.sampled_from(list(Status)))
    def end(self, data: st.DataObject, fuel: int, status: Status) -> None:
        unit = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        if data.draw(st.booleans()):
            self.session.fail(unit, "machine", "it broke")
            return
        output = BlobId(blob_id(b"output"))
        name = UnitId(Hash32(unit.number.to_bytes(32, "big")))
        self.session.finish(unit, Finished(name, blob_id(b""), 0, status, fuel, output, b"output", 6, b"", 1))

    @rule(numbers=st.lists(st.integers(0, 30), max_size=5))
    def open(self, numbers: list[int]) -> None:
        self.session.open(numbers)

    @rule(numbers=st.lists(st.integers(0, 30), max_size=5))
    def cancel(self, numbers: list[int]) -> None:
        for unit in self.session.cancel(numbers):
            assert unit in self.running

    @rule(total=st.integers(0, 2 * CAP))
    def allow(self, total: int) -> None:
        self.record.allow_total = max(self.record.allow_total, total)

    @rule()
    def release(self) -> None:
        made = self.session.release()
        self.unwritten.append(made)

    @precondition(lambda self: self.unwritten)
    @rule()
    def write(self) -> None:
        made = self.unwritten.pop(0)
        self.session.released(made)
        self.written += made

    @rule(numbers=st.lists(st.integers(0, 30), max_size=8))
    def take(self, numbers: list[int]) -> None:
        indices = set(self.session.take(numbers))
        assert not indices & self.taken
        self.taken |= indices

    @precondition(lambda self: len(self.written) > 5)
    @rule()
    def close(self) -> None:
        self.session.closing = True

    @invariant()
    def nothing_beyond_the_allow(self) -> None:
        if hasattr(self, "session"):
            made = [each for group in self.unwritten for each in group]
            price = self.session.price
            assert self.record.earned == sum(each.fuel for each in self.written + made) * price
            assert self.record.earned <= min(self.record.allow_total, CAP)
            assert self.session.told_earned == sum(each.fuel for each in self.written) * price

    @invariant()
    def receipts_are_consecutive_and_of_different_units(self) -> None:
        if hasattr(self, "session"):
            made = self.written + [each for group in self.unwritten for each in group]
            assert [each.index for each in made] == list(range(len(made)))
            assert len({each.number for each in made}) == len(made)
            assert all(each.number in self.record.spent for each in made)
            told = {untaken.result.index for untaken in self.session.results.values()}
            assert told == {each.index for each in self.written} - self.taken

    @invariant()
    def the_counts_are_right(self) -> None:
        if hasattr(self, "session"):
            session = self.session
            assert session.running == len(self.running)
            assert session.unreleased <= UNRELEASED_MAX + session.running
            assert session._inline_bytes == sum(unit.inline_bytes for unit in session.units.values())
            assert session._untaken_bytes == sum(each.size for each in session.results.values())
            held = [unit for unit in session.units.values() if unit.state.value == "held"]
            sealed = [unit for unit in session.units.values() if unit.state.value == "sealed"]
            assert (session.held, session._sealed) == (len(held), len(sealed))
            assert session.queued == sum(u.state.value == "queued" for u in session.units.values())

    def teardown(self) -> None:
        if not hasattr(self, "session") or not self.written:
            return
        receipts = [
            Receipt(
                ROOT,
                1,
                0,
                MINER.address,
                each.index,
                UnitId(Hash32(each.unit)),
                BlobId(Hash32(each.output_id)),
                Status(each.status),
                each.fuel,
                each.weight,
            )
            for each in self.written
        ]
        batch = build_batch(receipts).commitment
        assert batch.fuel * self.session.price == self.session.told_earned


TestOnePlace = OnePlace.TestCase
TestOnePlace.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
