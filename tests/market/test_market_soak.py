"""The market among real processes for long (`make soak`): every kind of lie, partitions, restarts, size."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, as_completed
from pathlib import Path
from typing import Any

import pytest

from noria import Executor
from noria.market.contracts import Ended, JobState
from noria.market.requester import job as job_module
from noria.market.requester.compare import Verdict
from noria.market.requester.confidence import wrong_probability
from noria.market.requester.dispatch import Dispatcher
from noria.market.requester.place import Place
from noria.market.requester.place_link import PlaceLink
from noria.market.requester.units import Copy, Key, UnitState
from noria.node.devnet.layout import NodeEntry
from noria.node.devnet.processes import partition
from noria.primitives.types import NOR
from tests.client.runtime import python_runtime
from tests.market.client_process import trivial
from tests.market.money import Money
from tests.market.processes import Market, Program, User, market_of
from tests.node.networks import (
    assert_nobody_offended,
    assert_same_final_history,
    final_number,
    network_of,
    wait_for,
    wait_for_final,
)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3_000)]
SIGMAS = 4.0
SECONDS = 300.0
ROUNDS = 150_000
SETTINGS = {"budget": "2 NOR", "miners": 4, "replicas": 2}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    python_runtime()
    folder = tmp_path_factory.mktemp("market")
    with network_of(folder / "net", units=2) as network, market_of(network, folder) as market:
        yield market


def all_end(market: Market, jobs: list[int], *, redrawn: bool = False) -> Money:
    """Jobs are paid back, and everything that miners released for them was paid.

    What was released at a place that was drawn on a branch that is gone stays in the ledgers, unpaid.
    """
    node = market.network.nodes[0]

    def over(money: Money) -> bool:
        for user in market.users:
            if (user.home / "wallet").exists():
                user.tidy(node)
        return all(
            money.states[job] is JobState.ENDED and money.paid[job] == money.committed[job] for job in jobs
        )

    money = market.wait_money(f"jobs {jobs} are over", over, seconds=SECONDS)
    for job in jobs:
        assert len(money.of(Ended, job)) == 1
        earned = market.earned(job)
        assert earned == money.paid[job] or (redrawn and earned > money.paid[job])
    return money


# ---------------------------------------------------------------- lies


@pytest.mark.parametrize("lie", ["random-bit", "plausible", "fuel", "copies", "phantoms", "late"])
def test_every_kind_of_lie(market: Market, lie: str) -> None:
    first, *_, node = market.network.nodes
    market.restart(node, lie=lie)
    market.answers(node, 3)
    user = market.user()
    program = user.start(first, units=40, rounds=ROUNDS, settings=SETTINGS | {"sample": 0.1})
    job = program.job()
    told = program.finish(SECONDS)
    assert (told["wrong"], told["failed"], told["view"]["done"]) == (0, 0, 40)
    [liar] = [place for place in told["view"]["places"] if place["miner"] == node.address]
    others = [place for place in told["view"]["places"] if place["miner"] != node.address]
    assert all(place["state"] != "banned" for place in others), others
    if lie == "late":
        # That is no lie: its units were run elsewhere.
        assert liar["state"] != "banned"
    else:
        assert liar["state"] == "banned", liar
    market.restart(node)
    market.answers(node, 3)
    money = all_end(market, [job])
    charged = [batch.fuel for batch in money.batches[job] if batch.miner.hex() == node.address[2:].lower()]
    assert sum(charged) * int(liar["price"]) <= int(liar["allowed"]) <= int(liar["cap"])


class Unbanned(Dispatcher):
    """A dispatcher that draws two miners of all for each unit, and sends nobody away."""

    caught: set[bytes]
    asked: list[list[int]]
    source = random.Random(11)

    def tick(self) -> None:
        """No copies beside: what is measured is a single unit's chance."""
        self.fill()

    def place_banned(self, k: int) -> None:
        """Go on."""

    def _candidates(self, state: UnitState, usable: list[PlaceLink], room: int = 1) -> list[PlaceLink]:
        found = super()._candidates(state, usable, room)
        return self.source.sample(found, len(found))

    def _accept(self, state: UnitState, verdict: Verdict) -> None:
        type(self).asked.append([copy.k for copy in state.live()])
        super()._accept(state, verdict)

    def _compare_late(self, copy: Copy, key: Key, accepted: Key) -> None:
        if key != accepted:
            type(self).caught.add(bytes(copy.state.unit_id))
        # As if nobody had seen it, so that it is given more to do.
        self._accept_copy(copy)


