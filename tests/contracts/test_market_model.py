"""Jobs, batches and their money against a plain model, with callers who try what they may not."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from noria.execution.system_contracts import JOB_MARKET, MINER_REGISTRY, REWARD_POOL, SETTLEMENT, WORK_LEDGER
from noria.market import contracts as calls
from noria.market.contracts import JobState, split_price
from noria.market.typed_data import sign_allow, sign_approval
from tests.contracts.market import (
    ASSIGN_WITHIN,
    CHALLENGE,
    CLOSE,
    FEE,
    PINNED,
    PROGRAM,
    SESSION,
    Made,
    Market,
    key_of,
    market_spec,
    number_of,
)
from tests.contracts.network import PROPOSER, SMALL, Reverted, accounts, address, root
from tests.contracts.test_money_model import base_fee_burned

MINERS = 4
ASK = 300
"""Wei per fuel, near the floor price: fees back some of the weight, not all."""
ROYALTY = 50
MAX_PRICE = ASK + ROYALTY
requesters = st.sampled_from([7, 8])
persons = st.sampled_from([0, 1, 2, 3, 6, 7, 8])
somebody = st.none() | st.none() | st.none() | persons
"""Mostly who may; then again anybody."""
mostly = st.sampled_from([True, True, True, True, False])
picks = st.integers(0, 10**6)


@dataclass
class Batch:
    """What was committed."""

    made: Made
    miner: int
    job: int
    k: int
    block: int
    paid: bool = False
    credited: bool = False


@dataclass
class Place:
    """A miner's part of a job."""

    miner: int
    cap: int
    committed: int = 0
    next_index: int = 0
    allowed: int = 0
    """Highest total that was ever signed."""
    approved: int = 0
    """Price of what was approved."""


@dataclass
class Job:
    """A job and its money."""

    requester: int
    put_in: int
    share: int
    miners: int
    replicas: int
    public: bool
    royalty: int
    opened: int
    state: JobState = JobState.OPEN
    free: int = 0
    closed: int = 0
    withdrawn: int = 0
    refunded: int = 0
    places: list[Place] = field(default_factory=list)

    @property
    def price(self) -> int:
        return ASK + self.royalty


