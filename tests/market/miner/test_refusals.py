"""What a miner does not take on, each by its name; and bytes that are no message."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.market.contracts import JobState
from noria.market.messages import (
    MESSAGE_BYTES_MAX,
    NAMES_MAX,
    UNITS_MAX,
    Ask,
    BlobPart,
    BytesPart,
    Collect,
    Hello,
    Order,
    Put,
    Quote,
    Read,
    Unit,
    encode_message,
)
from noria.market.miner.admission import INPUT_BYTES_MAX, UNIT_FUEL_MAX, Declined, check_unit
from noria.market.miner.session import INLINE_QUEUED_MAX, WINDOW
from noria.network.peers import PeerId
from noria.network.transport import Request
from noria.primitives.types import Address
from noria.work.ids import ProgramId, blob_id
from tests.market.miner.world import MINER, PRICE, PROTOCOL, STRANGER, Boss, Miner, declined
from tests.work.modules import turns


async def test_anybody_may_ask_what_work_costs(miner: Miner) -> None:
    quote = await miner.ask(Ask(), "somebody")
    assert isinstance(quote, Quote)
    assert (quote.version, quote.miner, quote.ask_price) == (1, MINER.address, str(PRICE))
    assert (quote.workers, quote.running, quote.queued) == (1, 0, 0)


async def test_a_hello_is_refused_by_name(miner: Miner, echo: ProgramId, spin: ProgramId) -> None:
    boss = Boss(miner, echo)
    assert await declined(boss.hello(version=2)) == "old-version"
    assert await declined(boss.hello()) == "unknown-job"
    miner.chain.open(program=echo)
    assert await declined(boss.hello(program=spin)) == "wrong-terms"
    assert await declined(boss.hello(details=b"others")) == "wrong-terms"
    assert await declined(replace(boss, k=1).hello()) == "unknown-job"
    assert await declined(replace(boss, job=2).hello()) == "unknown-job"
    assert await declined(replace(boss, key=STRANGER).hello()) == "wrong-signature"
    # A signature for one peer is worth nothing from another one.
    good = await boss.hello()
    assert good.known == []
    signed_for_boss = Hello(1, 1, 0, echo, b"details", bytes(65))
    with pytest.raises(Declined, match="wrong-signature"):
        await miner.ask(signed_for_boss, "boss")
    assert await declined(replace(boss, peer="thief").hello(signature=bytes(64) + b"\1")) == "wrong-signature"


async def test_a_job_that_is_not_this_miners_or_is_not_drawn_yet(miner: Miner, echo: ProgramId) -> None:
    boss = Boss(miner, echo)
    miner.chain.open(program=echo)
    miner.chain.change_place(miner=Address(b"\x09" * 20))
    assert await declined(boss.hello()) == "unknown-job"
    miner.chain.change_place(miner=MINER.address)
    miner.chain.change_job(state=JobState.OPEN)
    assert await declined(boss.hello()) == "unknown-job"
    miner.chain.change_job(state=JobState.ASSIGNED)
    await boss.hello()


@pytest.mark.parametrize("state", [JobState.CLOSING, JobState.ENDED])
async def test_a_job_that_is_over_is_closed(miner: Miner, echo: ProgramId, state: JobState) -> None:
    miner.chain.open(program=echo, state=state)
    assert await declined(Boss(miner, echo).hello()) == "closed"


async def test_a_job_past_its_deadline_is_closed(miner: Miner, echo: ProgramId) -> None:
    miner.chain.open(program=echo, deadline=miner.chain.times[-1])
    assert await declined(Boss(miner, echo).hello()) == "closed"
    miner.chain.open(2, program=echo, deadline=miner.chain.times[-1] + 100)
    await Boss(miner, echo, job=2).hello()


async def test_nobody_says_anything_without_a_session(miner: Miner, echo: ProgramId) -> None:
    miner.chain.open(program=echo)
    boss = Boss(miner, echo)
    assert await declined(boss.order(boss.unit(1, b"x"))) == "no-session"
    assert await declined(boss.collect(0)) == "no-session"
    assert await declined(boss.put(bytes(32), b"x")) == "no-session"
    assert await declined(boss.read(1, 0)) == "no-session"
    await boss.hello()
    other = replace(boss, peer="other")
    assert await declined(other.collect(0)) == "no-session"
    # Whoever says hello last speaks for the job.
    await other.hello()
    await other.collect(0)
    assert await declined(boss.collect(0)) == "no-session"


async def test_units_are_refused_one_by_one(miner: Miner, echo: ProgramId) -> None:
    miner.chain.open(program=echo)
    boss = Boss(miner, echo)
    await boss.hello()
    absent = BlobPart(b"\x05" * 32, 10)
    refused = await boss.order(
        boss.unit(1, b"fine"),
        boss.unit(2, b"x", limit=UNIT_FUEL_MAX + 1),
        boss.unit(3, b"x", absent),
        boss.unit(4, *[b"y" * (256 << 10)] * 15),
        allow=10**12,
    )
    assert refused == [(2, "fuel-limit"), (3, "blob-missing")]
    assert await boss.order(boss.unit(1, b"other")) == [(1, "number-taken")]
    assert await boss.order(boss.unit(1, b"fine")) == []
    await boss.collect_all(2, taken=[])
    assert await boss.order(boss.unit(1, b"other")) == [(1, "number-taken")]
    assert await boss.order(boss.unit(1, b"fine")) == []
    await boss.collect(0)
    assert await boss.order(boss.unit(1, b"fine")) == [(1, "number-taken")]
    assert await declined(boss.read(77, 0)) == "malformed"


def test_an_input_that_is_too_long_in_all() -> None:
    half = BlobPart(bytes(32), INPUT_BYTES_MAX // 2)
    assert check_unit(Unit(1, 1, [half, half])) is None
    refused = check_unit(Unit(1, 1, [half, BytesPart(b"x"), half]))
    assert refused is not None
    assert refused.reason == "input-too-large"


async def test_a_blob_that_is_not_as_long_as_it_is_said_to_be(miner: Miner, echo: ProgramId) -> None:
    miner.chain.open(program=echo)
    boss = Boss(miner, echo)
    await boss.hello()
    data = bytes(100_000)
    name = blob_id(data)
    assert (await boss.put(name, data)).complete
    # Sizes are summed up before anything is joined: what is said must be what is here.
    understated = boss.unit(1, *[BlobPart(name, 0)] * 16)
    overstated = boss.unit(2, BlobPart(name, len(data)), BlobPart(name, len(data) + 1))
    right = boss.unit(3, BlobPart(name, len(data)))
    refused = await boss.order(understated, overstated, right, allow=10**12)
    assert refused == [(1, "blob-size"), (2, "blob-size")]
    await boss.collect_all(1)
    assert list(boss.results) == [3]


async def test_a_window_that_is_full(miner: Miner, spin: ProgramId) -> None:
    miner.chain.open(program=spin)
    boss = Boss(miner, spin)
    welcome = await boss.hello()
    assert welcome.window == WINDOW
    slow = turns(10**12)
    for first in range(0, WINDOW, UNITS_MAX):
        numbers = range(first, min(first + UNITS_MAX, WINDOW))
        assert await boss.order(*[boss.unit(n, slow, limit=10**12) for n in numbers]) == []
    assert await boss.order(boss.unit(WINDOW, slow)) == [(WINDOW, "full")]
    await boss.collect(0, cancel=list(range(WINDOW)))
    assert await boss.order(boss.unit(WINDOW + 1, turns(1)), allow=10**12) == []
    await boss.collect_all(1)


async def test_more_bytes_than_a_place_may_bring_along(miner: Miner, spin: ProgramId) -> None:
    miner.chain.open(program=spin)
    boss = Boss(miner, spin)
    await boss.hello()
    part, each = b"z" * (256 << 10), 15
    fits = INLINE_QUEUED_MAX // (each * len(part))
    for number in range(fits):
        assert await boss.order(boss.unit(number, *[part] * each, limit=10**12)) == []
    assert await boss.order(boss.unit(fits, *[part] * each)) == [(fits, "full")]
    await boss.collect(0, cancel=list(range(fits)))


async def test_a_chain_that_cannot_be_asked_makes_the_miner_busy(miner: Miner, echo: ProgramId) -> None:
    miner.chain.open(program=echo)
    miner.chain.broken = "the node restarts"
    assert await declined(Boss(miner, echo).hello()) == "busy"
    miner.chain.broken = None
    await Boss(miner, echo).hello()


async def test_a_service_that_stops_says_so(miner: Miner, echo: ProgramId) -> None:
    await miner.service.stop()
    assert await declined(miner.ask(Ask())) == "not-mining"


# ---------------------------------------------------------------- bytes from anybody


def raw(data: bytes) -> Request:
    return Request(PROTOCOL, PeerId("boss"), data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x80",
        bytes(100),
        b"\x91" * 5_000,
        msgspec.msgpack.encode({"type": "ask", "more": 1}),
        msgspec.msgpack.encode({"type": "hello"}),
        msgspec.msgpack.encode({"type": "order", "job": -1, "k": 0, "units": []}),
        msgspec.msgpack.encode({"type": "collect", "job": 1, "k": 0, "wait_milliseconds": 10**9}),
        msgspec.msgpack.encode({"type": "collect", "job": 1, "k": 0, "wait_milliseconds": 0}) + b"\0",
        msgspec.msgpack.encode(
            {"type": "collect", "job": 1, "k": 0, "wait_milliseconds": 0, "taken": [0] * (NAMES_MAX + 1)}
        ),
        encode_message(Ask()) + bytes(MESSAGE_BYTES_MAX),
    ],
)
async def test_bytes_that_are_no_message_are_refused_and_blamed(miner: Miner, data: bytes) -> None:
    with pytest.raises(Declined, match=r"^malformed: ") as caught:
        await miner.service.answer(raw(data))
    assert len(str(caught.value)) <= 256
    assert miner.transport.scores[PeerId("boss")]


NUMBERS = st.integers(0, 2**53)
SMALL = st.integers(0, 3)
PARTS = st.lists(
    st.one_of(
        st.binary(max_size=20).map(BytesPart),
        st.builds(BlobPart, st.binary(min_size=32, max_size=32), NUMBERS),
    ),
    max_size=16,
)
UNITS = st.builds(Unit, st.one_of(SMALL, NUMBERS), st.integers(0, 2**63 - 1), PARTS, st.booleans())
LISTS = st.lists(st.one_of(SMALL, NUMBERS), max_size=5)
MESSAGES = st.one_of(
    st.builds(Order, st.just(1), st.just(0), st.lists(UNITS, max_size=4)),
    st.builds(
        Collect,
        st.just(1),
        st.just(0),
        st.just(0),
        taken=LISTS,
        open=LISTS,
        cancel=LISTS,
        flush=st.booleans(),
    ),
    st.builds(Read, st.just(1), st.just(0), st.one_of(SMALL, NUMBERS), NUMBERS),
    st.builds(
        Put,
        st.just(1),
        st.just(0),
        st.sampled_from([bytes(32), b"\x01" * 32]),
        st.sampled_from(["input", "program", "", "x" * 128]),
        st.integers(0, 100),
        st.one_of(SMALL, NUMBERS),
        st.binary(max_size=50),
    ),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
async def test_whatever_a_peer_says_is_answered_or_refused_by_name(
    miner: Miner, echo: ProgramId, data: st.DataObject
) -> None:
    if 1 not in miner.chain.state.jobs:
        miner.chain.open(program=echo)
    boss = Boss(miner, echo)
    await boss.hello()
    for _ in range(4):
        message = encode_message(data.draw(MESSAGES))
        flipped = bytearray(message)
        if data.draw(st.booleans()) and message:
            flipped[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        kinds: list[str] = []
        try:
            await miner.service.answer(raw(bytes(flipped)))
        except Declined as refusal:
            kinds.append(refusal.kind)
        assert set(kinds) <= {"malformed", "busy", "no-session"}
    assert miner.service.status().problem == ""
    units = [number for live in miner.service.status().sessions for number in live.units]
    await boss.collect(0, cancel=units[:4096])
