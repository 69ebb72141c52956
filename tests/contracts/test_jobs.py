"""JobMarket: who may do what with a job, when, and with which money."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.execution.system_contracts import CONSENSUS, JOB_MARKET, MINER_REGISTRY, PROGRAM_REGISTRY
from noria.market import contracts as calls
from noria.market.contracts import WEI_MAX
from noria.market.typed_data import terms_hash
from noria.primitives.hashes import keccak256
from tests.contracts.chain import revert_reason
from tests.contracts.hostile import HOSTILE, entered, forward, reply, with_hostile
from tests.contracts.market import (
    ASSIGN_WITHIN,
    CLOSE,
    DETAILS,
    DEVELOPER,
    PINNED,
    PRICE,
    PROGRAM,
    REQUESTER,
    SESSION,
    STRANGER,
    Market,
    made,
    market_spec,
    number_of,
)
from tests.contracts.network import Reverted, address, calldata, genesis_miner

OPEN, ASSIGNED, CLOSING, ENDED = 1, 2, 3, 4


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    market = Market.start(tmp_path / "engine")
    yield market
    market.network.engine.close()


def start(tmp_path: Path, spec: Any) -> Market:
    return Market.start(tmp_path / "other", spec)


def job_of(market: Market, job: int) -> dict[str, Any]:
    """The record of a job."""
    names = [field.name for field in dataclasses.fields(calls.Job) if field.name != "number"]
    types = (
        "(uint256,address,address,bytes32,uint256,uint256,uint256,uint256,uint256,bool,bool,uint256,uint256,"
        "uint256,uint256,address,uint256)"
    )
    return dict(zip(names, market.network.ask(JOB_MARKET, "job(uint256)", types, job), strict=True))


def places_of(market: Market, job: int) -> list[tuple[int, int, int, int, int]]:
    """Miner's number, price, cap, committed and next index of each place."""
    types = "(address,uint256,uint256,uint256,uint256)[]"
    rows = market.network.ask(JOB_MARKET, "places(uint256)", types, job)
    return [(number_of(bytes.fromhex(row[0][2:])), *row[1:]) for row in rows]


def hexed(account: bytes) -> str:
    return "0x" + account.hex()


# ---------------------------------------------------------------- open


