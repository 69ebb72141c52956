"""The market among real processes: miners and users that die, stand still, lie and do not pay.

One network serves all tests of this file. Whatever happens on it, each wei of it is accounted for after each.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
from collections.abc import Iterator

import pytest

from noria.execution.accounts import dev_accounts
from noria.market.contracts import Committed, Ended, JobState
from noria.market.messages import Ask, Quote, decode_answer, encode_message
from noria.network.errors import RequestRefused, TransportError
from noria.node.devnet.layout import NodeEntry
from noria.node.devnet.processes import signal_node
from noria.primitives.keys import PrivateKey
from noria.primitives.types import NOR
from tests.client.runtime import python_runtime
from tests.market.hostile import HEAVY, HostilePlace, Requester, requester, transport_of
from tests.market.money import Money
from tests.market.processes import Market, market_of
from tests.node.networks import network_of, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROUNDS = 150_000
"""Of `spin`: some tenths of a second."""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    python_runtime()
    folder = tmp_path_factory.mktemp("market")
    with network_of(folder / "net", units=2) as network, market_of(network, folder) as market:
        yield market
        everything_ends(market)


def everything_ends(market: Market) -> None:
    """All jobs are paid back, and everything that miners released was paid."""
    node = market.network.nodes[0]
    closing = [job for job, state in market.money().states.items() if state is not JobState.ENDED]
    asyncio.run(refund_all(node.rpc_url, closing))
    for node in market.network.nodes:
        market.answers(node, 3)
    money = market.wait_money("all is paid", is_all_paid)
    assert set(money.states.values()) == {JobState.ENDED}
    for job, paid in money.paid.items():
        earned = market.earned(job)
        assert earned == paid or (earned > paid and market.was_taken_back(job))
        assert len(money.of(Ended, job)) == 1


def is_all_paid(money: Money) -> bool:
    return all(money.paid[job] == money.committed[job] for job in money.put_in)


async def refund_all(url: str, jobs: list[int]) -> None:
    key = PrivateKey(dev_accounts()[6].private_key)
    async with requester(url, key) as who:
        await asyncio.gather(*(who.refund(job) for job in jobs))


# ---------------------------------------------------------------- requesters that do not pay


async def test_requesters_that_do_not_pay(market: Market) -> None:
    key = PrivateKey(dev_accounts()[5].private_key)
    first, *_, fourth = market.network.nodes
    async with requester(first.rpc_url, key) as who:
        await asyncio.gather(
            never_approves(who),
            closes_early(who),
            allows_too_much(who),
            allows_nothing(who),
            malformed_bytes(who, fourth),
        )
    await asyncio.to_thread(market.money)


async def never_approves(who: Requester) -> None:
    """The miner commits with the allow, and is paid when the time for challenges is over."""
    [place, *_] = await who.open(NOR // 4)
    await place.hello()
    assert (await place.order(6, NOR // 8, rounds=HEAVY)).refused == []
    await place.has(6)
    async with asyncio.timeout(200):
        while int((await place.collect(500, flush=True)).paid) < place.received:
            await who.blocks(1)
    await who.close(place.job)


async def closes_early(who: Requester) -> None:
    """Results are taken and the job is closed: what was released is committed in time."""
    [place, *_] = await who.open(NOR // 4)
    await place.hello()
    await place.order(3, NOR // 8)
    await place.has(2)
    await who.close(place.job)


async def allows_too_much(who: Requester) -> None:
    """A session key signs for more than is there, and the same money to two miners."""
    probe, *_ = await who.open(NOR // 4)
    await probe.hello()
    await probe.order(1, NOR // 8)
    await probe.has(1)
    fuel = next(iter(probe.results.values())).fuel
    # Money for two units and a half at each.
    cap = fuel * probe.price * 5 // 2
    await who.close(probe.job)
    places = await who.open(cap)
    assert len(places) == 2
    for place in places:
        await place.hello()
        await place.order(12, 100 * NOR)
    for place in places:
        await place.has(1)
        async with asyncio.timeout(150):
            while place.last is None or place.last.running or place.last.queued:
                await place.collect()
        # Nothing is released beyond the cap, however much was signed.
        assert 1 <= len(place.results) < 12
        assert place.received <= cap < int((await place.collect(0)).needed)
        await place.order(1, 10**6 * NOR, first=12)
        await place.collect(300, open=list(range(12)), flush=True)
        assert place.received <= cap
    await who.close(places[0].job)


async def allows_nothing(who: Requester) -> None:
    """Units are run, results are held; nobody is paid for nothing and nothing is told."""
    [place, *_] = await who.open(NOR // 4)
    await place.hello()
    await place.order(2, 0)
    async with asyncio.timeout(150):
        while (await place.collect(1_000)).held < 2:
            pass
    assert place.results == {}
    await who.close(place.job)


async def malformed_bytes(who: Requester, node: NodeEntry) -> None:
    """Bytes that are no message are refused by name, at a node that goes on."""
    dice = random.Random(7)
    true = encode_message(Ask())
    garbage = [b"", b"\x00", b"\xc1" * 100, true[:-1], true + b"\x00", secrets.token_bytes(4_000)]
    garbage += [bytes(byte ^ (dice.random() < 0.2) for byte in true) + dice.randbytes(3) for _ in range(14)]
    async with transport_of(who.access.genesis_root) as transport:
        peer = await transport.dial(node.multiaddress)
        for data in garbage:
            try:
                await transport.request(peer, who.protocol, data, timeout_seconds=10)
                reason = "it was answered"
            except RequestRefused as error:
                reason = str(error)
            except TransportError:
                break  # It has had enough of this peer.
            assert reason.startswith(("malformed:", "old-version:")), (data, reason)
    place = HostilePlace(who, who.key, 1, 0, who.key.address, 0)
    place.peer = await who.dial(node.multiaddress)
    answer = decode_answer(await who.transport.request(place.peer, who.protocol, encode_message(Ask())))
    assert isinstance(answer, Quote)


# ---------------------------------------------------------------- a miner that lies


def test_a_miner_that_lies(market: Market) -> None:
    """The right results come back; whoever told others is banned, and paid what it was allowed at most."""
    node = market.network.nodes[3]
    market.restart(node, lie="plausible")
    market.answers(node, 3)
    user = market.user()
    settings = {"budget": "1 NOR", "miners": 4, "replicas": 2, "sample": 0.2}
    program = user.start(market.network.nodes[0], units=60, rounds=ROUNDS // 3, settings=settings)
    program.has_job()
    told = program.finish()
    assert (told["wrong"], told["failed"], told["view"]["done"]) == (0, 0, 60)
    [liar] = [place for place in told["view"]["places"] if place["miner"] == node.address]
    assert liar["state"] == "banned"
    assert liar["done"] == 0
    assert [place["state"] for place in told["view"]["places"]].count("banned") == 1
    job = market.job_of(user)
    money = market.wait_money("the job is closing", lambda money: money.states[job] >= JobState.CLOSING)
    # Without approval it can charge what it was allowed ahead, and no more.
    by_liar = [batch for batch in money.batches[job] if batch.miner.hex() == node.address[2:].lower()]
    assert (
        sum(batch.fuel for batch in by_liar) * int(liar["price"]) <= int(liar["allowed"]) <= int(liar["cap"])
    )


# ---------------------------------------------------------------- processes that die


def test_nodes_and_users_die_in_the_middle(market: Market) -> None:
    first, second, third, fourth = market.network.nodes
    # From now on an honest one.
    market.restart(fourth)
    market.answers(fourth, 3)
    one, other, hasty = market.user(), market.user(), market.user()
    settings = {"budget": "1 NOR", "miners": 4, "replicas": 2}
    # This one's own node is killed when the job is open, and one of its miners when it works. It ends the job
    # when all are back: who is not there for `T_CLOSE` blocks after that, four here, is not paid.
    program = one.start(second, units=24, rounds=ROUNDS, settings=settings, holds=True)
    killed = other.start(first, units=400, rounds=ROUNDS, checks=False, settings=settings)
    interrupted = hasty.start(first, units=400, rounds=ROUNDS, checks=False, settings=settings)
    program.has_job()
    market.restart(second)
    killed.has_job()
    interrupted.has_job()
    killed.has_done(4)
    killed.kill()
    interrupted.has_done(1)
    program.has_done(4)
    signal_node(market.network, third, signal.SIGSTOP)
    market.restart(fourth)
    program.has_done(12)
    signal_node(market.network, third, signal.SIGCONT)
    program.has_done(24)
    market.are_level()
    assert interrupted.interrupt() == -signal.SIGINT
    assert "KeyboardInterrupt" in interrupted.complaints.read_text()
    told = program.finish()
    assert (told["wrong"], told["failed"]) == (0, 0)
    assert told["view"]["done"] == 24
    for place in told["view"]["places"]:
        assert place["state"] != "banned", place["reason"]
        assert int(place["allowed"]) <= int(place["cap"])

    # What the killed program left is ended by the user's next one.
    [left] = other.tidy(first)
    assert left.number == market.job_of(other)
    if left.state == "closing":
        last = int(left.message.rpartition(" ")[2])
        market.wait_money("the miners have committed", lambda money: money.block > last, first)
    for user in (one, other, hasty):
        # A block that pays back may itself be taken back.
        wait_for("nothing is left", lambda user=user: user.tidy(first) == [], 60)  # type: ignore[misc]
    money = market.money()
    for user in (one, other, hasty):
        each = market.job_of(user)
        assert money.states[each] is JobState.ENDED
        assert money.committed[each] > 0 or market.was_taken_back(each)
    # Indices go on over restarts: no batch begins where another one does (the sums are checked each time).
    job = market.job_of(one)
    assert len(money.of(Committed, job)) >= 2