class Trade(RuleBasedStateMachine):
    """Two requesters, four miners, and anybody."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.market = Market.start(Path(self.folder.name) / "engine", market_spec(MINERS, ask_price=ASK))
        self.network = self.market.network
        self.jobs: dict[int, Job] = {}
        self.batches: list[Batch] = []
        self.credit = dict.fromkeys(range(MINERS), 0)
        self.fees = self.base_fees = self.counted = self.roots = 0

    def teardown(self) -> None:
        self.network.engine.close()
        self.folder.cleanup()

    @initialize(requester=requesters, royal=st.booleans())
    def begin(self, requester: int, royal: bool) -> None:
        self.market.publish(ROYALTY, sender=6)
        for public in (True, False):
            self.open(requester, 500_000, 400_000, 2, 2, public, royal)
        self.pass_time(1)
        self.assign(0, None)
        self.assign(1, None)

    # ------------------------------------------------------------ helpers

    def attempt(self, make: Callable[[], Any], allowed: bool) -> Any:
        """It must go through exactly where it is allowed; what it logs, or nothing."""
        try:
            events = make()
        except Reverted:
            assert not allowed
            return None
        assert allowed
        return events

    @property
    def next_block(self) -> int:
        return self.market.block + 1

    def pick_job(self, pick: int) -> tuple[int, Job]:
        number = 1 + pick % len(self.jobs)
        return number, self.jobs[number]

    def pick_place(self, pick: int) -> tuple[int, Job, int]:
        number, job = self.pick_job(pick)
        # Sometimes one that is not there.
        return number, job, pick // 7 % max(len(job.places), 1) + (pick % 13 == 12)

    def request(self, sender: int, data: bytes, allowed: bool, value: int = 0) -> Any:
        return self.attempt(lambda: self.market.request(data, value, sender=sender), allowed)

    def has_jobs(self) -> bool:
        return bool(self.jobs)

    def takes_commits(self, job: Job) -> bool:
        if job.state is JobState.CLOSING:
            return self.next_block <= job.closed + CLOSE
        return job.state is JobState.ASSIGNED

    # ------------------------------------------------------------ jobs

    @rule(
        requester=requesters,
        extra=st.integers(0, 1_000_000) | st.just(-1),
        share=st.integers(1, 1_000_000),
        miners=st.integers(1, 4),
        replicas=st.integers(1, 3),
        public=st.booleans(),
        royal=st.booleans(),
    )
    def open(
        self, requester: int, extra: int, share: int, miners: int, replicas: int, public: bool, royal: bool
    ) -> None:
        allowed = replicas <= miners and extra >= 0
        value = miners * share + extra
        opened = self.attempt(
            lambda: self.market.open(
                requester=requester,
                value=value,
                share=share,
                miners=miners,
                replicas=replicas,
                public=public,
                max_price=MAX_PRICE,
                program_id=PROGRAM if royal else PINNED,
            ),
            allowed,
        )
        if opened is not None:
            assert opened == len(self.jobs) + 1
            royalty = ROYALTY if royal else 0
            job = Job(requester, value, share, miners, replicas, public, royalty, self.market.block)
            job.free = value - miners * share
            self.jobs[opened] = job

    @precondition(has_jobs)
    @rule(pick=picks, sender=somebody)
    def assign(self, pick: int, sender: int | None) -> None:
        number, job = self.pick_job(pick)
        sender = 6 if sender is None else sender
        allowed = job.state is JobState.OPEN and 2 <= self.next_block - job.opened <= ASSIGN_WITHIN
        events = self.request(sender, calls.assign_call(number), allowed)
        if events is not None:
            job.places = [Place(number_of(event.miner), job.share) for event in events]
            assert len({place.miner for place in job.places}) == len(job.places) == job.miners
            job.state = JobState.ASSIGNED

    @precondition(has_jobs)
    @rule(pick=picks, sender=somebody, share=st.integers(0, 500_000))
    def extend(self, pick: int, sender: int | None, share: int) -> None:
        number, job = self.pick_job(pick)
        sender = job.requester if sender is None else sender
        allowed = (
            sender == job.requester
            and job.state is JobState.ASSIGNED
            and len(job.places) < MINERS
            and share <= job.free
        )
        events = self.request(sender, calls.extend_call(number, share), allowed)
        if events is not None:
            job.free -= share
            job.places.append(Place(number_of(events[0].miner), share))
            assert len({place.miner for place in job.places}) == len(job.places)

    @precondition(has_jobs)
    @rule(pick=picks, sender=somebody, amount=st.integers(0, 500_000))
    def top_up(self, pick: int, sender: int | None, amount: int) -> None:
        number, job = self.pick_job(pick)
        sender = job.requester if sender is None else sender
        allowed = sender == job.requester and job.state in (JobState.OPEN, JobState.ASSIGNED)
        if self.request(sender, calls.top_up_call(number), allowed, amount) is not None:
            job.free += amount
            job.put_in += amount

    @precondition(has_jobs)
    @rule(pick=picks, sender=somebody, amount=st.integers(0, 500_000))
    def raise_cap(self, pick: int, sender: int | None, amount: int) -> None:
        number, job, k = self.pick_place(pick)
        sender = job.requester if sender is None else sender
        allowed = (
            sender == job.requester
            and job.state is JobState.ASSIGNED
            and k < len(job.places)
            and amount <= job.free
        )
        if self.request(sender, calls.raise_cap_call(number, k, amount), allowed) is not None:
            job.free -= amount
            job.places[k].cap += amount

    @precondition(has_jobs)
    @rule(pick=picks, sender=somebody)
    def close(self, pick: int, sender: int | None) -> None:
        number, job = self.pick_job(pick)
        sender = job.requester if sender is None else sender
        allowed = sender == job.requester and job.state in (JobState.OPEN, JobState.ASSIGNED)
        if self.request(sender, calls.close_call(number), allowed) is not None:
            if job.state is JobState.OPEN:
                self.end(job)
            else:
                job.state, job.closed = JobState.CLOSING, self.market.block

    @precondition(has_jobs)
    @rule(pick=picks, sender=persons)
    def refund(self, pick: int, sender: int) -> None:
        number, job = self.pick_job(pick)
        allowed = (job.state is JobState.CLOSING and self.next_block > job.closed + CLOSE) or (
            job.state is JobState.OPEN and self.next_block > job.opened + ASSIGN_WITHIN
        )
        before = self.network.balance(address(job.requester))
        if self.request(sender, calls.refund_call(number), allowed) is not None:
            amount = self.end(job)
            if sender != job.requester:
                assert self.network.balance(address(job.requester)) == before + amount

    def end(self, job: Job) -> int:
        """What goes back: everything that nobody has committed."""
        reserved = sum(place.committed for place in job.places)
        job.refunded = job.put_in - reserved
        job.free, job.state = 0, JobState.ENDED
        return job.refunded

    # ------------------------------------------------------------ batches

    @precondition(has_jobs)
    @rule(
        pick=picks,
        sender=somebody,
        fuel=st.integers(0, 400),
        weighs=st.booleans(),
        count=st.integers(1, 5),
        more=st.sampled_from([0, 0, 50_000, 200_000, -1]),
        key=st.sampled_from(["session", "session", "session", "requester", "miner", "other place"]),
        copied=mostly.map(lambda yes: not yes),
    )
    def commit(
        self,
        pick: int,
        sender: int | None,
        fuel: int,
        weighs: bool,
        count: int,
        more: int,
        key: str,
        copied: bool,
    ) -> None:
        number, job, k = self.pick_place(pick)
        place = job.places[k] if k < len(job.places) else None
        miner = sender if sender is not None else place.miner if place else 0
        # Just enough, more, or a wei too little.
        allow = max((place.committed if place else 0) + fuel * job.price + more, 0)
        batch = self.make(fuel, weighs, count, copied)
        signer = {"requester": key_of(job.requester), "miner": key_of(miner)}.get(key, SESSION)
        signature = sign_allow(signer, self.market.domain, number, k + (key == "other place"), allow)
        allowed = (
            place is not None
            and place.miner == miner
            and self.takes_commits(job)
            and key in ("session", "requester")
            and place.committed + fuel * job.price <= min(allow, place.cap)
            and not self.committed_by(miner, batch)
        )
        if place is not None and key in ("session", "requester"):
            place.allowed = max(place.allowed, allow)
        make = lambda: self.market.commit(number, k, miner, batch, allow, allow=signature)  # noqa: E731
        if self.attempt(make, allowed) is not None:
            assert place is not None
            self.note(number, k, place, batch, paid=False)

    @precondition(has_jobs)
    @rule(
        pick=picks,
        fuel=st.integers(0, 400),
        weighs=st.booleans(),
        count=st.integers(1, 5),
        honest=mostly,
        off=st.sampled_from([0, 0, 0, 0, 1]),
    )
    def commit_approved(self, pick: int, fuel: int, weighs: bool, count: int, honest: bool, off: int) -> None:
        number, job, k = self.pick_place(pick)
        place = job.places[k] if k < len(job.places) else Place(0, 0)
        batch = self.make(fuel, weighs, count, copied=False)
        said = Made(batch.root, fuel, batch.weight, count, place.next_index + off)
        key = SESSION if honest else key_of(place.miner)
        signature = sign_approval(key, self.market.domain, number, k, said)
        allowed = (
            k < len(job.places)
            and honest
            and off == 0
            and self.takes_commits(job)
            and place.committed + fuel * job.price <= place.cap
        )
        data = calls.commit_approved_call(number, k, batch, signature)
        if self.attempt(lambda: self.market.send(place.miner, SETTLEMENT, data), allowed) is not None:
            place.approved += fuel * job.price
            self.note(number, k, place, batch, paid=True)

    def make(self, fuel: int, weighs: bool, count: int, copied: bool) -> Made:
        """A new batch, or one with the root of somebody's."""
        if copied and self.batches:
            return Made(self.batches[fuel % len(self.batches)].made.root, fuel, fuel * weighs, count)
        self.roots += 1
        return Made(root(self.roots), fuel, fuel * weighs, count)

    def committed_by(self, miner: int, made: Made) -> bool:
        return any(batch.miner == miner and batch.made.root == made.root for batch in self.batches)

    def note(self, number: int, k: int, place: Place, made: Made, *, paid: bool) -> None:
        job = self.jobs[number]
        listed = Made(made.root, made.fuel, made.weight, made.count, place.next_index)
        batch = Batch(listed, place.miner, number, k, self.market.block)
        self.batches.append(batch)
        place.next_index += made.count
        place.committed += made.fuel * job.price
        if paid:
            self.pay(batch)

    def pay(self, batch: Batch) -> None:
        job = self.jobs[batch.job]
        assert not batch.paid
        batch.paid = True
        job.withdrawn += batch.made.fuel * job.price
        self.fees += split_price(batch.made.fuel, ASK, job.royalty, FEE).fee

    def chosen(self, picks: list[int]) -> list[Batch]:
        """Some batches, mostly of one place; they may stand twice."""
        first = self.batches[picks[0] % len(self.batches)]
        own = [batch for batch in self.batches if (batch.job, batch.k) == (first.job, first.k)]
        return [
            own[pick % len(own)] if pick % 11 != 10 else self.batches[pick % len(self.batches)]
            for pick in picks
        ]

    def of_one_place(self, batches: list[Batch]) -> bool:
        return len({(batch.job, batch.k) for batch in batches}) == 1

    def has_batches(self) -> bool:
        return bool(self.batches)

    @precondition(has_batches)
    @rule(picks=st.lists(picks, min_size=1, max_size=4), sender=persons, honest=mostly)
    def approve(self, picks: list[int], sender: int, honest: bool) -> None:
        batches = self.chosen(picks)
        number, k = batches[0].job, batches[0].k
        unpaid = {id(batch): batch for batch in batches if not batch.paid}
        # The requester approves what it likes; a miner's own signature says nothing.
        allowed = self.of_one_place(batches) and bool(unpaid) and honest
        key = SESSION if honest else key_of(batches[0].miner)
        listed = [batch.made for batch in batches]
        make = lambda: self.market.approve(number, k, listed, key=key, sender=sender)  # noqa: E731
        if self.attempt(make, allowed) is not None:
            for batch in unpaid.values():
                self.pay(batch)

    @precondition(has_batches)
    @rule(picks=st.lists(picks, min_size=1, max_size=4), sender=persons)
    def finalize(self, picks: list[int], sender: int) -> None:
        batches = self.chosen(picks)
        unpaid = {id(batch): batch for batch in batches if not batch.paid}
        due = all(self.next_block >= batch.block + CHALLENGE for batch in unpaid.values())
        allowed = self.of_one_place(batches) and bool(unpaid) and due
        listed = [batch.made for batch in batches]
        make = lambda: self.market.finalize(batches[0].job, batches[0].k, listed, sender)  # noqa: E731
        if self.attempt(make, allowed) is not None:
            for batch in unpaid.values():
                self.pay(batch)

    @precondition(has_batches)
    @rule(picks=st.lists(picks, min_size=1, max_size=4), sender=persons)
    def credit_batches(self, picks: list[int], sender: int) -> None:
        batches = self.chosen(picks)
        job = self.jobs[batches[0].job]
        new = {id(batch): batch for batch in batches if not batch.credited}
        due = all(self.next_block >= batch.block + CHALLENGE for batch in new.values())
        allowed = (
            self.of_one_place(batches)
            and job.public
            and job.replicas >= 2
            and all(batch.paid for batch in batches)
            and bool(new)
            and due
        )
        floor = self.network.state().floor_price_wei
        listed = [batch.made for batch in batches]
        make = lambda: self.market.credit(batches[0].job, batches[0].k, listed, sender)  # noqa: E731
        if self.attempt(make, allowed) is not None:
            # Half of the mean price is below the least floor price, so the floor never moves.
            assert floor == SMALL.floor_min_wei
            for batch in new.values():
                fee = split_price(batch.made.fuel, ASK, job.royalty, FEE).fee
                credited = min(batch.made.weight, fee * 10_000 // (FEE * floor))
                self.credit[batch.miner] += credited
                batch.credited = credited > 0

    @precondition(has_jobs)
    @rule(
        work=st.lists(st.tuples(picks, st.integers(1, 300)), min_size=2, max_size=5),
        wait=st.integers(CHALLENGE - 2, CHALLENGE),
    )
    def work(self, work: list[tuple[int, int]], wait: int) -> None:
        """What honest people do most of the time."""
        for pick, fuel in work:
            self.commit(pick, None, fuel, True, 2, 0, "session", False)
            self.commit_approved(pick + 1, fuel, True, 1, True, 0)
        if self.batches:
            self.pass_time(wait)
            own = [pick * 11 for pick, _ in work]
            self.finalize(own, 6)
            self.credit_batches(own, 6)

    @rule(blocks=st.integers(1, CHALLENGE + 1))
    def pass_time(self, blocks: int) -> None:
        self.market.pass_blocks(blocks)

    # ------------------------------------------------------------ what always holds

    @invariant()
    def jobs_are_as_in_the_model(self) -> None:
        types = "(address,uint256,uint256,uint256,uint256)[]"
        for number, job in self.jobs.items():
            rows = self.network.ask(JOB_MARKET, "places(uint256)", types, number)
            assert [(number_of(bytes.fromhex(row[0][2:])), *row[1:]) for row in rows] == [
                (place.miner, ASK, place.cap, place.committed, place.next_index) for place in job.places
            ]

    @invariant()
    def every_contract_has_what_it_owes(self) -> None:
        held = sum(job.put_in - job.withdrawn - job.refunded for job in self.jobs.values())
        assert self.network.balance(JOB_MARKET) == held
        assert self.network.balance(SETTLEMENT) == self.network.balance(WORK_LEDGER) == 0
        paid_out = self.network.balance(PROPOSER)
        assert self.network.balance(REWARD_POOL) + paid_out + self.network.burned() == self.fees

    @invariant()
    def no_wei_is_made_or_lost(self) -> None:
        network = self.network
        held = sum(network.balance(account.address) for account in accounts())
        contracts = (MINER_REGISTRY, REWARD_POOL, JOB_MARKET, SETTLEMENT, PROPOSER)
        held += sum(map(network.balance, contracts))
        for number in range(self.counted + 1, network.engine.head.number + 1):
            self.base_fees += base_fee_burned(network, number)
        self.counted = network.engine.head.number
        assert held + network.burned() + self.base_fees == network.spec.supply

    @invariant()
    def nobody_pays_more_than_was_agreed(self) -> None:
        for number, job in self.jobs.items():
            assert job.withdrawn + job.refunded <= job.put_in
            committed = sum(place.committed for place in job.places)
            assert job.withdrawn <= committed <= job.put_in
            for k, place in enumerate(job.places):
                assert place.committed <= place.cap
                assert place.committed <= place.allowed + place.approved
                spans = sorted(
                    (batch.made.first_index, batch.made.first_index + batch.made.count)
                    for batch in self.batches
                    if (batch.job, batch.k) == (number, k)
                )
                # Every receipt is in one batch alone, and every batch is paid once.
                assert all(end == start for (_, end), (start, _) in itertools.pairwise(spans))

    @invariant()
    def weight_is_backed_by_fees(self) -> None:
        listed = [address(number) for number in range(MINERS)]
        found = self.network.state().credits_until(listed, [10**6] * MINERS)
        assert found == [self.credit[number] for number in range(MINERS)]
        assert sum(found) * FEE * SMALL.floor_min_wei <= self.fees * 10_000
        assert sum(found) <= sum(batch.made.weight for batch in self.batches if batch.paid)

    @invariant()
    def no_miner_has_lost_anything(self) -> None:
        for number in range(MINERS):
            record = self.network.miner(number)
            assert (record["bond"], record["jailed_until"], record["slashed"]) == (1_000, 0, 0)


Trade.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestTrade = pytest.mark.slow(Trade.TestCase)
