"""Settlement: which batches are taken, when they are paid and to whom, and what becomes weight."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.chain.contract_view import ContractView
from noria.execution.consensus_state import CreditLine
from noria.execution.system_contracts import (
    JOB_MARKET,
    MINER_REGISTRY,
    REWARD_POOL,
    SETTLEMENT,
    WORK_LEDGER,
)
from noria.market import contracts as calls
from noria.market.contracts import FUEL_MAX, LIST_MAX, split_price
from noria.market.typed_data import Domain, sign_allow, sign_approval
from noria.primitives.types import Hash32
from noria.work.batches import BatchCommitment
from tests.contracts.chain import revert_reason
from tests.contracts.hostile import HOSTILE, entered, forward, reply, with_hostile
from tests.contracts.market import (
    CHALLENGE,
    DEVELOPER,
    FEE,
    PRICE,
    PROGRAM,
    REQUESTER,
    SESSION,
    STRANGER,
    Made,
    Market,
    key_of,
    made,
    market_spec,
)
from tests.contracts.network import Reverted, address, genesis_miner

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
PLENTY = 10**9
BATCH_TYPES = "(uint256,uint256,uint256,uint256,uint256,uint256,uint256,bool,bool,bool)"


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    market = Market.start(tmp_path / "engine")
    yield market
    market.network.engine.close()


def batch_of(market: Market, miner: int, batch: Made) -> tuple[int, ...]:
    found: tuple[int, ...] = market.network.ask(
        SETTLEMENT, "batch(address,bytes32)", BATCH_TYPES, address(miner), batch.root
    )
    return found


def balances(market: Market, *who: bytes) -> list[int]:
    return [market.network.balance(account) for account in who]


def lines(market: Market, miner: int) -> list[CreditLine]:
    return list(market.network.state().credits(address(miner)))


# ---------------------------------------------------------------- commit


def test_a_batch_is_kept_as_it_was_committed(market: Market) -> None:
    job, drawn = market.running(value=10**20, share=10**19)
    large = made(1, fuel=FUEL_MAX, weight=FUEL_MAX - 1, count=4096)
    events = market.commit(job, 2, drawn[2], large, 10**19)
    assert events == [
        calls.Committed(job, address(drawn[2]), 2, Hash32(large.root), 0, 4096, FUEL_MAX, FUEL_MAX - 1)
    ]
    block = market.block
    assert batch_of(market, drawn[2], large) == (
        *(job, 2, 0, 4096, FUEL_MAX, FUEL_MAX - 1, block),
        *(False, False, False),
    )
    market.commit(job, 2, drawn[2], made(2, count=3), 10**19)
    assert batch_of(market, drawn[2], made(2))[2] == 4096
    place = market.network.ask(
        JOB_MARKET, "place(uint256,uint256)", "(address,uint256,uint256,uint256,uint256)", job, 2
    )
    assert place[3:] == ((FUEL_MAX + 1_000) * PRICE, 4099)
    assert batch_of(market, drawn[0], large) == (0,) * 7 + (False,) * 3


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"count": 0}, "a batch has 1 to 4096 receipts"),
        ({"count": 4097}, "a batch has 1 to 4096 receipts"),
        ({"fuel": FUEL_MAX + 1}, "a batch has less than 2.56 fuel"),
        ({"fuel": 10, "weight": 11}, "a batch weighs no more than its fuel"),
    ],
)
def test_what_is_no_batch_is_refused(market: Market, fields: dict[str, int], reason: str) -> None:
    job, drawn = market.running()
    with pytest.raises(Reverted, match=reason):
        market.commit(job, 0, drawn[0], made(1, **fields), PLENTY)
    with pytest.raises(Reverted, match=reason):
        market.commit_approved(job, 0, drawn[0], made(1, **fields))


def test_a_root_is_committed_once_by_a_miner(market: Market) -> None:
    job, drawn = market.running()
    market.commit(job, 0, drawn[0], made(1), PLENTY)
    with pytest.raises(Reverted, match="committed already"):
        market.commit(job, 0, drawn[0], made(1), PLENTY)
    # A miner that copies it stands in nobody's way, and lies.
    market.commit(job, 1, drawn[1], made(1), PLENTY)
    assert batch_of(market, drawn[0], made(1))[1] == 0
    assert batch_of(market, drawn[1], made(1))[1] == 1


def test_only_the_places_miner_commits(market: Market) -> None:
    job, drawn = market.running()
    for sender in (drawn[1], STRANGER, REQUESTER):
        with pytest.raises(Reverted, match="not the miner of this place"):
            market.commit(job, 0, sender, made(1), PLENTY)
    for k in (3, 4096, 2**12, 2**255):
        with pytest.raises((Reverted, ValueError), match=r"not the miner of this place|k is 0 to"):
            market.commit(job, k, drawn[0], made(1), PLENTY)
    with pytest.raises(Reverted, match="no such job"):
        market.commit(job + 1, 0, drawn[0], made(1), PLENTY)
    # A place of another job by a number that runs over.
    request = calls.commit_call(0, (job << 12) | 0, made(1), PLENTY, bytes(65))
    with pytest.raises(Reverted, match="no such job"):
        market.send(drawn[0], SETTLEMENT, request)


def test_a_job_that_waits_takes_no_batches(market: Market) -> None:
    job = market.open()
    with pytest.raises(Reverted, match="the job takes no batches"):
        market.commit(job, 0, 0, made(1), PLENTY)


def test_a_place_charges_no_more_than_its_cap_and_its_allow(market: Market) -> None:
    job, drawn = market.running(share=100_000)
    miner = drawn[0]
    with pytest.raises(Reverted, match="more than the requester has allowed"):
        market.commit(job, 0, miner, made(1, fuel=1_000), 6_999)
    market.commit(job, 0, miner, made(1, fuel=1_000), 7_000)
    # The total counts what was committed before.
    with pytest.raises(Reverted, match="more than the requester has allowed"):
        market.commit(job, 0, miner, made(2, fuel=1_000), 13_999)
    market.commit(job, 0, miner, made(2, fuel=1_000), 14_000)
    fits = (100_000 - 14_000) // PRICE
    with pytest.raises(Reverted, match="more than the place's cap"):
        market.commit(job, 0, miner, made(3, fuel=fits + 1), PLENTY)
    with pytest.raises(Reverted, match="more than the place's cap"):
        market.commit_approved(job, 0, miner, made(3, fuel=fits + 1, first_index=2))
    # To the wei.
    short = PRICE * (fits + 1) - (100_000 - 14_000)
    market.request(calls.raise_cap_call(job, 0, short - 1))
    with pytest.raises(Reverted, match="more than the place's cap"):
        market.commit_approved(job, 0, miner, made(3, fuel=fits + 1, first_index=2))
    market.request(calls.raise_cap_call(job, 0, 1))
    market.commit_approved(job, 0, miner, made(3, fuel=fits + 1, first_index=2))


# ---------------------------------------------------------------- signatures


def test_requester_and_session_key_sign_and_nobody_else(market: Market) -> None:
    job, drawn = market.running()
    market.commit(job, 0, drawn[0], made(1), PLENTY, key=SESSION)
    market.commit(job, 0, drawn[0], made(2), PLENTY, key=key_of(REQUESTER))
    for key in (key_of(drawn[0]), key_of(STRANGER)):
        with pytest.raises(Reverted, match="not signed by the requester"):
            market.commit(job, 0, drawn[0], made(3), PLENTY, key=key)
        with pytest.raises(Reverted, match="not signed by the requester"):
            market.commit_approved(job, 0, drawn[0], made(3, first_index=2), key=key)
        with pytest.raises(Reverted, match="not signed by the requester"):
            market.approve(job, 0, [made(1)], key=key)


def test_a_signature_is_good_for_one_thing_alone(market: Market) -> None:
    job, drawn = market.running()
    other, _ = market.running()
    domain, miner = market.domain, drawn[0]
    good = sign_allow(SESSION, domain, job, 0, 50_000)
    bad = [
        sign_allow(SESSION, Domain(domain.chain_id + 1, domain.genesis_root), job, 0, 50_000),
        sign_allow(SESSION, Domain(domain.chain_id, Hash32(b"\1" * 32)), job, 0, 50_000),
        sign_allow(SESSION, domain, other, 0, 50_000),
        sign_allow(SESSION, domain, job, 1, 50_000),
        sign_allow(SESSION, domain, job, 0, 50_001),
        sign_approval(SESSION, domain, job, 0, made(1)),
    ]
    for signature in bad:
        with pytest.raises(Reverted, match="not signed by the requester"):
            market.commit(job, 0, miner, made(1), 50_000, allow=signature)
    market.commit(job, 0, miner, made(1), 50_000, allow=good)


@pytest.mark.parametrize(
    "change",
    [
        {"root": made(9).root},
        {"fuel": 999, "weight": 999},
        {"weight": 0},
        {"count": 2},
        {"first_index": 1},
    ],
)
def test_an_approval_is_of_one_batch(market: Market, change: dict[str, Any]) -> None:
    job, drawn = market.running()
    batch = made(1)
    approval = sign_approval(SESSION, market.domain, job, 0, dataclasses.replace(batch, **change))
    data = calls.commit_approved_call(job, 0, batch, approval)
    with pytest.raises(Reverted, match="not signed by the requester"):
        market.send(drawn[0], SETTLEMENT, data)
    market.commit(job, 0, drawn[0], batch, PLENTY)
    with pytest.raises(Reverted, match="not signed by the requester"):
        market.send(STRANGER, SETTLEMENT, calls.approve_call(job, 0, [batch.root], [approval]))


def test_malleable_and_empty_signatures_are_refused(market: Market) -> None:
    # Without a session key, a signature of nobody must not pass for one of nobody's key.
    job, drawn = market.running(session_key=bytes(20))
    good = sign_allow(key_of(REQUESTER), market.domain, job, 0, PLENTY)
    r, s, parity = good[:32], int.from_bytes(good[32:64], "big"), good[64]
    twin = r + (ORDER - s).to_bytes(32, "big") + bytes([1 - parity])
    for signature, reason in (
        (twin, "a malleable signature"),
        (good[:64] + b"\x02", "a malleable signature"),
        (good[:64] + b"\x1d", "a malleable signature"),
        (good[:64], "a signature has 65 bytes"),
        (b"", "a signature has 65 bytes"),
        (bytes(65), "not signed by the requester"),
        (b"\xff" * 32 + good[32:], "not signed by the requester"),
    ):
        with pytest.raises(Reverted, match=reason):
            market.commit(job, 0, drawn[0], made(1), PLENTY, allow=signature)
    # As wallets write it.
    market.commit(job, 0, drawn[0], made(1), PLENTY, allow=good[:64] + bytes([27 + parity]))


def test_approvals_in_a_list_are_compact(market: Market) -> None:
    job, drawn = market.running()
    for number in range(3):
        market.commit(job, 0, drawn[0], made(number), PLENTY)
    good = sign_approval(SESSION, market.domain, job, 0, made(0))
    r, s, parity = good[:32], int.from_bytes(good[32:64], "big"), good[64]
    for signature in (
        r + (ORDER - s).to_bytes(32, "big") + bytes([1 - parity]),
        good[:64] + b"\x02",
        good[:64],
        b"",
    ):
        with pytest.raises(ValueError, match=r"is no signature|is malleable"):
            calls.approve_call(job, 0, [made(0).root], [signature])
    high = (ORDER // 2 + 1).to_bytes(32, "big")
    for signature, reason in (
        (good[:64] + bytes([1 - parity]), "not signed by the requester"),
        (bytes(65), "not signed by the requester"),
        (r + high + bytes([parity]), "a malleable signature"),
    ):
        with pytest.raises(Reverted, match=reason):
            market.send(STRANGER, SETTLEMENT, calls.approve_call(job, 0, [made(0).root], [signature]))
    # As wallets write it, and as this program does.
    as_wallets = good[:64] + bytes([27 + parity])
    market.send(STRANGER, SETTLEMENT, calls.approve_call(job, 0, [made(0).root], [as_wallets]))
    keys = {1: SESSION, 2: key_of(REQUESTER)}
    both = [
        sign_approval(key, market.domain, job, 0, made(number, first_index=number))
        for number, key in keys.items()
    ]
    roots = [made(number).root for number in keys]
    assert len(market.send(STRANGER, SETTLEMENT, calls.approve_call(job, 0, roots, both))) == 3


def test_the_domain_is_as_python_says(market: Market) -> None:
    separator = market.network.call(SETTLEMENT, "domain_separator()").output
    assert separator == market.domain.separator


# ---------------------------------------------------------------- payment


def test_an_approved_batch_is_paid_at_once(market: Market) -> None:
    market.publish(3)
    job, drawn = market.running(program_id=PROGRAM)
    miner = address(drawn[0])
    developer, market_before = balances(market, address(DEVELOPER), JOB_MARKET)
    burned = market.network.burned()
    fuel = 1_234
    events = market.commit_approved(job, 0, drawn[0], made(1, fuel=fuel))
    split = split_price(fuel, PRICE, 3, FEE)
    assert events[1:] == [
        calls.Paid(job, 0, Hash32(made(1).root), fuel * (PRICE + 3)),
        calls.Settled(job, 0, split.miner, split.developer, split.fee),
    ]
    assert split.total == fuel * 10
    assert balances(market, address(DEVELOPER), JOB_MARKET) == [
        developer + split.developer,
        market_before - split.total,
    ]
    assert market.network.burned() - burned == split.fee - split.fee // 2
    assert market.network.ask(REWARD_POOL, "fees()", "uint256") == split.fee
    before = market.network.balance(miner)
    market.commit(job, 0, drawn[0], made(2, fuel=fuel), PLENTY)
    spent = before - market.network.balance(miner)
    market.approve(job, 0, [made(2, fuel=fuel, first_index=1)])
    assert market.network.balance(miner) == before - spent + split.miner
    assert batch_of(market, drawn[0], made(2))[7:] == (True, False, False)
    assert balances(market, SETTLEMENT, WORK_LEDGER) == [0, 0]


def test_a_batch_is_paid_once(market: Market) -> None:
    job, drawn = market.running()
    first, second = made(1), made(2, first_index=1)
    market.commit_approved(job, 0, drawn[0], first)
    market.commit(job, 0, drawn[0], second, PLENTY)
    before = market.network.balance(JOB_MARKET)
    # What is paid already is passed over, also where it stands twice in a list.
    events = market.approve(job, 0, [first, second, second])
    assert [event for event in events if isinstance(event, calls.Paid)] == [
        calls.Paid(job, 0, Hash32(second.root), 7_000)
    ]
    assert market.network.balance(JOB_MARKET) == before - 7_000
    market.pass_blocks(CHALLENGE)
    with pytest.raises(Reverted, match="nothing to pay"):
        market.approve(job, 0, [first, second])
    for batches in ([first, second], []):
        with pytest.raises(Reverted, match="nothing to pay"):
            market.finalize(job, 0, batches)


def test_without_approval_time_pays(market: Market) -> None:
    job, drawn = market.running()
    batch = made(1)
    market.commit(job, 0, drawn[0], batch, PLENTY)
    committed = market.block
    market.pass_blocks(CHALLENGE - 2)
    with pytest.raises(Reverted, match="it may still be challenged"):
        market.finalize(job, 0, [batch])
    assert market.block == committed + CHALLENGE - 1
    before = market.network.balance(address(drawn[0]))
    market.finalize(job, 0, [batch, batch])
    assert market.network.balance(address(drawn[0])) == before + split_price(1_000, PRICE, 0, FEE).miner


def test_lists_are_of_one_place(market: Market) -> None:
    job, drawn = market.running()
    market.commit(job, 0, drawn[0], made(1), PLENTY)
    market.commit(job, 1, drawn[1], made(2), PLENTY)
    market.pass_blocks(CHALLENGE)
    for batches, k in (([made(1), made(2)], 0), ([made(1)], 1), ([made(3)], 0), ([made(1)], 3)):
        with pytest.raises(Reverted, match="the place has no such batch"):
            market.finalize(job, k, batches)
        with pytest.raises(Reverted, match="the place has no such batch"):
            market.approve(job, k, batches)
    with pytest.raises(Reverted, match="the place has no such batch"):
        market.finalize(job + (1 << 40), 0, [made(1)])
    with pytest.raises(Reverted, match="not one approval for each batch"):
        market.send(STRANGER, SETTLEMENT, calls.approve_call(job, 0, [made(1).root], []))
    with pytest.raises(ValueError, match=f"at most {LIST_MAX}"):
        market.finalize(job, 0, [made(number) for number in range(LIST_MAX + 1)])


def test_a_batch_has_the_price_of_its_own_job(market: Market) -> None:
    cheap = market.open(named=[0], replicas=1)
    market.network.grow_to_epoch(1)
    market.network.send(0, MINER_REGISTRY, "update(bytes,uint256,uint256)", b"peer", 100, 70)
    dear = market.open(named=[0], replicas=1)
    market.commit(cheap, 0, 0, made(1), PLENTY)
    market.pass_blocks(CHALLENGE)
    # The same miner's, but of another place.
    with pytest.raises(Reverted, match="the place has no such batch"):
        market.finalize(dear, 0, [made(1)])
    with pytest.raises(Reverted, match="the place has no such batch"):
        market.approve(dear, 0, [made(1)])
    [paid, _] = market.finalize(cheap, 0, [made(1)])
    assert paid == calls.Paid(cheap, 0, Hash32(made(1).root), 1_000 * PRICE)


def test_a_free_batch_is_paid_with_nothing(tmp_path: Path) -> None:
    market = Market.start(tmp_path / "engine", market_spec(ask_price=0))
    try:
        job, drawn = market.running()
        events = market.commit_approved(job, 0, drawn[0], made(1))
        assert events[-1] == calls.Settled(job, 0, 0, 0, 0)
        market.pass_blocks(CHALLENGE)
        market.credit(job, 0, [made(1)])
        # No fee, no weight; and it may be tried again.
        assert lines(market, drawn[0]) == []
        assert batch_of(market, drawn[0], made(1))[8] is False
    finally:
        market.network.engine.close()


@pytest.mark.parametrize("role", ["miner", "developer"])
def test_who_refuses_its_money_can_claim_it(tmp_path: Path, role: str) -> None:
    market = Market.start(tmp_path / "engine", with_hostile(market_spec(0), mines=True))
    try:
        if role == "developer":
            forward(market, calls.PROGRAM_REGISTRY, calls.publish_call(PROGRAM, 5, b""))
            job = market.open(program_id=PROGRAM, miners=1, replicas=1)
        else:
            job = market.open(miners=1, replicas=1)
        market.pass_blocks(1)
        market.send(STRANGER, JOB_MARKET, calls.assign_call(job))
        approval = sign_approval(SESSION, market.domain, job, 0, made(1))
        reply(market, refuse=True)
        forward(market, SETTLEMENT, calls.commit_approved_call(job, 0, made(1), approval))
        split = split_price(1_000, PRICE, 5 if role == "developer" else 0, FEE)
        owed = split.miner + split.developer
        assert market.network.balance(SETTLEMENT) == owed
        assert market.network.ask(SETTLEMENT, "owed(address)", "uint256", HOSTILE) == owed
        with pytest.raises(Reverted):
            forward(market, SETTLEMENT, calls.claim_call())
        # While it is paid it tries everything again.
        reply(market, to=SETTLEMENT, data=calls.claim_call())
        forward(market, SETTLEMENT, calls.claim_call())
        assert entered(market) == 1
        assert balances(market, HOSTILE, SETTLEMENT) == [owed, 0]
        # With the stipend of a plain payment it can do nothing.
        reply(market, to=SETTLEMENT, data=calls.finalize_call(job, 0, [made(2).root]))
        approval = sign_approval(SESSION, market.domain, job, 0, made(2, first_index=1))
        forward(market, SETTLEMENT, calls.commit_approved_call(job, 0, made(2), approval))
        assert entered(market) == 1
        assert balances(market, HOSTILE, SETTLEMENT) == [owed, owed]
    finally:
        market.network.engine.close()


def test_nobody_else_pays_in(market: Market) -> None:
    with pytest.raises(Reverted, match="only JobMarket pays in"):
        market.network.send_data(0, SETTLEMENT, b"", value=1)
    with pytest.raises(Reverted, match="nothing is owed"):
        market.send(0, SETTLEMENT, calls.claim_call())


@given(
    batches=st.lists(st.integers(0, 5_000), min_size=1, max_size=6),
    price=st.integers(0, 40),
    royalty=st.integers(0, 40),
)
@settings(max_examples=15, deadline=None)
def test_a_price_is_divided_as_python_says(
    batches: list[int], price: int, royalty: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    market = Market.start(tmp_path_factory.mktemp("price") / "engine", market_spec(ask_price=price))
    try:
        if royalty:
            market.publish(royalty)
        job, drawn = market.running(program_id=PROGRAM, share=333_333 * 10, value=10**8)
        held = market.network.balance(JOB_MARKET)
        listed = [made(number, fuel=fuel, first_index=number) for number, fuel in enumerate(batches)]
        for batch in listed:
            market.commit(job, 0, drawn[0], batch, PLENTY)
        burned, fees = market.network.burned(), market.network.ask(REWARD_POOL, "fees()", "uint256")
        [*paid, settled] = market.approve(job, 0, listed)
        splits = [split_price(fuel, price, royalty, FEE) for fuel in batches]
        assert isinstance(settled, calls.Settled)
        assert settled.miner_wei == sum(split.miner for split in splits)
        assert settled.developer_wei == sum(split.developer for split in splits)
        assert settled.fee == sum(split.fee for split in splits)
        assert [event.amount for event in paid if isinstance(event, calls.Paid)] == [
            calls.batch_price(fuel, price, royalty) for fuel in batches
        ]
        assert held - market.network.balance(JOB_MARKET) == sum(split.total for split in splits)
        assert market.network.burned() - burned == settled.fee - settled.fee // 2
        if market.network.epoch == 0:
            assert market.network.ask(REWARD_POOL, "fees()", "uint256") - fees == settled.fee
        assert market.network.balance(SETTLEMENT) == 0
    finally:
        market.network.engine.close()


# ---------------------------------------------------------------- credit


FEE_PER_FUEL = 1_000 * FEE // 10_000
"""Wei of fee that back a fuel at the least floor price."""
DEAR = 1_000
"""A price at which the fee backs all fuel."""


def dear_market(tmp_path: Path) -> Market:
    return Market.start(tmp_path / "engine", market_spec(ask_price=DEAR))


def dear_job(market: Market) -> tuple[int, list[int]]:
    return market.running(max_price=DEAR, value=10**9, share=10**8)


def test_a_paid_batch_becomes_weight_with_its_commitment(tmp_path: Path) -> None:
    market = dear_market(tmp_path)
    try:
        job, drawn = dear_job(market)
        batch = made(1, fuel=900, weight=700, count=5)
        market.commit_approved(job, 1, drawn[1], batch)
        market.pass_blocks(CHALLENGE - 2)
        with pytest.raises(Reverted, match="it may still be challenged"):
            market.credit(job, 1, [batch])
        [credited] = market.credit(job, 1, [batch, batch])
        assert credited == calls.Credited(address(drawn[1]), Hash32(batch.root), 700, 700)
        assert lines(market, drawn[1]) == [CreditLine(Hash32(batch.root), market.network.epoch, 700)]
        # A certificate is checked from the state alone.
        view = ContractView(market.network.state(), Hash32(market.network.genesis_root()), Hash32(bytes(32)))
        assert view.commitment(address(drawn[1]), Hash32(batch.root)) == BatchCommitment(
            genesis_root=Hash32(market.network.genesis_root()),
            job=job,
            k=1,
            miner=address(drawn[1]),
            first_index=0,
            count=5,
            root=Hash32(batch.root),
            fuel=900,
            weight=700,
        )
        assert view.commitment(address(drawn[0]), Hash32(batch.root)) is None
        with pytest.raises(Reverted, match="nothing to credit"):
            market.credit(job, 1, [batch])
        # The price counts for the floor, with the whole weight that was credited.
        sums = market.network.ask(WORK_LEDGER, "sums(uint256)", "(uint256,uint256,uint256)", 99)
        assert sums[1:] == (900 * DEAR, 700)
    finally:
        market.network.engine.close()


def test_credit_is_no_more_than_the_fee_backs(market: Market) -> None:
    job, drawn = market.running()
    batches = [made(number, fuel=1_000, first_index=number) for number in range(3)]
    for batch in batches:
        market.commit_approved(job, 0, drawn[0], batch)
    market.pass_blocks(CHALLENGE)
    market.credit(job, 0, batches)
    each = 1_000 * PRICE * FEE // 10_000 // FEE_PER_FUEL
    assert [line.cumulative for line in lines(market, drawn[0])] == [each, 2 * each, 3 * each]
    assert each == 7


def test_credit_counts_the_fees_that_were_paid(tmp_path: Path) -> None:
    market = Market.start(tmp_path / "engine", market_spec(ask_price=91))
    try:
        market.publish(9)
        job, drawn = market.running(program_id=PROGRAM)
        # 5 % of 910 and of 90, rounded down by themselves: a wei too little for one fuel.
        batch = made(1, fuel=10)
        assert split_price(10, 91, 9, FEE).fee == FEE_PER_FUEL - 1
        market.commit_approved(job, 0, drawn[0], batch)
        market.pass_blocks(CHALLENGE)
        market.credit(job, 0, [batch])
        assert lines(market, drawn[0]) == []
    finally:
        market.network.engine.close()


def test_a_batch_is_credited_after_it_was_paid(market: Market) -> None:
    job, drawn = market.running()
    market.commit(job, 0, drawn[0], made(1), PLENTY)
    market.pass_blocks(CHALLENGE)
    with pytest.raises(Reverted, match="a batch is not paid"):
        market.credit(job, 0, [made(1)])
    market.finalize(job, 0, [made(1)])
    market.credit(job, 0, [made(1)])
    assert len(lines(market, drawn[0])) == 1
    with pytest.raises(Reverted, match="the place has no such batch"):
        market.credit(job, 0, [made(2)])


@pytest.mark.parametrize("fields", [{"public": False}, {"replicas": 1}, {"named": [0, 1, 2]}])
def test_only_drawn_public_replicated_work_is_credited(market: Market, fields: dict[str, Any]) -> None:
    job = market.open(**fields)
    market.pass_blocks(1)
    drawn = [0, 1, 2] if "named" in fields else market.assign(job)
    market.commit_approved(job, 0, drawn[0], made(1))
    market.pass_blocks(CHALLENGE)
    with pytest.raises(Reverted, match="only drawn, public jobs with two replicas and miners"):
        market.credit(job, 0, [made(1)])
    assert lines(market, drawn[0]) == []


def test_a_miner_alone_earns_no_credit(tmp_path: Path) -> None:
    spec = market_spec()
    miners = (genesis_miner(0, ask_price=DEAR), genesis_miner(1, ask_price=DEAR + 1))
    market = Market.start(tmp_path / "engine", dataclasses.replace(spec, miners=miners))
    try:
        # A price at which only one can be drawn makes no job of two replicas.
        job, drawn = market.running(miners=2, max_price=DEAR, value=10**9, share=10**8)
        assert drawn == [0]
        market.commit_approved(job, 0, 0, made(1))
        market.pass_blocks(CHALLENGE)
        with pytest.raises(Reverted, match="only drawn, public jobs with two replicas and miners"):
            market.credit(job, 0, [made(1)])
    finally:
        market.network.engine.close()


def test_what_is_credited_can_be_voided_once_found_wrong(tmp_path: Path) -> None:
    market = dear_market(tmp_path)
    try:
        job, drawn = dear_job(market)
        one, two = made(1), made(2, first_index=1)
        for batch in (one, two):
            market.commit_approved(job, 0, drawn[0], batch)
        with pytest.raises(Reverted, match="no such batch"):
            market.network.as_court(WORK_LEDGER, "void(address,bytes32)", address(drawn[0]), one.root)
        market.pass_blocks(CHALLENGE)
        market.credit(job, 0, [one, two])
        before = lines(market, drawn[0])
        market.network.as_court(WORK_LEDGER, "void(address,bytes32)", address(drawn[0]), one.root)
        assert lines(market, drawn[0]) == before
        state = market.network.state()
        found = [state.batch(address(drawn[0]), Hash32(batch.root)) for batch in (one, two)]
        assert [batch is not None and batch.void for batch in found] == [True, False]
        assert state.batch(address(drawn[1]), Hash32(one.root)) is None
        with pytest.raises(Reverted, match="nothing to credit"):
            market.credit(job, 0, [one])
        for sender in (address(0), SETTLEMENT):
            result = market.network.call(
                SETTLEMENT, "void(address,bytes32)", address(drawn[0]), one.root, sender=sender
            )
            assert revert_reason(result) == "Settlement: only WorkLedger voids"
    finally:
        market.network.engine.close()


def test_credit_does_not_reach_back(tmp_path: Path) -> None:
    market = dear_market(tmp_path)
    try:
        job, drawn = dear_job(market)
        market.commit_approved(job, 0, drawn[0], made(1))
        market.network.grow_to_epoch(market.network.epoch + 3)
        market.pass_blocks(CHALLENGE)
        market.credit(job, 0, [made(1)])
        assert lines(market, drawn[0])[0].epoch == market.network.epoch
    finally:
        market.network.engine.close()
