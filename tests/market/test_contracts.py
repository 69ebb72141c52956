"""The market's contracts as Python sees them: calls, answers, events and money fit what is compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.execution.system_contracts import artifact
from noria.market import contract_calls, contract_events, contracts
from noria.market.access import EventLog
from noria.market.contracts import (
    JOB_MARKET,
    PROGRAM_REGISTRY,
    SETTLEMENT,
    WORK_LEDGER,
    ContractSilent,
    JobState,
    MarketRules,
    MinerTerms,
    Place,
    PublishedProgram,
    SettledBatch,
    batch_price,
    decode_event,
    read_batch,
    read_floor_price,
    read_job,
    read_job_count,
    read_miner_terms,
    read_owed,
    read_place,
    read_places,
    read_program,
    read_rules,
    split_price,
)
from noria.market.typed_data import terms_hash
from noria.primitives.hashes import keccak256
from noria.primitives.types import Address, Hash32, Wei
from tests.contracts.market import (
    CHALLENGE,
    CLOSE,
    DETAILS,
    DEVELOPER,
    FEE,
    PINNED,
    PRICE,
    PROGRAM,
    REQUESTER,
    SESSION,
    Made,
    Market,
    made,
)
from tests.contracts.network import SMALL, address
from tests.market.chains import EngineAccess, FakeChain

NAMES = {
    JOB_MARKET: "JobMarket",
    SETTLEMENT: "Settlement",
    PROGRAM_REGISTRY: "ProgramRegistry",
    WORK_LEDGER: "WorkLedger",
    contracts.MINER_REGISTRY: "MinerRegistry",
}
BATCH = Made(b"\x01" * 32)
CALLS = [
    (
        JOB_MARKET,
        contracts.open_call(
            program_id=PINNED,
            details_hash=DETAILS,
            session_key=SESSION.address,
            max_price=1,
            miners=1,
            replicas=1,
            public=True,
            share=1,
            deadline=2,
        ),
    ),
    (
        JOB_MARKET,
        contracts.open_directed_call(
            program_id=PINNED,
            details_hash=DETAILS,
            session_key=SESSION.address,
            max_price=1,
            replicas=1,
            public=True,
            share=1,
            named=[address(0)],
        ),
    ),
    (JOB_MARKET, contracts.assign_call(1)),
    (JOB_MARKET, contracts.extend_call(1, 2)),
    (JOB_MARKET, contracts.top_up_call(1)),
    (JOB_MARKET, contracts.raise_cap_call(1, 2, 3)),
    (JOB_MARKET, contracts.close_call(1)),
    (JOB_MARKET, contracts.refund_call(1)),
    (JOB_MARKET, contracts.claim_call()),
    (SETTLEMENT, contracts.claim_call()),
    (SETTLEMENT, contracts.commit_call(1, 2, BATCH, 3, bytes(65))),
    (SETTLEMENT, contracts.commit_approved_call(1, 2, BATCH, bytes(65))),
    (SETTLEMENT, contracts.approve_call(1, 2, [BATCH.root], [bytes(65)])),
    (SETTLEMENT, contracts.finalize_call(1, 2, [BATCH.root])),
    (SETTLEMENT, contracts.credit_call(1, 2, [BATCH.root])),
    (PROGRAM_REGISTRY, contracts.publish_call(PROGRAM, 1, b"m")),
    (PROGRAM_REGISTRY, contracts.set_royalty_call(PROGRAM, 1)),
]


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    market = Market.start(tmp_path / "engine")
    yield market
    market.network.engine.close()


@pytest.fixture
def access(market: Market) -> EngineAccess:
    return EngineAccess(market)


def type_of(entry: dict[str, Any]) -> str:
    """The canonical type of an ABI entry."""
    kind: str = entry["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(type_of(part) for part in entry['components'])})" + kind[len("tuple") :]


def entries(contract: bytes, kind: str) -> dict[bytes, dict[str, Any]]:
    """Functions or events of a contract by the hash of their signature."""
    found = {}
    for entry in artifact(NAMES[Address(contract)]).abi:
        if entry["type"] == kind:
            types = ",".join(type_of(part) for part in entry["inputs"])
            found[bytes(keccak256(f"{entry['name']}({types})".encode()))] = entry
    return found


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize(("contract", "data"), CALLS)
def test_every_call_is_one_that_the_contract_has(contract: bytes, data: bytes) -> None:
    assert data[:4] in {selector[:4] for selector in entries(contract, "function")}


def test_every_event_is_one_that_a_contract_logs() -> None:
    for topic, kind in contract_events._BY_TOPIC.items():
        entry = entries(kind.contract, "event")[bytes(topic)]
        indexed = [type_of(part) for part in entry["inputs"] if part["indexed"]]
        rest = [type_of(part) for part in entry["inputs"] if not part["indexed"]]
        assert (indexed, rest) == (list(kind.topics), list(kind.data))
        names = [part["name"] for part in entry["inputs"] if part["indexed"]]
        names += [part["name"] for part in entry["inputs"] if not part["indexed"]]
        assert names == [field.name for field in dataclasses.fields(kind.make)]  # type: ignore[arg-type]
    # And nothing that the market logs is left out.
    for contract in (JOB_MARKET, SETTLEMENT, PROGRAM_REGISTRY):
        assert set(entries(contract, "event")) <= {bytes(topic) for topic in contract_events._BY_TOPIC}


@pytest.mark.parametrize(
    ("contract", "function", "type_"),
    [
        (JOB_MARKET, "job", contracts._JOB),
        (JOB_MARKET, "place", contracts._PLACE),
        (JOB_MARKET, "places", contracts._PLACE + "[]"),
        (SETTLEMENT, "batch", contracts._BATCH),
        (contracts.MINER_REGISTRY, "miner", contracts._MINER),
    ],
)
def test_every_answer_has_the_contracts_shape(contract: bytes, function: str, type_: str) -> None:
    [entry] = [found for found in entries(contract, "function").values() if found["name"] == function]
    assert [type_of(part) for part in entry["outputs"]] == [type_]


def test_events_of_others_are_none() -> None:
    good = EventLog(
        JOB_MARKET,
        (contracts.ENDED_TOPIC, contracts.job_topic(7)),
        (5).to_bytes(32, "big"),
        1,
        Hash32(bytes(32)),
    )
    assert decode_event(good) == contracts.Ended(7, 5)
    for changes in (
        {"address": SETTLEMENT},
        {"topics": ()},
        {"topics": (contracts.ENDED_TOPIC,)},
        {"topics": (Hash32(bytes(32)), contracts.job_topic(7))},
        {"data": b""},
    ):
        assert decode_event(dataclasses.replace(good, **changes)) is None
    assert contracts.address_topic(Address(b"\x01" * 20)) == bytes(12) + b"\x01" * 20


def test_a_list_is_bounded() -> None:
    with pytest.raises(ValueError, match="65 batches in one call: at most 64"):
        contracts.credit_call(1, 0, [bytes(32)] * (contract_calls.LIST_MAX + 1))


# ---------------------------------------------------------------- money


amounts = st.integers(0, 2**96 - 1)


@given(st.integers(0, 2**56 - 1), amounts, amounts, st.integers(1, 10_000))
def test_a_price_is_divided_without_remainder(fuel: int, price: int, royalty: int, basis_points: int) -> None:
    split = split_price(fuel, price, royalty, basis_points)
    assert split.total == batch_price(fuel, price, royalty) == fuel * (price + royalty)
    assert split.miner <= fuel * price
    assert split.developer <= fuel * royalty
    assert split.fee * 10_000 <= split.total * basis_points < (split.fee + 2) * 10_000


# ---------------------------------------------------------------- answers


async def test_a_job_is_read_through_its_life(market: Market, access: EngineAccess) -> None:
    market.publish(3)
    assert await read_job(access, 1) is None
    assert await read_job_count(access) == 0
    number = market.open(program_id=PROGRAM, deadline=2**40 - 1)
    job = await read_job(access, number)
    assert job is not None
    opened = market.block
    assert job == contracts.Job(
        number=1,
        state=JobState.OPEN,
        requester=address(REQUESTER),
        session_key=SESSION.address,
        terms=terms_hash(PROGRAM, DETAILS),
        opened_block=opened,
        closing_block=0,
        miners=3,
        places=0,
        replicas=2,
        public=True,
        directed=False,
        max_price=100,
        free=Wei(700_000),
        share=Wei(100_000),
        deadline=2**40 - 1,
        developer=address(DEVELOPER),
        royalty=3,
    )
    # Nobody has been drawn.
    assert not job.earns_credit
    assert not job.takes_commits(market.block, CLOSE)
    assert await read_place(access, number, 0) is None
    assert await read_places(access, number) == []
    market.pass_blocks(1)
    drawn = market.assign(number)
    places = await read_places(access, number)
    assert places == [
        Place(
            job=1,
            k=k,
            miner=address(miner),
            price=PRICE,
            cap=Wei(100_000),
            committed=Wei(0),
            next_index=0,
        )
        for k, miner in enumerate(drawn)
    ]
    assert await read_place(access, number, 2) == places[2]
    assert await read_place(access, number, 3) is None
    market.request(contracts.close_call(number))
    closing = await read_job(access, number)
    assert closing is not None
    assert (closing.state, closing.closing_block) == (JobState.CLOSING, market.block)
    last = market.block + CLOSE
    assert [closing.takes_commits(block, CLOSE) for block in (last, last + 1)] == [True, False]
    market.pass_blocks(CLOSE)
    market.request(contracts.refund_call(number))
    ended = await read_job(access, number)
    assert ended is not None
    assert ended.state is JobState.ENDED
    assert await read_job_count(access) == 1


@pytest.mark.parametrize(
    ("fields", "credit"),
    [
        ({}, True),
        ({"public": False}, False),
        ({"directed": True}, False),
        ({"replicas": 1}, False),
        ({"places": 1}, False),
    ],
)
def test_which_jobs_earn_credit(fields: dict[str, Any], credit: bool) -> None:
    job = contracts.Job(
        **{
            **{field.name: 1 for field in dataclasses.fields(contracts.Job)},
            **{"public": True, "directed": False, "replicas": 2, "places": 2},
            **fields,
        }
    )
    assert job.earns_credit is credit


async def test_a_batch_is_read(market: Market, access: EngineAccess) -> None:
    job, drawn = market.running()
    batch = made(1, fuel=900, weight=800, count=7)
    assert await read_batch(access, address(drawn[1]), batch.root) is None
    market.commit_approved(job, 1, drawn[1], batch)
    assert await read_batch(access, address(drawn[1]), batch.root) == SettledBatch(
        miner=address(drawn[1]),
        root=Hash32(batch.root),
        job=job,
        k=1,
        first_index=0,
        count=7,
        fuel=900,
        weight=800,
        block=market.block,
        paid=True,
        credited=False,
        void=False,
    )
    assert await read_batch(access, address(drawn[0]), batch.root) is None
    market.pass_blocks(CHALLENGE)
    market.credit(job, 1, [batch])
    found = await read_batch(access, address(drawn[1]), batch.root)
    assert found is not None
    assert found.credited


async def test_a_program_is_read(market: Market, access: EngineAccess) -> None:
    assert await read_program(access, PROGRAM) is None
    market.publish(12)
    program = await read_program(access, PROGRAM)
    assert program == PublishedProgram(program_id=PROGRAM, developer=address(DEVELOPER), royalty=12)
    assert not program.pinned
    pinned = await read_program(access, PINNED)
    assert pinned is not None
    assert (pinned.pinned, pinned.royalty) == (True, 0)


async def test_rules_and_terms_are_read(market: Market, access: EngineAccess) -> None:
    assert await read_rules(access) == MarketRules(CHALLENGE, CLOSE, FEE)
    assert await read_floor_price(access) == SMALL.floor_min_wei
    assert await read_miner_terms(access, address(0)) == MinerTerms(
        miner=address(0),
        capacity=100,
        ask_price=PRICE,
        peer="peer 0",
        bond=Wei(1_000),
        jailed_until_epoch=0,
    )
    assert await read_miner_terms(access, address(8)) is None
    for contract in (JOB_MARKET, SETTLEMENT):
        assert await read_owed(access, contract, address(0)) == 0


async def test_a_chain_without_market_is_named() -> None:
    access = FakeChain()
    for reading in (
        read_job(access, 1),
        read_places(access, 1),
        read_batch(access, address(0), bytes(32)),
        read_miner_terms(access, address(0)),
        read_rules(access),
    ):
        with pytest.raises(ContractSilent, match=r"does not answer .* \(0 bytes\): is this a Noria chain"):
            await reading