def test_a_job_is_kept_as_it_was_opened(market: Market) -> None:
    market.publish(9)
    deadline = market.network.engine.head.timestamp + 100
    job = market.open(
        program_id=PROGRAM,
        value=500,
        max_price=2**96 - 1,
        miners=4,
        replicas=3,
        public=False,
        share=100,
        deadline=deadline,
    )
    assert job == 1
    record = job_of(market, job)
    assert record == {
        "state": OPEN,
        "requester": hexed(address(REQUESTER)),
        "session_key": hexed(SESSION.address),
        "terms": terms_hash(PROGRAM, DETAILS),
        "opened_block": market.block,
        "closing_block": 0,
        "miners": 4,
        "places": 0,
        "replicas": 3,
        "public": False,
        "directed": False,
        "max_price": 2**96 - 1,
        "free": 100,
        "share": 100,
        "deadline": deadline,
        "developer": hexed(address(DEVELOPER)),
        "royalty": 9,
    }
    assert market.network.balance(JOB_MARKET) == 500
    assert market.open() == 2
    assert job_of(market, 3)["state"] == 0
    assert job_of(market, 2)["royalty"] == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"miners": 0}, "a job has 1 to 16 miners"),
        ({"miners": 17, "share": 0}, "a job has 1 to 16 miners"),
        ({"replicas": 0}, "replicas are 1 to the number of miners"),
        ({"replicas": 4}, "replicas are 1 to the number of miners"),
        ({"max_price": WEI_MAX + 1}, "an amount has 96 bits"),
        ({"share": WEI_MAX + 1}, "an amount has 96 bits"),
        ({"share": 333_334}, "the budget does not cover the shares"),
        ({"deadline": 1}, "no such deadline"),
        ({"deadline": 2**40}, "no such deadline"),
    ],
)
def test_a_job_that_cannot_be_is_refused(market: Market, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(Reverted, match=f"JobMarket: {reason}"):
        market.open(**fields)
    assert market.network.balance(JOB_MARKET) == 0
    market.open(share=333_333)


def test_a_royalty_above_the_price_is_refused(market: Market) -> None:
    market.publish(101)
    with pytest.raises(Reverted, match="the royalty alone is above the highest price"):
        market.open(program_id=PROGRAM)


def test_a_royalty_is_that_of_the_opening(market: Market) -> None:
    market.publish(5)
    job = market.open(program_id=PROGRAM)
    market.send(DEVELOPER, PROGRAM_REGISTRY, calls.set_royalty_call(PROGRAM, 50))
    assert job_of(market, job)["royalty"] == 5
    assert job_of(market, market.open(program_id=PROGRAM))["royalty"] == 50


# ---------------------------------------------------------------- assign

UPDATE = "update(bytes,uint256,uint256)"


def expected_draws(market: Market, job: int, places: int) -> list[int]:
    """Whom the rule of the draw names, one try after the other."""
    opened = job_of(market, job)["opened_block"]
    first = market.network.first_block_of_epoch()
    randao = market.network.call(CONSENSUS, "prev_randao(uint256)", max(opened + 1, first)).output
    taken: list[int] = []
    for attempt in range(64):
        if len(taken) == places:
            break
        words = (job, len(taken), attempt)
        seed = keccak256(randao + b"".join(number.to_bytes(32, "big") for number in words))
        miner = market.network.ask(MINER_REGISTRY, "draw(bytes32)", "(address,uint256,bool)", seed)[0]
        number = number_of(bytes.fromhex(miner[2:]))
        if number not in taken:
            taken.append(number)
    return taken


def test_the_miners_are_those_that_the_draw_names(market: Market) -> None:
    for _ in range(4):
        job = market.open()
        market.pass_blocks(1)
        drawn = market.assign(job)
        assert drawn == expected_draws(market, job, 3)
        assert places_of(market, job) == [(miner, PRICE, 100_000, 0, 0) for miner in drawn]
        record = job_of(market, job)
        assert (record["state"], record["places"], record["free"]) == (ASSIGNED, 3, 700_000)


def test_terms_that_change_after_the_seed_is_known_win_nothing(market: Market) -> None:
    market.network.grow_to_epoch(2)
    job = market.open()
    market.pass_blocks(1)
    expected = expected_draws(market, job, 3)
    [missing] = set(range(4)) - set(expected)
    # Whatever it does to the sums, the same are drawn; and who asks for more than it did is passed over.
    market.send(missing, MINER_REGISTRY, calldata(UPDATE, b"p", 7, PRICE))
    market.send(expected[1], MINER_REGISTRY, calldata(UPDATE, b"p", 100, PRICE + 1))
    assert market.network.epoch == 2
    assert market.assign(job) == [number for number in expected if number != expected[1]]


def test_in_a_later_epoch_the_draw_is_that_epochs(market: Market) -> None:
    changed = 0
    for epoch in range(2, 8, 2):
        market.network.grow_to_epoch(epoch)
        job = market.open()
        market.pass_blocks(1)
        known = expected_draws(market, job, 3)
        [missing] = set(range(4)) - set(known)
        market.send(missing, MINER_REGISTRY, calldata(UPDATE, b"p", 100 - epoch, PRICE))
        market.network.grow_to_epoch(epoch + 1)
        expected = expected_draws(market, job, 3)
        assert market.assign(job) == expected
        changed += known != expected
    assert changed, "the seed that was known in the epoch before is not used"


def test_an_assignment_has_its_time(market: Market) -> None:
    job = market.open()
    with pytest.raises(Reverted, match="too early to assign"):
        market.assign(job)
    # That attempt was a block of its own.
    market.assign(job)
    with pytest.raises(Reverted, match="assigned already, or over"):
        market.assign(job)
    with pytest.raises(Reverted, match="no such job"):
        market.assign(2)
    late = market.open()
    market.pass_blocks(ASSIGN_WITHIN - 1)
    assert market.block == job_of(market, late)["opened_block"] + ASSIGN_WITHIN - 1
    market.assign(late)
    later = market.open()
    market.pass_blocks(ASSIGN_WITHIN)
    with pytest.raises(Reverted, match="too late to assign"):
        market.assign(later)


def test_the_draw_skips_who_is_dear_jailed_or_there_already(tmp_path: Path) -> None:
    spec = market_spec()
    asks = {0: 7, 1: 101, 2: 2**256 - 1, 3: 100}
    miners = tuple(genesis_miner(number, ask_price=ask) for number, ask in asks.items())
    market = start(tmp_path, dataclasses.replace(spec, miners=miners))
    try:
        job = market.open(miners=4, replicas=2, share=100_000)
        market.pass_blocks(1)
        # Two of the four cannot be hired: fewer miners are no failure, and their shares are free.
        assert sorted(market.assign(job)) == [0, 3]
        assert job_of(market, job)["free"] == 1_000_000 - 2 * 100_000
        market.network.extend(guilty=[address(0)])
        job = market.open(miners=2)
        market.pass_blocks(1)
        assert market.assign(job) == [3]
        market.network.extend(guilty=[address(3)])
        job = market.open(miners=2)
        market.pass_blocks(1)
        with pytest.raises(Reverted, match="nobody can be drawn at this price"):
            market.assign(job)
    finally:
        market.network.engine.close()


def test_the_royalty_is_part_of_the_highest_price(market: Market) -> None:
    market.publish(94)
    job = market.open(program_id=PROGRAM, max_price=100)
    market.pass_blocks(1)
    with pytest.raises(Reverted, match="nobody can be drawn at this price"):
        market.assign(job)
    job = market.open(program_id=PROGRAM, max_price=101)
    market.pass_blocks(1)
    assert len(market.assign(job)) == 3


def test_without_capacity_nobody_is_drawn(tmp_path: Path) -> None:
    market = start(tmp_path, market_spec(0))
    try:
        job = market.open()
        market.pass_blocks(1)
        with pytest.raises(Reverted, match="no capacity to draw from"):
            market.assign(job)
    finally:
        market.network.engine.close()


# ---------------------------------------------------------------- directed jobs


def test_named_miners_are_there_at_once(market: Market) -> None:
    job = market.open(named=[2, 0], replicas=1)
    record = job_of(market, job)
    assert (record["state"], record["directed"], record["places"]) == (ASSIGNED, True, 2)
    assert places_of(market, job) == [(2, PRICE, 100_000, 0, 0), (0, PRICE, 100_000, 0, 0)]
    with pytest.raises(Reverted, match="assigned already"):
        market.assign(job)
    assert record["free"] == 800_000


@pytest.mark.parametrize(
    ("named", "fields", "reason"),
    [
        ([0, 0], {}, "a miner is named twice"),
        ([0, 5], {}, "a named miner cannot be hired"),
        ([0, 1], {"max_price": 6}, "asks for more than the highest price"),
        ([], {}, "a job has 1 to 16 miners"),
        ([0], {"replicas": 2}, "replicas are 1 to the number of miners"),
    ],
)
def test_who_cannot_be_named_is_refused(
    market: Market, named: list[int], fields: dict[str, int], reason: str
) -> None:
    with pytest.raises(Reverted, match=reason):
        market.open(named=named, **{"replicas": 1, **fields})


def test_names_are_as_many_as_miners(market: Market) -> None:
    data = calls.call_data(
        "open_directed(bytes32,bytes32,address,uint256,uint256,uint256,bool,uint256,uint256,address[])",
        *(PINNED, DETAILS, SESSION.address, 100, 2, 1, True, 0, 0, [address(0)]),
    )
    with pytest.raises(Reverted, match="not as many names as miners"):
        market.request(data)


def test_who_is_in_jail_cannot_be_named(market: Market) -> None:
    market.network.extend(guilty=[address(1)])
    with pytest.raises(Reverted, match="a named miner cannot be hired"):
        market.open(named=[1], replicas=1)


# ---------------------------------------------------------------- more places, more money


def test_a_job_grows_by_a_draw(market: Market) -> None:
    job, drawn = market.running()
    market.request(calls.extend_call(job, 250_000))
    [missing] = set(range(4)) - set(drawn)
    assert places_of(market, job)[3] == (missing, PRICE, 250_000, 0, 0)
    record = job_of(market, job)
    assert (record["places"], record["free"]) == (4, 450_000)
    # Everybody is there by now.
    with pytest.raises(Reverted, match="nobody can be drawn at this price"):
        market.request(calls.extend_call(job, 1))


def test_a_place_cannot_have_more_than_is_free(market: Market) -> None:
    job, _ = market.running()
    with pytest.raises(Reverted, match="so much is not free"):
        market.request(calls.extend_call(job, 700_001))
    with pytest.raises(Reverted, match="so much is not free"):
        market.request(calls.raise_cap_call(job, 0, 700_001))
    market.request(calls.raise_cap_call(job, 0, 700_000))
    assert [place[2] for place in places_of(market, job)] == [800_000, 100_000, 100_000]
    with pytest.raises(Reverted, match="no such place"):
        market.request(calls.raise_cap_call(job, 3, 0))
    market.request(calls.top_up_call(job), 77)
    assert job_of(market, job)["free"] == 77
    assert market.network.balance(JOB_MARKET) == 1_000_077


def test_a_job_has_64_places_at_most(tmp_path: Path) -> None:
    spec = market_spec()
    miners = tuple(genesis_miner(number, capacity=1) for number in range(80))
    market = start(tmp_path, dataclasses.replace(spec, miners=miners))
    try:
        job = market.open(miners=16, replicas=1, share=1)
        market.pass_blocks(1)
        events = market.send(STRANGER, JOB_MARKET, calls.assign_call(job))
        found = [event.miner for event in events if isinstance(event, calls.Assigned)]
        for _ in range(48):
            events = market.request(calls.extend_call(job, 1))
            found += [event.miner for event in events if isinstance(event, calls.Assigned)]
        assert len(set(found)) == len(found) == 64
        with pytest.raises(Reverted, match="as many places as a job may have"):
            market.request(calls.extend_call(job, 1))
        market.request(calls.close_call(job))
        market.pass_blocks(CLOSE)
        market.request(calls.refund_call(job))
        # Even that many places end in one call.
        assert market.network.balance(JOB_MARKET) == 0
        assert market.gas["last"] < 400_000
    finally:
        market.network.engine.close()


def test_amounts_end_at_96_bits(market: Market) -> None:
    job, _ = market.running()
    data = calls.top_up_call(job)
    balance = {hexed(address(REQUESTER)): {"balance": hex(2**100)}}
    request = json.dumps(
        {
            "from": hexed(address(REQUESTER)),
            "to": hexed(JOB_MARKET),
            "data": hexed(data),
            "value": hex(WEI_MAX - 700_000 + 1),
        }
    ).encode()
    engine = market.network.engine
    result = engine.call(
        engine.head.hash, request, gas_cap=10**6, state_overrides=json.dumps(balance).encode()
    )
    assert revert_reason(result) == "JobMarket: an amount has 96 bits"


@pytest.mark.parametrize(
    "data",
    [calls.extend_call(1, 1), calls.top_up_call(1), calls.raise_cap_call(1, 0, 1), calls.close_call(1)],
)
def test_a_job_is_its_requesters(market: Market, data: bytes) -> None:
    market.running()
    for other in (STRANGER, 0):
        with pytest.raises(Reverted, match="only the requester may"):
            market.request(data, sender=other)
    with pytest.raises(Reverted, match="no such job"):
        market.request(data[:4] + (2).to_bytes(32, "big") + data[36:])
    market.request(data)


@pytest.mark.parametrize("data", [calls.extend_call(1, 1), calls.raise_cap_call(1, 0, 1)])
def test_only_an_assigned_job_grows(market: Market, data: bytes) -> None:
    market.open()
    with pytest.raises(Reverted, match="not assigned, or over"):
        market.request(data)
    market.assign(1)
    market.request(calls.close_call(1))
    with pytest.raises(Reverted, match="not assigned, or over"):
        market.request(data)
    with pytest.raises(Reverted, match="the job is over"):
        market.request(calls.top_up_call(1), 1)


def test_a_job_that_waits_can_be_topped_up(market: Market) -> None:
    job = market.open()
    market.request(calls.top_up_call(job), 11)
    market.request(calls.close_call(job))
    assert market.network.balance(JOB_MARKET) == 0


# ---------------------------------------------------------------- the end


def test_a_job_without_miners_ends_at_once(market: Market) -> None:
    before = market.network.balance(address(REQUESTER))
    job = market.open(value=900_001)
    spent = before - market.network.balance(address(REQUESTER)) - 900_001
    [ended] = market.request(calls.close_call(job))
    assert ended == calls.Ended(job, 900_001)
    assert job_of(market, job)["state"] == ENDED
    assert job_of(market, job)["free"] == 0
    assert spent > 0
    for data in (calls.close_call(job), calls.refund_call(job), calls.assign_call(job)):
        with pytest.raises(Reverted, match=r"over|refunded already"):
            market.request(data)


def test_a_job_that_nobody_assigns_goes_back(market: Market) -> None:
    job = market.open(value=900_001)
    with pytest.raises(Reverted, match="it can still be assigned"):
        market.request(calls.refund_call(job), sender=STRANGER)
    market.pass_blocks(ASSIGN_WITHIN - 2)
    with pytest.raises(Reverted, match="it can still be assigned"):
        market.request(calls.refund_call(job), sender=STRANGER)
    assert market.block == job_of(market, job)["opened_block"] + ASSIGN_WITHIN
    before = market.network.balance(address(REQUESTER))
    [ended] = market.request(calls.refund_call(job), sender=STRANGER)
    assert ended == calls.Ended(job, 900_001)
    assert market.network.balance(address(REQUESTER)) == before + 900_001


def test_closing_leaves_time_and_then_pays_what_is_not_committed(market: Market) -> None:
    job, drawn = market.running()
    market.commit(job, 1, drawn[1], made(1, fuel=100), 10**6)
    with pytest.raises(Reverted, match="not closed, or refunded already"):
        market.request(calls.refund_call(job))
    [closing] = market.request(calls.close_call(job))
    assert closing == calls.Closing(job, market.block + CLOSE)
    record = job_of(market, job)
    assert (record["state"], record["closing_block"]) == (CLOSING, market.block)
    with pytest.raises(Reverted, match="the job is over"):
        market.request(calls.close_call(job))
    market.pass_blocks(CLOSE - 2)
    # The last block in which a commit is taken.
    assert market.block == record["closing_block"] + CLOSE - 1
    market.commit(job, 2, drawn[2], made(2, fuel=200), 10**6)
    with pytest.raises(Reverted, match="the job takes no batches"):
        market.commit(job, 2, drawn[2], made(3, fuel=200, first_index=1), 10**6)
    [ended] = market.request(calls.refund_call(job), sender=STRANGER)
    assert ended == calls.Ended(job, 1_000_000 - 300 * PRICE)
    with pytest.raises(Reverted, match="not closed, or refunded already"):
        market.request(calls.refund_call(job))
    # What was committed is there and will be paid.
    assert market.network.balance(JOB_MARKET) == 300 * PRICE
    market.approve(job, 1, [made(1, fuel=100)])
    market.approve(job, 2, [made(2, fuel=200)])
    assert market.network.balance(JOB_MARKET) == 0


def test_a_refund_waits_for_the_last_commit(market: Market) -> None:
    job, _ = market.running()
    market.request(calls.close_call(job))
    market.pass_blocks(CLOSE - 1)
    with pytest.raises(Reverted, match="miners may still commit"):
        market.request(calls.refund_call(job))
    market.request(calls.refund_call(job))


def test_anybody_closes_after_the_deadline(market: Market) -> None:
    deadline = market.network.engine.head.timestamp + 5
    job, _ = market.running(deadline=deadline)
    with pytest.raises(Reverted, match="only the requester may, before the deadline"):
        market.request(calls.close_call(job), sender=STRANGER)
    assert market.network.engine.head.timestamp == deadline - 1
    market.request(calls.close_call(job), sender=STRANGER)
    assert job_of(market, job)["state"] == CLOSING


def test_a_requester_that_refuses_its_money_can_claim_it(tmp_path: Path) -> None:
    market = start(tmp_path, with_hostile(market_spec()))
    try:
        data = calls.open_call(
            program_id=PINNED,
            details_hash=DETAILS,
            session_key=SESSION.address,
            max_price=100,
            miners=3,
            replicas=2,
            public=True,
            share=1,
        )
        forward(market, JOB_MARKET, data, 5_000)
        reply(market, refuse=True)
        events = forward(market, JOB_MARKET, calls.close_call(1))
        assert events == [calls.Ended(1, 5_000)]
        assert market.network.ask(JOB_MARKET, "owed(address)", "uint256", HOSTILE) == 5_000
        assert market.network.balance(JOB_MARKET) == 5_000
        with pytest.raises(Reverted):
            forward(market, JOB_MARKET, calls.claim_call())
        # It tries to be paid again while it is being paid.
        reply(market, to=JOB_MARKET, data=calls.claim_call())
        other = market.open()
        forward(market, JOB_MARKET, calls.claim_call())
        assert entered(market) == 1
        assert market.network.balance(HOSTILE) == 5_000
        assert market.network.balance(JOB_MARKET) == 1_000_000
        with pytest.raises(Reverted, match="nothing is owed"):
            forward(market, JOB_MARKET, calls.claim_call())
        assert job_of(market, other)["free"] == 700_000
    finally:
        market.network.engine.close()


def test_a_refund_lets_no_code_run(tmp_path: Path) -> None:
    market = start(tmp_path, with_hostile(market_spec()))
    try:
        data = calls.open_call(
            program_id=PINNED,
            details_hash=DETAILS,
            session_key=SESSION.address,
            max_price=100,
            miners=3,
            replicas=2,
            public=True,
            share=1,
        )
        forward(market, JOB_MARKET, data, 5_000)
        reply(market, to=JOB_MARKET, data=calls.close_call(1))
        forward(market, JOB_MARKET, calls.close_call(1))
        assert entered(market) == 0
        assert market.network.ask(JOB_MARKET, "owed(address)", "uint256", HOSTILE) == 5_000
    finally:
        market.network.engine.close()


# ---------------------------------------------------------------- who else may call


def test_only_settlement_reserves_and_withdraws(market: Market) -> None:
    market.running()
    for sender in (address(0), address(REQUESTER), JOB_MARKET):
        result = market.network.call(
            JOB_MARKET,
            "reserve(uint256,uint256,address,uint256,uint256,uint256)",
            *(1, 0, address(0), 1, 1, 10**9),
            sender=sender,
        )
        assert revert_reason(result) == "JobMarket: only Settlement reserves"
        result = market.network.call(JOB_MARKET, "withdraw(uint256)", 1, sender=sender)
        assert revert_reason(result) == "JobMarket: only Settlement withdraws"


def test_nobody_pays_in_without_a_job(market: Market) -> None:
    with pytest.raises(Reverted):
        market.network.send_data(0, JOB_MARKET, b"", value=1)


def test_places_of_no_job_are_none(market: Market) -> None:
    job = market.open()
    assert places_of(market, job) == places_of(market, 99) == []
    types = "(address,uint256,uint256,uint256,uint256)"
    empty = (hexed(bytes(20)), 0, 0, 0, 0)
    assert market.network.ask(JOB_MARKET, "place(uint256,uint256)", types, job, 0) == empty
    market.pass_blocks(1)
    market.assign(job)
    # A place number beyond its 12 bits names no place of another job.
    assert market.network.ask(JOB_MARKET, "place(uint256,uint256)", types, 0, (job << 12) | 1) == empty
