"""Handing out under any fortune: each unit ends once, and two voices are always two miners."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.market.requester.dispatch import SHORT_SECONDS, Dispatcher
from noria.market.requester.errors import JobError
from noria.market.requester.evidence import Settled, SignedReceipt
from noria.market.requester.pace import STUCK_SECONDS
from noria.market.requester.sampling import OwnRuns
from noria.market.requester.units import Claim, Copy
from noria.primitives.hashes import blake3
from noria.primitives.types import ZERO_HASH, Signature, Wei
from noria.work.ids import blob_id
from noria.work.receipts import Receipt
from tests.market.requester.fakes import ROOT, TruthfulRuns, Wanted, key_of, truth


@dataclass
class Desk:
    """A place that does what a test says, when it says so."""

    k: int
    dispatcher: Dispatcher
    rooms: int = 4
    is_up: bool = True
    is_banned: bool = False
    copies: dict[int, Copy] = field(default_factory=dict)
    asked: dict[int, Copy] = field(default_factory=dict)
    accepted: int = 0

    @property
    def is_usable(self) -> bool:
        return self.is_up and not self.is_banned

    def room(self) -> int:
        return self.rooms - len(self.copies)

    def eagerness(self) -> float:
        return float(self.room())

    def order(self, copy: Copy) -> None:
        assert copy.k == self.k
        assert self.room() > 0
        self.copies[copy.number] = copy

    def open(self, copy: Copy) -> None:
        assert copy.seal is not None
        self.asked[copy.number] = copy

    def cancel(self, copy: Copy) -> None:
        self.copies.pop(copy.number, None)

    def verified(self, copy: Copy) -> None:
        self.accepted += 1

    def ban(self, reason: str) -> None:
        self.is_banned = True

    # -------------------------------------------------------- what a miner does

    def seal(self) -> None:
        for copy in list(self.copies.values()):
            if copy.is_sealed and copy.seal is None:
                self.dispatcher.on_seal(copy, ZERO_HASH)
                return

    def tell(self, lie: bool = False) -> None:
        ready = [copy for copy in self.copies.values() if not copy.is_sealed or copy.number in self.asked]
        if ready:
            copy = ready[0]
            del self.copies[copy.number]
            self.dispatcher.on_claim(copy, self.claim(copy, lie))
            self.dispatcher.fill()

    def claim(self, copy: Copy, lie: bool) -> Claim:
        data = DATA[copy.state.unit_id]
        outcome = truth(data, copy.state.fuel_limit)
        output = blake3(b"a lie" + data) if lie else outcome.output
        receipt = Receipt(
            genesis_root=ROOT,
            job=1,
            k=self.k,
            miner=key_of(self.k).address,
            index=copy.number,
            unit_id=copy.state.unit_id,
            output_id=blob_id(output),
            status=outcome.status,
            fuel=outcome.fuel,
            weight=0,
        )
        return Claim(SignedReceipt(receipt, Signature(bytes(65)), ZERO_HASH, None, 1, Wei(1)), output, b"")

    def fail(self) -> None:
        if self.copies:
            copy = self.copies.pop(next(iter(self.copies)))
            self.dispatcher.on_failed(copy, "machine", "no memory")
            self.dispatcher.fill()

    def lose(self) -> None:
        self.is_up = False
        self.dispatcher.place_lost(self.k)
        self.dispatcher.fill()

    def come_back(self) -> None:
        self.is_up = True
        self.dispatcher.place_back(list(self.copies.values()))
        self.dispatcher.fill()


DATA: dict[bytes, bytes] = {}


class Office:
    """A dispatcher with desks, on a clock of its own."""

    def __init__(self, desks: int, replicas: int, own_runs: OwnRuns | None, sample: float = 0.0) -> None:
        self.now = 0.0
        self.tasks: list[asyncio.Task[Any]] = []
        self.dispatcher = Dispatcher(
            replicas, sample, own_runs=own_runs, spawn=self.spawn, clock=lambda: self.now
        )
        self.desks = [Desk(k, self.dispatcher) for k in range(desks)]
        for desk in self.desks:
            self.dispatcher.places[desk.k] = desk
        self.wanted: list[Wanted] = []

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    def add(self) -> None:
        wanted = Wanted(b"unit %d" % len(self.wanted))
        DATA[wanted.unit.unit_id] = b"unit %d" % len(self.wanted)
        self.wanted.append(wanted)
        self.dispatcher.add(wanted.unit)
        self.dispatcher.fill()

    async def settle_own_runs(self) -> None:
        while self.tasks:
            await self.tasks.pop()

    async def see_through(self) -> None:
        """Let everybody be honest and quick from now on, until all is done."""
        for _ in range(400):
            for desk in self.desks:
                if not desk.is_up:
                    desk.come_back()
                desk.seal()
                desk.tell()
            self.now += 1.0
            self.dispatcher.tick()
            await self.settle_own_runs()
            if all(wanted.told for wanted in self.wanted):
                return


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "seal", "tell", "lie", "fail", "lose", "back", "stop", "tick", "wait"]),
        st.integers(0, 3),
    ),
    max_size=80,
)


@pytest.mark.parametrize("has_own_runs", [True, False])
@given(steps=STEPS, replicas=st.integers(1, 3), desks=st.integers(3, 4))
@settings(max_examples=120)
def test_each_unit_ends_once_whatever_happens(
    has_own_runs: bool, steps: list[tuple[str, int]], replicas: int, desks: int
) -> None:
    async def play() -> None:
        office = Office(desks, replicas, TruthfulRuns() if has_own_runs else None)
        for name, number in steps:
            desk = office.desks[number % desks]
            act: dict[str, Callable[[], None]] = {
                "add": office.add,
                "seal": desk.seal,
                "tell": desk.tell,
                "lie": lambda desk=desk: desk.tell(lie=True),  # type: ignore[misc]
                "fail": desk.fail,
                "lose": desk.lose,
                "back": desk.come_back,
                "tick": office.dispatcher.tick,
            }
            if name == "stop":
                if office.wanted:
                    office.dispatcher.stop(office.wanted[number % len(office.wanted)].unit)
            elif name == "wait":
                office.now += STUCK_SECONDS + SHORT_SECONDS + 1
            else:
                act[name]()
            await office.settle_own_runs()
        await office.see_through()
        if sum(desk.is_usable for desk in office.desks) >= replicas:
            assert all(wanted.told == 1 for wanted in office.wanted)
        office.dispatcher.fail_all(JobError("over"))
        for wanted in office.wanted:
            assert wanted.told == 1
            assert wanted.started <= 1
            if wanted.future.exception() is None:
                settled: Settled = wanted.future.result()
                miners = [signed.receipt.miner for signed in settled.replicas]
                assert len(set(miners)) == len(miners)
                assert settled.own_run or len(miners) >= replicas
                if has_own_runs and replicas > 1 and settled.own_run:
                    assert settled.output == wanted.expected.output
        assert office.dispatcher.live == 0

    asyncio.run(play())


async def test_a_place_that_comes_back_has_one_voice_though_it_was_forgotten_as_tried() -> None:
    office = Office(3, 3, TruthfulRuns())
    office.add()
    office.desks[0].lose()
    office.desks[1].lose()
    office.desks[1].fail()
    await office.see_through()
    (wanted,) = office.wanted
    assert sorted(signed.receipt.k for signed in wanted.future.result().replicas) == [0, 1, 2]


async def test_too_few_miners_are_made_up_for_by_own_runs() -> None:
    runs = TruthfulRuns()
    office = Office(1, 2, runs)
    office.add()
    desk = office.desks[0]
    assert not desk.copies
    office.now = SHORT_SECONDS + 1
    office.dispatcher.tick()
    assert len(desk.copies) == 1
    desk.tell()
    await office.settle_own_runs()
    settled: Settled = office.wanted[0].future.result()
    assert settled.own_run
    assert runs.runs == 1


async def test_who_may_have_lied_gets_nothing_new_until_this_machine_knows() -> None:
    office = Office(3, 2, TruthfulRuns())
    office.add()
    first, second = [desk for desk in office.desks if desk.copies]
    [third] = [desk for desk in office.desks if not desk.copies]
    for desk in (first, second):
        desk.seal()
    first.tell(lie=True)
    assert not office.dispatcher.is_in_question(first.k)
    second.tell()
    assert office.dispatcher.is_in_question(first.k)
    assert office.dispatcher.is_in_question(second.k)
    assert not office.dispatcher.is_in_question(third.k)
    office.add()
    office.now = STUCK_SECONDS + 1
    office.dispatcher.tick()
    assert not any(desk.copies for desk in office.desks)
    await office.settle_own_runs()
    assert first.is_banned
    assert second.copies
    assert third.copies
    assert not any(office.dispatcher.is_in_question(desk.k) for desk in office.desks)


async def test_where_miners_decide_each_of_them_can_be_asked() -> None:
    office = Office(4, 2, None)
    office.add()
    office.add()
    for desk in office.desks:
        desk.seal()
    # Two disputes at once, in each of which only somebody of the other one can decide.
    liars = [next(desk for desk in office.desks if wanted_by(desk, number)) for number in (0, 1)]
    for desk in office.desks:
        desk.tell(lie=desk in liars)
    assert not any(office.dispatcher.is_in_question(desk.k) for desk in office.desks)
    await office.see_through()
    for wanted in office.wanted:
        settled: Settled = wanted.future.result()
        assert settled.output == wanted.expected.output
    assert all(desk.is_banned for desk in liars)


def wanted_by(desk: Desk, number: int) -> bool:
    return any(DATA[copy.state.unit_id] == b"unit %d" % number for copy in desk.copies.values())


async def test_without_own_runs_too_few_miners_are_waited_for() -> None:
    office = Office(1, 2, None)
    office.add()
    office.now = 10 * SHORT_SECONDS
    office.dispatcher.tick()
    assert not office.desks[0].copies
    assert office.dispatcher.wants_place


async def test_a_result_that_is_withheld_after_its_seal_is_had_elsewhere() -> None:
    office = Office(3, 2, None)
    office.add()
    first, second = [desk for desk in office.desks if desk.copies]
    [third] = [desk for desk in office.desks if not desk.copies]
    first.seal()
    second.seal()
    first.tell()
    office.now = STUCK_SECONDS + 1
    office.dispatcher.tick()
    assert third.copies
    third.seal()
    third.tell()
    settled: Settled = office.wanted[0].future.result()
    assert {signed.receipt.k for signed in settled.replicas} == {first.k, third.k}
    assert not second.copies


async def test_what_is_not_wanted_any_more_is_given_to_nobody_and_ends() -> None:
    office = Office(2, 2, None)
    for desk in office.desks:
        desk.is_up = False
    office.add()
    [wanted] = office.wanted
    wanted.is_wanted = False
    for desk in office.desks:
        desk.come_back()
    assert (wanted.told, wanted.started, office.dispatcher.live) == (1, 1, 0)
    with pytest.raises(CancelledError):
        wanted.future.result()
    assert not any(desk.copies for desk in office.desks)
