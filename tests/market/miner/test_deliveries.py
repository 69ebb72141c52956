"""What requesters put at a miner: how much of it there may be, and what stays when a place is let go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.market.messages import Put
from noria.market.miner import deliveries as module
from noria.market.miner.admission import Declined
from noria.market.miner.deliveries import Deliveries
from noria.work.ids import blob_id

FIRST, SECOND = 1, 2


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Deliveries]:
    made = Deliveries(tmp_path, quota_bytes=1 << 20, pinned={}, program_bytes_max=1 << 10, durable=False)
    made.begin(FIRST)
    yield made
    made.close()


async def bring(here: Deliveries, place: int, data: bytes) -> None:
    stored = await here.put(place, Put(1, place, blob_id(data), "input", len(data), 0, data), set())
    assert stored.complete


def holders(here: Deliveries, data: bytes) -> list[str]:
    return here._store.holders(blob_id(data))


async def test_a_place_has_so_many_blobs_however_short(
    here: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOBS_MAX", 3)
    for number in range(3):
        await bring(here, FIRST, bytes([number]))
    with pytest.raises(Declined, match=r"^busy: this job has 3 blobs here"):
        await bring(here, FIRST, b"one more")
    # Those that are here may be named again; another place has its own number.
    await bring(here, FIRST, b"\x00")
    here.begin(SECOND)
    await bring(here, SECOND, b"one more")
    with pytest.raises(Declined, match=r"^busy"):
        await here.hold(FIRST, blob_id(b"one more"))
    assert len(holders(here, b"one more")) == 1


async def test_a_place_has_a_quarter_of_all_bytes(here: Deliveries) -> None:
    await bring(here, FIRST, b"a" * (200 << 10))
    with pytest.raises(Declined, match=r"^busy: this job has more than 262144 bytes"):
        await bring(here, FIRST, b"b" * (100 << 10))
    here.let_go(FIRST)
    here.release(FIRST)
    here.begin(FIRST)
    await bring(here, FIRST, b"b" * (100 << 10))


async def test_memory_keeps_so_many_blobs_and_all_can_be_read(
    here: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHE_BLOBS_MAX", 2)
    blobs = [bytes([number]) * 9 for number in range(5)]
    for data in blobs:
        await bring(here, FIRST, data)
    assert [here.cached(blob_id(data)) for data in blobs] == [None, None, None, *blobs[3:]]
    assert [await here.load(blob_id(data)) for data in blobs] == blobs
    assert (len(here._cache), here._cached_bytes) == (2, 18)


async def test_the_last_refused_programs_are_remembered(
    here: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFUSED_MAX", 2)
    for name in (b"a", b"b", b"a", b"c"):
        here.refuse(name, f"{name.decode()} is none")
    assert [here.refused(name) for name in (b"a", b"b", b"c")] == ["a is none", "", "c is none"]


@pytest.mark.parametrize("call", ["put", "get"])
async def test_what_arrives_while_its_place_is_let_go_is_not_held(
    here: Deliveries, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    here.begin(SECOND)
    await bring(here, SECOND, b"there already")
    real: Callable[..., Any] = getattr(here._store, call)

    def late(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        found = real(*arguments, **options)
        here.let_go(FIRST)
        here.release_inputs(FIRST)
        return found

    monkeypatch.setattr(here._store, call, late)
    coming = bring(here, FIRST, b"late") if call == "put" else here.hold(FIRST, blob_id(b"there already"))
    with pytest.raises(Declined, match=r"^closed: this miner has let the job go"):
        await coming
    assert holders(here, b"late") == []
    assert len(holders(here, b"there already")) == 1
    assert FIRST not in here._here
    assert not here._locks.keys() & {FIRST}


async def test_what_arrives_when_its_place_has_its_next_turn_does_not_count_there(
    here: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = here._store.put

    def late(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        found = real(*arguments, **options)
        here.let_go(FIRST)
        here.release_inputs(FIRST)
        here.begin(FIRST)
        return found

    monkeypatch.setattr(here._store, "put", late)
    with pytest.raises(Declined, match=r"^busy: this job has been taken on anew"):
        await bring(here, FIRST, b"late")
    assert (holders(here, b"late"), here._here[FIRST], here._bytes(FIRST)) == ([], {}, 0)
    await bring(here, FIRST, b"late")
    assert (len(holders(here, b"late")), here._bytes(FIRST)) == (1, 4)


async def test_two_that_name_a_blob_at_once_where_there_is_room_for_one_both_have_it(
    here: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.begin(SECOND)
    await bring(here, SECOND, b"shared")
    monkeypatch.setattr(module, "BLOBS_MAX", 1)
    assert await asyncio.gather(*(here.hold(FIRST, blob_id(b"shared")) for _ in range(2))) == [6, 6]
    assert len(holders(here, b"shared")) == 2
    assert here._bytes(FIRST) == 6


async def test_a_place_that_was_never_begun_can_put_nothing(here: Deliveries) -> None:
    with pytest.raises(Declined, match=r"^closed"):
        await bring(here, SECOND, b"data")
    assert list(here._partials.iterdir()) == []