@pytest.mark.parametrize(("replicas", "sample"), [(1, 0.1), (2, 0.0), (2, 0.3)])
def test_thirty_percent_of_liars(
    crowd: Market, monkeypatch: pytest.MonkeyPatch, replicas: int, sample: float, capsys: Any
) -> None:
    units, share = 1_000, 0.3
    user = crowd.user()
    for name, value in user.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NORIA_NODE", crowd.network.nodes[0].rpc_url)
    with monkeypatch.context() as patched:
        Unbanned.caught, Unbanned.asked = set(), []
        patched.setattr(job_module, "Dispatcher", Unbanned)
        patched.setattr(Place, "eagerness", lambda self: 0.0)
        with Executor("4 NOR", replicas=replicas, sample=sample, miners=10, progress=False) as executor:
            futures: dict[Future[int], int] = {}
            for number in range(units):
                futures[executor.submit(trivial, number)] = number
            wrong = sum(future.result() != trivial(futures[future]) for future in as_completed(futures))
            job = executor.job.id
            places = executor.stats().places
    assert job is not None
    caught = len(Unbanned.caught)
    liars = {
        place.k for place in places if place.miner in {node.address for node in crowd.network.nodes[-3:]}
    }
    assert len(liars) == 3
    # Who was drawn for each unit is known; by the formula the rest is the sample's chance.
    told = [sum(k in liars for k in asked) for asked in Unbanned.asked]
    all_lie = sum(lying == replicas for lying in told) / units
    expected = all_lie * (1 - sample)
    seen = sum(lying > 0 for lying in told) / units - expected
    bound = wrong_probability(replicas, sample, share)
    with capsys.disabled():
        print(
            f"\nreplicas {replicas}, sample {sample:.0%}: wrong {wrong / units:.2%}, "
            f"expected {expected:.2%}, at most {bound:.2%}; caught {caught / units:.2%}, expected {seen:.2%}"
        )
    assert wrong / units <= bound + SIGMAS * math.sqrt(bound * (1 - bound) / units)
    spread = SIGMAS * math.sqrt(all_lie * sample * (1 - sample) / units) + 1e-9
    assert abs(wrong / units - expected) <= spread, (wrong / units, expected)
    assert abs(caught / units - seen) <= spread, (caught / units, seen)
    all_end(crowd, [job])


def test_a_third_of_liars_is_sent_away(crowd: Market) -> None:
    user = crowd.user()
    settings = {"budget": "2 NOR", "miners": 10, "replicas": 2, "sample": 0.2}
    program = user.start(crowd.network.nodes[0], units=400, rounds=1_000, settings=settings)
    job = program.job()
    told = program.finish(SECONDS)
    assert told["failed"] == 0
    # Until they are known two liars may meet, and agree: 0.067 · 0.8 for each of few units.
    assert told["wrong"] <= 4
    banned = {place["miner"] for place in told["view"]["places"] if place["state"] == "banned"}
    assert banned == {node.address for node in crowd.network.nodes[-3:]}
    all_end(crowd, [job])


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """Ten miners, of which three tell the same lies."""
    python_runtime()
    folder = tmp_path_factory.mktemp("crowd")
    with network_of(folder / "net", 10, units=2) as network:
        for node in network.nodes[-3:]:
            Market(network, folder).restart(node, lie="plausible")
        with market_of(network, folder) as market:
            for node in network.nodes:
                market.answers(node, 5)
            yield market


# ---------------------------------------------------------------- partitions, restarts


