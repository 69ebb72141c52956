"""The market among real processes for long (`make soak`): every kind of lie, partitions, restarts, size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.node.devnet.layout import NodeEntry
from noria.node.devnet.processes import partition
from noria.primitives.types import NOR
from tests.client.runtime import python_runtime
from tests.market.processes import LONG_SECONDS, Market, Program, User, all_end, market_of
from tests.node.networks import (
    assert_nobody_offended,
    assert_same_final_history,
    final_number,
    network_of,
    wait_for,
    wait_for_final,
)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3_000)]
ROUNDS = 150_000
SETTINGS = {"budget": "2 NOR", "miners": 4, "replicas": 2}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    python_runtime()
    folder = tmp_path_factory.mktemp("market")
    with network_of(folder / "net", units=2) as network, market_of(network, folder) as market:
        yield market


# ---------------------------------------------------------------- lies


@pytest.mark.parametrize("lie", ["random-bit", "plausible", "fuel", "copies", "phantoms", "late"])
def test_every_kind_of_lie(market: Market, lie: str) -> None:
    first, *_, node = market.network.nodes
    market.restart(node, lie=lie)
    market.answers(node, 3)
    user = market.user()
    program = user.start(first, units=40, rounds=ROUNDS, settings=SETTINGS | {"sample": 0.1})
    program.has_job()
    told = program.finish(LONG_SECONDS)
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
    job = market.job_of(user)
    money = all_end(market, [job])
    charged = [batch.fuel for batch in money.batches[job] if batch.miner.hex() == node.address[2:].lower()]
    assert sum(charged) * int(liar["price"]) <= int(liar["allowed"]) <= int(liar["cap"])


# ---------------------------------------------------------------- partitions, restarts


def test_jobs_survive_a_partition(market: Market) -> None:
    first, second, third, fourth = market.network.nodes
    users = [market.user() for _ in range(5)]
    # What the faucet gives on both sides is taken back on one.
    funded = [user.fund(first, 10 * NOR) for user in users]
    wait_for("the money is final", lambda: final_number(first) >= funded[-1], LONG_SECONDS)

    def start(user: User, node: NodeEntry, units: int) -> Program:
        return user.start(node, units=units, rounds=ROUNDS, settings=SETTINGS)

    # At work, being drawn, and about to be opened when the network breaks; on both sides.
    # The first outlasts that: T_CLOSE is 4 blocks here, and who is cut off for longer is not paid any more.
    programs = [start(users[0], first, 250)]
    programs[0].has_done(3)
    programs += [start(user, node, 30) for user, node in zip(users[1:3], (first, third), strict=True)]
    for program in programs[1:]:
        program.has_job()
    programs += [start(user, node, 30) for user, node in zip(users[3:], (second, fourth), strict=True)]
    partition(market.network, [[first, second], [third, fourth]])
    begun = time.monotonic()
    try:
        for program in programs[3:]:
            program.has_job()
        # Blocks of both sides have commits, approvals and credits of these jobs.
        while time.monotonic() - begun < 30:
            market.money(first)
            market.money(third)
            time.sleep(1)
    finally:
        partition(market.network, [])
    told = [program.finish(LONG_SECONDS) for program in programs]
    for each in told:
        assert (each["wrong"], each["failed"]) == (0, 0), each
        assert all(place["state"] != "banned" for place in each["view"]["places"]), each["view"]["places"]
    # Jobs opened on the branch that is gone have other numbers. One whose client has ended before the
    # network healed is opened, and paid back, like any other.
    requesters = [user.wallet.address for user in users]
    money = market.wait_money(
        "all jobs are open", lambda money: set(requesters) <= set(money.jobs), seconds=LONG_SECONDS
    )
    jobs = [money.jobs[requester] for requester in requesters]
    # That of the first was drawn before: what was committed on the branch that is gone is committed again.
    money = all_end(market, jobs[:1])
    assert money.paid[jobs[0]] > 0
    all_end(market, jobs)
    wait_for_final(market.network, 1, LONG_SECONDS)
    assert_same_final_history(market.network.nodes)
    assert_nobody_offended(market.network)


@pytest.mark.parametrize("state", ["assigning", "running", "closing"])
def test_the_requesters_node_restarts(market: Market, state: str) -> None:
    node = market.network.nodes[1]
    user = market.user()
    program = user.start(node, units=20, rounds=ROUNDS, settings=SETTINGS)
    program.has_job()
    if state == "closing":
        program.until("the last result has come", lambda told: "end" in told)
    else:
        program.reaches(state)
    market.restart(node)
    told = program.finish(LONG_SECONDS)
    market.answers(node, 3)
    assert (told["wrong"], told["failed"], told["view"]["done"]) == (0, 0, 20)
    all_end(market, [market.job_of(user)])


def test_every_miner_is_killed_at_some_time(market: Market) -> None:
    user = market.user()
    program = user.start(market.network.nodes[0], units=160, rounds=ROUNDS, settings=SETTINGS)
    program.has_job()
    for turn in range(6):
        program.has_done(10 + 20 * turn)
        node = market.network.nodes[1 + turn % 3]
        market.restart(node)
        market.answers(node, 3)
    told = program.finish(LONG_SECONDS)
    assert (told["wrong"], told["failed"], told["view"]["done"]) == (0, 0, 160)
    assert all(place["state"] != "banned" for place in told["view"]["places"]), told["view"]["places"]
    all_end(market, [market.job_of(user)])


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
