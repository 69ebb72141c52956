"""Long outputs of a place that is let go or taken on again while its units end in other threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.market.miner.outputs import Outputs
from noria.work.blobs import BlobStore
from noria.work.ids import BlobId, ProgramId, blob_id, program_id
from noria.work.workers import WorkerPool
from tests.market.miner.test_units import COPIES, ENOUGH, LONG, LONG_TURNS, copying
from tests.market.miner.world import a_miner

DATA = b"output" * 1_000
NAME = blob_id(DATA)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlobStore]:
    with BlobStore(tmp_path / "blobs", quota_bytes=1 << 20, durable=False) as made:
        yield made


@pytest.fixture
def outputs(store: BlobStore) -> Outputs:
    return Outputs(store)


def before_it_is_stored(monkeypatch: pytest.MonkeyPatch, store: BlobStore, event: Callable[[], Any]) -> None:
    """Let something happen once an output is counted and before it is stored."""
    put = store.put

    def late(data: bytes, **options: Any) -> BlobId:
        monkeypatch.undo()
        event()
        return put(data, **options)

    monkeypatch.setattr(store, "put", late)


def test_an_output_that_comes_when_its_place_is_over_is_not_held(
    monkeypatch: pytest.MonkeyPatch, store: BlobStore, outputs: Outputs
) -> None:
    turn = outputs.begin(1)
    before_it_is_stored(monkeypatch, store, lambda: outputs.release(1))
    outputs.keep(1, turn, NAME, DATA)
    outputs.drop(1, turn, NAME)
    assert (store.holders(NAME), outputs.total(1)) == ([], 0)
    outputs.keep(1, turn, NAME, DATA)
    assert (store.holders(NAME), outputs.total(1)) == ([], 0)


@pytest.mark.parametrize("untaken", [0, 1])
def test_an_output_that_comes_when_its_place_has_its_next_turn_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, store: BlobStore, outputs: Outputs, untaken: int
) -> None:
    store.put(DATA)
    turn = outputs.begin(1)
    turns: list[int] = []

    def take_on() -> None:
        turns.append(outputs.begin(1))
        outputs.resume(1, turns[0], [(NAME, len(DATA))] * untaken)

    before_it_is_stored(monkeypatch, store, take_on)
    outputs.keep(1, turn, NAME, DATA)
    expected = (["output/1"] * untaken, len(DATA) * untaken)
    assert (store.holders(NAME), outputs.total(1)) == expected
    outputs.drop(1, turn, NAME)
    assert (store.holders(NAME), outputs.total(1)) == expected
    outputs.drop(1, turns[0], NAME)
    assert (store.holders(NAME), outputs.total(1)) == ([], 0)


def test_what_an_earlier_turn_drops_late_stays_for_the_results_of_this_one(
    store: BlobStore, outputs: Outputs
) -> None:
    first = outputs.begin(1)
    for _ in range(2):
        outputs.keep(1, first, NAME, DATA)
    second = outputs.begin(1)
    outputs.resume(1, second, [(NAME, len(DATA))])
    outputs.drop(1, first, NAME)
    assert store.holders(NAME) == ["output/1"]
    # An output that a unit of this turn has too.
    outputs.keep(1, second, NAME, DATA)
    outputs.drop(1, first, NAME)
    outputs.drop(1, second, NAME)
    assert store.holders(NAME) == ["output/1"]
    outputs.drop(1, second, NAME)
    assert store.holders(NAME) == []


async def test_a_place_that_is_taken_on_again_holds_the_outputs_of_its_results_and_no_others(
    tmp_path: Path, pool: WorkerPool, pinned: dict[ProgramId, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    program, path = program_id(COPIES), tmp_path / "copies.wasm"
    path.write_bytes(COPIES)
    entered, go_on = threading.Event(), threading.Event()
    async with a_miner(tmp_path / "m", pool, {**pinned, program: path}) as miner:
        boss = await copying(miner, program)
        await boss.order(boss.unit(0, LONG), allow=ENOUGH)
        await boss.collect_all(1, taken=[])
        store, places = miner.deliveries._store, miner.service._places

        def wait() -> None:
            entered.set()
            assert go_on.wait(20)

        before_it_is_stored(monkeypatch, store, wait)
        await boss.order(boss.unit(1, LONG))
        try:
            await asyncio.to_thread(entered.wait, 20)
            live = places.at(1, 0)
            assert live is not None
            await places._let_go(live)
            await boss.hello()
        finally:
            go_on.set()
        # By the time that the next unit has run, whatever the one before had to drop is dropped.
        await boss.order(boss.unit(2, LONG + b"2"))
        await boss.collect_all(2, taken=[])
        await miner.settled(lambda: len(places._tasks) == len(list(places)))
        name = blob_id(LONG * LONG_TURNS)
        assert store.holders(name) == ["output/1"]
        assert await boss.read(0, 0)
        await boss.collect(0, taken=[0, 2])
        await miner.settled(lambda: not store.usage().pinned_bytes)