def test_jobs_survive_a_partition(market: Market) -> None:
    first, second, third, fourth = market.network.nodes
    users = [market.user() for _ in range(5)]
    # What the faucet gives on both sides is taken back on one.
    funded = [user.fund(first, 10 * NOR) for user in users]
    wait_for("the money is final", lambda: final_number(first) >= funded[-1], SECONDS)

    def start(user: User, node: NodeEntry, units: int) -> Program:
        return user.start(node, units=units, rounds=ROUNDS, settings=SETTINGS)

    # At work, being drawn, and about to be opened when the network breaks; on both sides.
    programs = [start(users[0], first, 60)]
    programs[0].has_done(3)
    programs += [start(user, node, 30) for user, node in zip(users[1:3], (first, third), strict=True)]
    for program in programs[1:]:
        program.job()
    programs += [start(user, node, 30) for user, node in zip(users[3:], (second, fourth), strict=True)]
    partition(market.network, [[first, second], [third, fourth]])
    begun = time.monotonic()
    try:
        for program in programs[3:]:
            program.job()
        # Blocks of both sides have commits, approvals and credits of these jobs.
        while time.monotonic() - begun < 30:
            market.money(first)
            market.money(third)
            time.sleep(1)
    finally:
        partition(market.network, [])
    told = [program.finish(SECONDS) for program in programs]
    for each in told:
        assert (each["wrong"], each["failed"]) == (0, 0), each
        assert all(place["state"] != "banned" for place in each["view"]["places"]), each["view"]["places"]
    # Jobs may have other numbers by now.
    jobs = [int(each["view"]["job"]) for each in told]
    assert len(set(jobs)) == len(jobs)
    # That of the first was drawn before: what was committed on the branch that is gone is committed again.
    money = all_end(market, jobs[:1])
    assert money.paid[jobs[0]] > 0
    all_end(market, jobs, redrawn=True)
    wait_for_final(market.network, 1, SECONDS)
    assert_same_final_history(market.network.nodes)
    assert_nobody_offended(market.network)


@pytest.mark.parametrize("state", ["assigning", "running", "closing"])
def test_the_requesters_node_restarts(market: Market, state: str) -> None:
    node = market.network.nodes[1]
    user = market.user()
    program = user.start(node, units=20, rounds=ROUNDS, settings=SETTINGS)
    job = program.job()
    if state == "closing":
        program.until("the last result has come", lambda told: "end" in told)
    else:
        program.reaches(state)
    market.restart(node)
    told = program.finish(SECONDS)
    market.answers(node, 3)
    assert (told["wrong"], told["failed"], told["view"]["done"]) == (0, 0, 20)
    all_end(market, [job])


def test_every_miner_is_killed_at_some_time(market: Market) -> None:
    user = market.user()
    program = user.start(market.network.nodes[0], units=160, rounds=ROUNDS, settings=SETTINGS)
    job = program.job()
    for turn in range(6):
        program.has_done(10 + 20 * turn)
        node = market.network.nodes[1 + turn % 3]
        market.restart(node)
        market.answers(node, 3)
    told = program.finish(SECONDS)
    assert (told["wrong"], told["failed"], told["view"]["done"]) == (0, 0, 160)
    assert all(place["state"] != "banned" for place in told["view"]["places"]), told["view"]["places"]
    all_end(market, [job])


# ---------------------------------------------------------------- size


def test_ten_thousand_units(market: Market, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user = market.user()
    program = user.start(
        market.network.nodes[0], task="many", units=10_000, settings=SETTINGS | {"budget": "20 NOR"}
    )
    told = program.finish(1_800)
    view = told["view"]
    with capsys.disabled():
        tenths = ", ".join(f"{1_000 / seconds:.0f}" for seconds in told["seconds"])
        print(f"\nunits/s of each tenth: {tenths}; peak memory {told['peak_bytes'] / 2**20:.0f} MiB")
    assert (view["done"], view["failed"]) == (10_000, 0)
    assert told["peak_bytes"] <= 300 << 20
    assert sum(told["seconds"][-3:]) <= 2 * sum(told["seconds"][:3])
    money = all_end(market, [view["job"]])
    assert money.paid[view["job"]] >= int(view["spent"]) > 0
    assert sum(batch.count for batch in money.batches[view["job"]]) >= 20_000
