"""Units on their way: sealed, opened, cancelled, put together from blobs, shared out between jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from noria.market.messages import INLINE_BYTES_MAX, PIECE_BYTES_MAX, BlobPart
from noria.market.miner import deliveries
from noria.market.miner.work import JOIN_BYTES_MAX
from noria.market.typed_data import seal
from noria.work.ids import ProgramId, blob_id, program_id
from noria.work.receipts import Status
from noria.work.workers import WorkerPool
from tests.market.miner.world import MINER, PRICE, ROOT, Boss, Miner, a_miner, declined
from tests.work.modules import ECHO, READ, TRAP, command, const, turns, write

ENOUGH = 10**13
ENDLESS_TURNS = 10**12
COPIES = command(
    READ
    + const(1024)
    + b"\x29\x03\0\x21\0\x03\x40"
    + write(1)
    + b"\x20\0\x42\x01\x7d\x22\0\x50\x45\x0d\0\x0b"
)
"""Writes its input as often as its first eight bytes say."""


def custom_section(number: int) -> bytes:
    """What makes another program of a module, without a difference."""
    return bytes([0, 2, 1, number])


async def working(miner: Miner, program: ProgramId) -> Boss:
    miner.chain.open(program=program)
    boss = Boss(miner, program)
    await boss.hello()
    return boss


async def test_a_result_comes_back_with_a_receipt(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    assert await boss.order(boss.unit(1, b"hel", b"lo"), allow=ENOUGH) == []
    await boss.collect_all(1)
    result = boss.results[1]
    assert (result.output, result.log, result.output_bytes) == (b"hello", b"hello", 5)
    assert result.output_id == blob_id(b"hello")
    assert result.weight == result.fuel > 0
    assert result.nonce == bytes(32)
    assert boss.last is not None
    assert int(boss.last.earned) == result.fuel * PRICE


async def test_results_come_again_until_they_are_taken(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    await boss.order(*[boss.unit(n, b"%d" % n) for n in range(3)], allow=ENOUGH)
    while len(boss.results) < 3:
        await boss.collect(1_000, take=False)
    again = await boss.collect(0, taken=[0])
    assert [result.number for result in again.results] == [1, 2]
    assert [result.index for result in again.results] == sorted(result.index for result in again.results)
    # A hello of whoever comes back has everything told again, at once.
    assert sorted((await boss.hello()).known) == [1, 2]
    assert len((await boss.collect(20_000, taken=[])).results) == 2
    assert (await boss.collect(0, taken=[1, 2])).results == []
    assert (await boss.hello()).known == []


async def test_what_was_told_and_not_taken_is_told_again_soon(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    await boss.order(boss.unit(1, b"x"), allow=ENOUGH)
    while not boss.results:
        await boss.collect(1_000, take=False)
    loop = asyncio.get_running_loop()
    began = loop.time()
    again = await boss.collect(20_000, take=False)
    assert [result.number for result in again.results] == [1]
    assert loop.time() - began < 5


async def test_a_newer_question_ends_an_older_one(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    await boss.collect(0)
    older = asyncio.create_task(boss.collect(20_000))
    await asyncio.sleep(0)
    newer = asyncio.create_task(boss.collect(20_000))
    answer = await asyncio.wait_for(older, 5)
    assert answer.results == []
    assert not newer.done()
    await boss.order(boss.unit(1, b"x"), allow=ENOUGH)
    assert [result.number for result in (await asyncio.wait_for(newer, 20)).results] == [1]


async def test_a_unit_that_fails_is_a_result_and_is_billed(
    tmp_path: Path, pool: WorkerPool, modules: object
) -> None:
    path = tmp_path / "trap.wasm"
    path.write_bytes(TRAP)
    trap = program_id(TRAP)
    async with a_miner(tmp_path / "m", pool, {trap: path}) as miner:
        boss = await working(miner, trap)
        await boss.order(boss.unit(1, b"why"), boss.unit(2, b"x", limit=10), allow=ENOUGH)
        await boss.collect_all(2)
        assert boss.results[1].status == Status.FAILED
        assert boss.results[1].log == b"why"
        assert boss.results[1].fuel > 0
        assert boss.results[2].status == Status.OUT_OF_FUEL
        assert boss.results[2].fuel == 10
        assert boss.last is not None
        assert int(boss.last.earned) == sum(result.fuel for result in boss.results.values()) * PRICE


# ---------------------------------------------------------------- seals


async def test_sealed_units_show_their_seal_first(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    await boss.order(boss.unit(1, b"secret", sealed=True), boss.unit(2, b"open"), allow=ENOUGH)
    await boss.collect_all(1)
    while not boss.seals:
        await boss.collect(1_000)
    assert list(boss.results) == [2]
    assert boss.results[2].index == 0
    shown = boss.seals[1]
    await boss.collect_all(2, open=[1])
    result = boss.results[1]
    assert (result.index, result.output) == (1, b"secret")
    receipt = boss.receipt(result)
    assert shown == seal(
        ROOT,
        1,
        receipt.unit_id,
        result.nonce,
        result.status,
        result.output_id,
        result.fuel,
        MINER.address,
    )
    assert result.nonce != bytes(32)
    assert (await boss.collect(0)).seals == []


async def test_a_seal_is_the_same_after_a_restart(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    unit = boss.unit(1, b"secret", sealed=True)
    await boss.order(unit, allow=ENOUGH)
    while not boss.seals:
        await boss.collect(1_000)
    shown = boss.seals.pop(1)
    await miner.restart()
    assert (await boss.hello()).known == []
    await boss.order(unit)
    while not boss.seals:
        await boss.collect(1_000)
    assert boss.seals[1] == shown
    await boss.collect_all(1, open=[1])


async def test_a_unit_may_be_opened_before_it_has_run(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    await boss.order(boss.unit(1, b"x", sealed=True), allow=ENOUGH)
    await boss.collect_all(1, open=[1])


async def test_a_unit_that_was_sealed_before_a_restart_opens_that_seal_after_it(
    miner: Miner, echo: ProgramId
) -> None:
    boss = await working(miner, echo)
    units = [boss.unit(number, b"x%d" % number, sealed=True) for number in range(20)]
    await boss.order(*units, allow=ENOUGH)
    while len(boss.seals) < 20:
        await boss.collect(1_000)
    await miner.restart()
    assert (await boss.hello()).known == []
    await boss.order(*units)
    # The requester has seen the seals: it asks for the results before any unit can have run again.
    await boss.collect_all(20, open=list(range(20)))
    for number, result in boss.results.items():
        receipt = boss.receipt(result)
        shown = seal(
            ROOT,
            1,
            receipt.unit_id,
            result.nonce,
            result.status,
            result.output_id,
            result.fuel,
            MINER.address,
        )
        assert shown == boss.seals[number]


# ---------------------------------------------------------------- cancelling


async def test_cancelling_ends_what_runs_and_what_waits_for_nothing(miner: Miner, spin: ProgramId) -> None:
    boss = await working(miner, spin)
    before = miner.pool.stats().cancelled
    slow = turns(ENDLESS_TURNS)
    units = [boss.unit(n, slow, limit=5 * 10**12) for n in range(5)]
    await boss.order(*units, boss.unit(9, turns(5)), allow=ENOUGH)
    await miner.settled(lambda: miner.pool.stats().running)
    answer = await boss.collect(0)
    assert (answer.running, answer.queued) == (2, 4)
    await boss.collect(0, cancel=[0, 1, 2, 3, 4, 77])
    await boss.collect_all(1)
    assert list(boss.results) == [9]
    assert boss.failures == dict.fromkeys(range(5), "cancelled")
    assert boss.last is not None
    assert int(boss.last.earned) == boss.results[9].fuel * PRICE
    assert miner.pool.stats().cancelled > before
    assert miner.pool.stats().running == 0


async def test_sealed_and_held_results_cost_nothing_when_they_are_cancelled(
    miner: Miner, echo: ProgramId
) -> None:
    boss = await working(miner, echo)
    await boss.order(boss.unit(1, b"x", sealed=True), boss.unit(2, b"y"))
    while not boss.seals or boss.last is None or not boss.last.held:
        await boss.collect(1_000)
    answer = await boss.collect(0, cancel=[1, 2], allow=boss.allow(ENOUGH))
    assert (answer.earned, answer.held, answer.needed) == ("0", 0, "0")
    assert boss.failures == {1: "cancelled", 2: "cancelled"}
    # A number whose failure is taken may be used again.
    await boss.collect(0)
    await boss.order(boss.unit(1, b"z"))
    await boss.collect_all(1)


async def test_what_is_released_cannot_be_cancelled(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    await boss.order(boss.unit(1, b"x"), allow=ENOUGH)
    await boss.collect_all(1)
    answer = await boss.collect(0, cancel=[1], taken=[])
    assert [result.number for result in answer.results] == [1]
    assert answer.failures == []


# ---------------------------------------------------------------- fairness


async def test_a_second_job_does_not_wait_for_the_first_ones_queue(miner: Miner, spin: ProgramId) -> None:
    first = await working(miner, spin)
    miner.chain.open(2, program=spin)
    second = Boss(miner, spin, job=2)
    await second.hello()
    slow = turns(2_000_000)
    await first.order(*[first.unit(n, slow, limit=10**9) for n in range(60)], allow=10**15)
    await second.order(*[second.unit(n, slow, limit=10**9) for n in range(3)], allow=10**15)
    await second.collect_all(3)
    await first.collect(0)
    assert len(first.results) < 30
    await first.collect(0, cancel=list(range(60)))


# ---------------------------------------------------------------- blobs


async def test_parts_of_inputs_are_put_once_and_used_often(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    shared = b"shared part " * 100
    name = blob_id(shared)
    ordered = boss.unit(1, BlobPart(name, len(shared)), b"1")
    assert await boss.order(ordered, allow=ENOUGH) == [(1, "blob-missing")]
    # Piece by piece, in order; one that does not follow changes nothing.
    assert (await boss.put(name, b"", size=len(shared))).have == 0
    assert (await boss.put(name, shared[:500], size=len(shared))).have == 500
    assert (await boss.put(name, shared[700:], offset=700, size=len(shared))).have == 500
    await miner.restart()
    await boss.hello()
    assert (await boss.put(name, b"", size=len(shared))).have == 500
    stored = await boss.put(name, shared[500:], offset=500, size=len(shared))
    assert (stored.have, stored.complete) == (len(shared), True)
    assert (await boss.put(name, b"", size=len(shared))).complete
    part = BlobPart(name, len(shared))
    await boss.order(ordered, boss.unit(2, part, b"2"), boss.unit(3, part, part), allow=ENOUGH)
    await boss.collect_all(3)
    assert boss.results[2].output == shared + b"2"
    assert boss.results[3].output == shared + shared
    # It is still here after a restart.
    await miner.restart()
    await boss.hello()
    await boss.order(boss.unit(4, part))
    await boss.collect_all(4)


async def test_a_long_input_is_put_together_outside_the_event_loop(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    shared = bytes(JOIN_BYTES_MAX // 2)
    name = blob_id(shared)
    assert (await boss.put(name, shared)).complete
    part = BlobPart(name, len(shared))
    assert await boss.order(boss.unit(1, b"1", part, part), allow=ENOUGH) == []
    # The bytes are in memory, and still nothing has been joined before the order was answered.
    (session,) = miner.service.status().sessions
    assert session.running == 1
    assert session.units[1].future is None
    await boss.collect_all(1, taken=[])
    output = boss.results[1].output
    assert output == (b"1" + shared)[: len(output)]


async def test_what_is_put_must_be_what_it_is_called(miner: Miner, echo: ProgramId) -> None:
    boss = await working(miner, echo)
    assert await declined(boss.put(bytes(32), b"something else")) == "malformed"
    assert (await boss.put(bytes(32), b"", size=100)).have == 0
    assert await declined(boss.put(bytes(32), b"x", kind="secret")) == "malformed"
    assert await declined(boss.put(bytes(32), b"x", kind="program", size=5 << 20)) == "malformed"
    # More than the size that was told is not taken.
    assert (await boss.put(blob_id(b"abc"), b"abcdef", size=3)).have == 0
    empty = await boss.put(blob_id(b""), b"")
    assert empty.complete


async def test_a_place_has_so_much_room_and_no_more(
    tmp_path: Path, pool: WorkerPool, pinned: dict[ProgramId, Path], echo: ProgramId
) -> None:
    async with a_miner(tmp_path, pool, pinned, quota_bytes=4 << 20) as miner:
        boss = await working(miner, echo)
        blobs = [bytes([n]) * (600 << 10) for n in range(3)]
        assert (await boss.put(blob_id(blobs[0]), blobs[0])).complete
        assert await declined(boss.put(blob_id(blobs[1]), blobs[1])) == "busy"
        miner.chain.open(2, program=echo)
        other = Boss(miner, echo, job=2)
        await other.hello()
        assert (await other.put(blob_id(blobs[1]), blobs[1])).complete
        # When the job is over its blobs make room.
        miner.chain.close()
        miner.chain.mine(10, final=True)
        await miner.settled(lambda: len(miner.service.status().sessions) == 1)
        await miner.settled(lambda: miner.deliveries._store.usage().pinned_bytes <= 604 << 10)


async def test_a_program_that_is_not_pinned_comes_from_the_requester(
    tmp_path: Path, pool: WorkerPool, pinned: dict[ProgramId, Path]
) -> None:
    module = COPIES
    program = program_id(module)
    async with a_miner(tmp_path, pool, pinned) as miner:
        boss = await working(miner, program)
        unit = boss.unit(1, turns(2))
        assert await boss.order(unit, allow=ENOUGH) == [(1, "program")]
        assert (await boss.put(program, module, kind="program")).complete
        assert await boss.order(unit) == []
        await boss.collect_all(1)
        assert boss.results[1].output == turns(2) * 2
        # Only what the chain pins weighs anything.
        assert boss.results[1].weight == 0
        await miner.restart()
        await boss.hello()
        assert await boss.order(boss.unit(2, turns(1))) == []
        await boss.collect_all(2)


@pytest.mark.parametrize("module", [b"no module at all", ECHO[:-3]])
async def test_a_program_that_cannot_be_run_fails_by_name(
    tmp_path: Path, pool: WorkerPool, pinned: dict[ProgramId, Path], module: bytes
) -> None:
    program = program_id(module)
    async with a_miner(tmp_path, pool, pinned) as miner:
        boss = await working(miner, program)
        await boss.put(program, module, kind="program")
        assert await boss.order(boss.unit(1, b"x"), allow=ENOUGH) == []
        while not boss.failures:
            await boss.collect(5_000)
        assert boss.failures == {1: "program"}
        assert await boss.order(boss.unit(2, b"x")) == [(2, "program")]


async def test_programs_of_other_jobs_are_not_taken_and_never_thrown_out(
    tmp_path: Path, pool: WorkerPool, pinned: dict[ProgramId, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "PROGRAMS_MAX", 2)
    modules = [COPIES + custom_section(n) for n in range(4)]
    async with a_miner(tmp_path, pool, pinned) as miner:
        bosses = []
        for number, module in enumerate(modules, 1):
            miner.chain.open(number, program=program_id(module))
            boss = Boss(miner, program_id(module), job=number)
            await boss.hello()
            bosses.append(boss)
        for module in modules[1:]:
            assert await declined(bosses[0].put(program_id(module), module, kind="program")) == "malformed"
        folder = tmp_path / "deliveries" / "programs"
        for boss, module in zip(bosses[:3], modules, strict=False):
            assert (await boss.put(boss.program, module, kind="program")).complete
        # There are more than are kept, and each is still of use.
        assert len([*folder.iterdir()]) == 3
        for boss in bosses[:3]:
            assert await boss.order(boss.unit(1, turns(2)), allow=ENOUGH) == []
            await boss.collect_all(1)
        # The jobs are over: their programs make room.
        for number in (1, 2):
            miner.chain.close(number)
        async with asyncio.timeout(20):
            while len(miner.service.status().sessions) > 2:
                miner.chain.mine(1, final=True)
                await asyncio.sleep(0.05)
        assert (await bosses[3].put(bosses[3].program, modules[3], kind="program")).complete
        left = {path.stem for path in folder.iterdir()}
        assert left == {boss.program.hex() for boss in bosses[2:]}


async def test_long_outputs_are_read_piece_by_piece(
    tmp_path: Path, pool: WorkerPool, pinned: dict[ProgramId, Path]
) -> None:
    program = program_id(COPIES)
    path = tmp_path / "copies.wasm"
    path.write_bytes(COPIES)
    async with a_miner(tmp_path / "m", pool, {**pinned, program: path}) as miner:
        boss = await working(miner, program)
        data = turns(60) + bytes(range(256)) * 200
        expected = data * 60
        assert len(expected) > 2 * PIECE_BYTES_MAX > INLINE_BYTES_MAX
        await boss.order(boss.unit(1, data, limit=10**9), allow=ENOUGH)
        await boss.collect_all(1, taken=[])
        for _ in range(2):
            result = boss.results[1]
            assert result.output is None
            assert result.output_bytes == len(expected)
            pieces = [await boss.read(1, offset) for offset in range(0, len(expected), PIECE_BYTES_MAX)]
            assert b"".join(pieces) == expected
            assert await boss.read(1, len(expected)) == b""
            await miner.restart()
            await boss.hello()
        await boss.collect(0, taken=[1])
        assert await declined(boss.read(1, 0)) == "malformed"
        await miner.settled(lambda: not miner.deliveries._store.holders(blob_id(expected)))


async def copying(miner: Miner, program: ProgramId, job: int = 1) -> Boss:
    miner.chain.open(job, program=program)
    boss = Boss(miner, program, job=job)
    await boss.hello()
    return boss


@pytest.fixture
async def copier(
    tmp_path: Path, pool: WorkerPool, pinned: dict[ProgramId, Path]
) -> AsyncIterator[tuple[Miner, ProgramId]]:
    """A miner with little room, and a program with long outputs."""
    program = program_id(COPIES)
    path = tmp_path / "copies.wasm"
    path.write_bytes(COPIES)
    async with a_miner(tmp_path / "m", pool, {**pinned, program: path}, quota_bytes=8 << 20) as miner:
        yield miner, program


LONG_TURNS = 16
LONG = turns(LONG_TURNS) + bytes(32 << 10)
LONG_BYTES = LONG_TURNS * len(LONG)


async def test_a_long_output_stays_while_another_unit_has_it(copier: tuple[Miner, ProgramId]) -> None:
    miner, program = copier
    boss = await copying(miner, program)
    name = blob_id(LONG * LONG_TURNS)
    units = [boss.unit(number, LONG) for number in range(3)]
    await boss.order(*units, boss.unit(3, LONG, sealed=True), allow=ENOUGH)
    await boss.collect_all(3, taken=[])
    while not boss.seals:
        await boss.collect(1_000, taken=[])
    store = miner.deliveries._store
    await boss.collect(0, taken=[0])
    await boss.collect(0, taken=[1], cancel=[3])
    # By the time that another output has come and gone, these are let go.
    await boss.order(boss.unit(4, LONG + b"4"))
    await boss.collect_all(4, taken=[])
    await boss.collect(0, taken=[4])
    await miner.settled(lambda: not store.holders(blob_id((LONG + b"4") * LONG_TURNS)))
    assert store.holders(name) == ["output/1"]
    # Also after a restart.
    await miner.restart()
    await boss.hello()
    store = miner.deliveries._store
    await boss.collect(0, taken=[])
    assert store.holders(name) == ["output/1"]
    assert await boss.read(2, 0) == (LONG * LONG_TURNS)[:PIECE_BYTES_MAX]
    await boss.collect(0, taken=[2])
    await miner.settled(lambda: not store.holders(name))


async def test_outputs_of_units_that_are_taken_back_are_let_go(copier: tuple[Miner, ProgramId]) -> None:
    miner, program = copier
    boss = await copying(miner, program)
    await boss.order(boss.unit(1, LONG, sealed=True), boss.unit(2, LONG + b"2"))
    while not boss.seals or boss.last is None or not boss.last.held:
        await boss.collect(1_000)
    assert miner.deliveries._store.usage().pinned_bytes >= 2 * LONG_BYTES
    await boss.collect(0, cancel=[1, 2])
    await miner.settled(lambda: not miner.deliveries._store.usage().pinned_bytes)


async def test_outputs_that_were_lost_in_a_restart_hold_no_room(copier: tuple[Miner, ProgramId]) -> None:
    miner, program = copier
    boss = await copying(miner, program)
    await boss.order(boss.unit(1, LONG, sealed=True), allow=ENOUGH)
    while not boss.seals:
        await boss.collect(1_000)
    await miner.restart()
    assert not miner.deliveries._store.usage().pinned_bytes


async def test_long_outputs_are_part_of_a_places_share(copier: tuple[Miner, ProgramId]) -> None:
    miner, program = copier
    boss = await copying(miner, program)
    await boss.order(*[boss.unit(number, LONG + bytes([number])) for number in range(20)], allow=ENOUGH)
    share = (8 << 20) // 4
    begun = share // LONG_BYTES + 2
    await boss.collect_all(share // LONG_BYTES, taken=[])
    await miner.settled(lambda: miner.pool.stats().running == 0)
    answer = await boss.collect(300, taken=[])
    assert answer.queued >= 20 - begun
    assert miner.deliveries._store.usage().pinned_bytes <= begun * (LONG_BYTES + (8 << 10))
    blob = bytes(share // 2)
    assert await declined(boss.put(blob_id(blob), blob)) == "busy"
    # What is taken makes room for the rest.
    await boss.collect_all(20)
    await boss.collect(0)
    await miner.settled(lambda: not miner.deliveries._store.usage().pinned_bytes)
