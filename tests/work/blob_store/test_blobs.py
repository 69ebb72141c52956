"""The blob store in one process: what it keeps, checks and removes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noria.work.blob_errors import (
    BlobCorrupt,
    BlobMismatch,
    BlobMissing,
    BlobPinned,
    BlobTooLarge,
    InvalidHolder,
    QuotaExceeded,
)
from noria.work.blob_files import QUARANTINED_MAX
from noria.work.blobs import BLOCK_BYTES, BlobStore, BlobUsage
from noria.work.ids import BlobId, InvalidId, blob_id
from tests.work.blob_store.filling import Clock, damage, file_of, fill

# ---------------------------------------------------------------- keeping


@pytest.mark.parametrize("data", [b"", b"\0", b"data", bytes(BLOCK_BYTES), bytes(range(256)) * 48], ids=len)
def test_what_is_put_comes_back(store: BlobStore, data: bytes) -> None:
    blob = store.put(data)
    assert blob == blob_id(data)
    assert store.has(blob)
    assert store.get(blob) == data
    with store.open(blob) as file:
        assert file.read() == data


def test_what_was_never_put_is_missing(store: BlobStore) -> None:
    blob = blob_id(b"absent")
    assert not store.has(blob)
    attempts: list[Callable[[BlobId], object]] = [
        store.get, store.open, store.delete, lambda blob: store.pin(blob, "holder"),
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(BlobMissing, match=f"blob {blob.hex()} is not in "):
            attempt(blob)


def test_a_blob_is_stored_once(store: BlobStore) -> None:
    assert len({store.put(b"same") for _ in range(3)}) == 1
    assert store.usage() == BlobUsage(1, BLOCK_BYTES, 0, 10 * BLOCK_BYTES)


def test_blobs_outlast_the_store(store: BlobStore, folder: Path) -> None:
    blob = store.put(b"data", holder="batch")
    store.close()
    with BlobStore(folder, quota_bytes=BLOCK_BYTES) as again:
        assert again.get(blob) == b"data"
        assert again.holders(blob) == ["batch"]
        assert again.usage() == BlobUsage(1, BLOCK_BYTES, BLOCK_BYTES, BLOCK_BYTES)


def test_an_open_file_outlasts_its_blob(store: BlobStore) -> None:
    blob = store.put(b"program")
    with store.open(blob) as file:
        store.delete(blob)
        assert not store.has(blob)
        assert os.pread(file.fileno(), 100, 0) == b"program"


def test_expected_bytes_are_checked(store: BlobStore) -> None:
    with pytest.raises(BlobMismatch, match=f"these 3 bytes are blob {blob_id(b'lie').hex()}, not "):
        store.put(b"lie", expected=blob_id(b"truth"))
    assert store.usage().blobs == 0
    assert store.put(b"truth", expected=blob_id(b"truth")) == blob_id(b"truth")


def test_bytes_are_bounded(store: BlobStore, folder: Path) -> None:
    with pytest.raises(BlobTooLarge, match="12289 bytes are too many for one blob: at most 12288"):
        store.put(bytes(3 * BLOCK_BYTES + 1))
    blob = store.put(bytes(3 * BLOCK_BYTES))
    with (
        BlobStore(folder, blob_bytes_max=BLOCK_BYTES) as narrow,
        pytest.raises(BlobTooLarge, match="12288 bytes, at most 4096 are read"),
    ):
        narrow.get(blob)
    assert store.get(blob) == bytes(3 * BLOCK_BYTES)


@pytest.mark.parametrize(
    "name", [b"", b"../../../etc/passwd", bytes(31), bytes(33), "../x", "0" * 64, None, 7], ids=repr
)
def test_a_name_that_is_none_never_becomes_a_path(store: BlobStore, name: Any) -> None:
    for attempt in (store.get, store.open, store.has, store.delete, lambda blob: store.pin(blob, "holder")):
        with pytest.raises(InvalidId, match="a blob's name has 32 bytes"):
            attempt(name)


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("data", [b"", b"dataX", b"dat", b"Data", bytes(2 * BLOCK_BYTES)], ids=len)
def test_a_damaged_file_is_never_read(store: BlobStore, data: bytes) -> None:
    blob = store.put(b"data", holder="batch")
    damage(store, blob, data)
    with pytest.raises(BlobCorrupt, match=f"blob {blob.hex()} was damaged on disk; the file is now in"):
        store.get(blob)
    assert not store.has(blob)
    assert store.usage().stored_bytes == 0
    [aside] = (store.folder / "quarantine").iterdir()
    assert aside.name.endswith(blob.hex())
    assert aside.read_bytes() == data
    # Put again it is held again.
    store.put(b"data")
    assert store.get(blob) == b"data"
    assert store.holders(blob) == ["batch"]


def test_opening_checks_too(store: BlobStore) -> None:
    blob = store.put(b"data")
    damage(store, blob, b"tada")
    with pytest.raises(BlobCorrupt):
        store.open(blob)
    with pytest.raises(BlobMissing):
        store.open(blob)


@pytest.mark.parametrize("data", [b"tada", b"", b"longer than it was"])
def test_putting_heals(store: BlobStore, data: bytes) -> None:
    blob = store.put(b"data")
    damage(store, blob, data)
    store.put(b"data")
    assert store.get(blob) == b"data"
    assert store.usage().blobs == 1


def test_healing_takes_no_room(store: BlobStore, clock: Clock) -> None:
    blobs = fill(store, clock)
    damage(store, blobs[5], b"tada")
    store.put(b"filling 5")
    assert store.get(blobs[5]) == b"filling 5"
    assert all(map(store.has, blobs))


def test_links_and_pipes_are_not_followed(store: BlobStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"data")
    blob = store.put(b"data")
    path = file_of(store, blob)
    makers: list[Callable[[], None]] = [lambda: path.symlink_to(secret), lambda: os.mkfifo(path)]
    for make in makers:
        path.unlink(missing_ok=True)
        make()
        with pytest.raises(BlobCorrupt):
            store.get(blob)
        with pytest.raises(BlobMissing):
            store.get(blob)
    assert secret.read_bytes() == b"data"


def test_only_some_damaged_files_are_kept(store: BlobStore) -> None:
    for number in range(QUARANTINED_MAX + 3):
        blob = store.put(b"%d" % number)
        damage(store, blob, b"damage %d" % number)
        with pytest.raises(BlobCorrupt):
            store.get(blob)
    kept = sorted(path.read_bytes() for path in (store.folder / "quarantine").iterdir())
    assert kept == sorted(b"damage %d" % number for number in range(3, QUARANTINED_MAX + 3))


def test_a_file_that_was_healed_meanwhile_is_not_put_aside(
    store: BlobStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = store.put(b"data")
    damage(store, blob, b"tada")
    with BlobStore(folder, durable=False) as other:
        read = store._files.read

        def read_then_healed(*arguments: Any) -> Any:
            try:
                return read(*arguments)
            finally:
                other.put(b"data")

        monkeypatch.setattr(store._files, "read", read_then_healed)
        with pytest.raises(BlobCorrupt):
            store.get(blob)
        monkeypatch.undo()
        assert store.get(blob) == b"data"
        assert list((folder / "quarantine").iterdir()) == []


# ---------------------------------------------------------------- room


def test_the_least_recently_used_go_first(store: BlobStore, clock: Clock) -> None:
    blobs = fill(store, clock)
    assert store.usage() == BlobUsage(10, 10 * BLOCK_BYTES, 0, 10 * BLOCK_BYTES)
    clock.seconds += 1
    store.get(blobs[0])
    store.put(b"filling 2")
    store.open(blobs[4]).close()
    store.put(bytes(2 * BLOCK_BYTES + 1))
    gone = [number for number, blob in enumerate(blobs) if not store.has(blob)]
    assert gone == [1, 3, 5]
    assert store.usage().stored_bytes == 10 * BLOCK_BYTES


def test_no_more_goes_than_must(store: BlobStore, clock: Clock) -> None:
    blobs = fill(store, clock, 8)
    store.put(bytes(2 * BLOCK_BYTES))
    assert all(map(store.has, blobs))
    store.put(b"one more")
    assert [store.has(blob) for blob in blobs] == [False] + [True] * 7


def test_what_is_pinned_stays(store: BlobStore, clock: Clock) -> None:
    blobs = fill(store, clock)
    for blob in blobs[:8]:
        store.pin(blob, "batch")
    store.put(bytes(2 * BLOCK_BYTES))
    assert [store.has(blob) for blob in blobs] == [True] * 8 + [False] * 2
    with pytest.raises(QuotaExceeded) as raised:
        store.put(bytes(3 * BLOCK_BYTES))
    assert str(raised.value) == (
        "12288 bytes do not fit: of a quota of 40960 bytes 32768 are pinned; release some or raise the quota"
    )
    # Nothing was removed in vain.
    assert store.usage() == BlobUsage(9, 10 * BLOCK_BYTES, 8 * BLOCK_BYTES, 10 * BLOCK_BYTES)
    assert store.release("batch") == 8
    store.put(bytes(3 * BLOCK_BYTES))
    assert store.usage().pinned_bytes == 0


def test_a_blob_above_the_quota_removes_nothing(folder: Path) -> None:
    with BlobStore(folder, quota_bytes=2 * BLOCK_BYTES, durable=False) as store:
        blob = store.put(b"data")
        with pytest.raises(QuotaExceeded):
            store.put(bytes(2 * BLOCK_BYTES + 1))
        assert store.has(blob)
        assert store.usage().blobs == 1


def test_empty_blobs_take_room_too(store: BlobStore) -> None:
    for number in range(30):
        store.put(b"%d" % number)
    assert store.usage().blobs == 10


def test_putting_at_once_pinned_leaves_no_gap(store: BlobStore, clock: Clock) -> None:
    blob = store.put(b"input", holder="batch:1")
    fill(store, clock, 20)
    assert store.get(blob) == b"input"
    assert store.put(b"input", holder="batch:2") == blob
    assert store.holders(blob) == ["batch:1", "batch:2"]


def test_every_holder_must_let_go(store: BlobStore, clock: Clock) -> None:
    blob = store.put(b"data")
    store.pin(blob, "one")
    store.pin(blob, "one")
    store.pin(blob, "two")
    assert store.unpin(blob, "one")
    assert not store.unpin(blob, "one")
    with pytest.raises(BlobPinned, match=f"blob {blob.hex()} is held by two"):
        store.delete(blob)
    assert store.unpin(blob, "two")
    store.delete(blob)
    assert not store.has(blob)


def test_a_lease_ends(store: BlobStore, clock: Clock) -> None:
    blob = store.put(b"data", holder="lease", lease_seconds=100)
    clock.seconds += 99.5
    fill(store, clock, 0)
    assert store.holders(blob) == ["lease"]
    with pytest.raises(BlobPinned):
        store.delete(blob)
    clock.seconds += 0.5
    assert store.holders(blob) == []
    assert store.usage().pinned_bytes == 0
    fill(store, clock)
    assert not store.has(blob)


def test_a_lease_can_be_renewed_and_made_endless(store: BlobStore, clock: Clock) -> None:
    blob = store.put(b"data", holder="lease", lease_seconds=10)
    clock.seconds += 5
    store.pin(blob, "lease", lease_seconds=10)
    clock.seconds += 9
    assert store.holders(blob) == ["lease"]
    store.pin(blob, "lease")
    clock.seconds += 10**9
    assert store.holders(blob) == ["lease"]


@pytest.mark.parametrize("holder", ["", "-x", "a b", "a\nb", "ä", "x" * 129, "a\0"])
def test_holders_have_plain_names(store: BlobStore, holder: str) -> None:
    blob = store.put(b"data")
    with pytest.raises(InvalidHolder, match="a holder is a letter or digit"):
        store.pin(blob, holder)
    with pytest.raises(InvalidHolder):
        store.put(b"other", holder=holder)
    assert not store.has(blob_id(b"other"))


@pytest.mark.parametrize("lease_seconds", [0, -1, 1e10, float("nan"), float("inf")])
def test_leases_are_bounded(store: BlobStore, lease_seconds: float) -> None:
    with pytest.raises(InvalidHolder, match="a lease lasts up to 1000000000 seconds, not"):
        store.put(b"data", holder="x", lease_seconds=lease_seconds)


def test_collecting_goes_down_to_a_bound(store: BlobStore, clock: Clock) -> None:
    blobs = fill(store, clock)
    store.pin(blobs[0], "batch")
    assert store.collect(4 * BLOCK_BYTES) == 6 * BLOCK_BYTES
    assert [store.has(blob) for blob in blobs] == [True] + [False] * 6 + [True] * 3
    assert store.collect(0) == 3 * BLOCK_BYTES
    assert store.collect(0) == 0
    assert store.has(blobs[0])


def test_a_smaller_quota_is_kept_from_the_next_blob_on(store: BlobStore, folder: Path, clock: Clock) -> None:
    fill(store, clock)
    with BlobStore(folder, quota_bytes=3 * BLOCK_BYTES, durable=False) as small:
        assert small.usage().stored_bytes == 10 * BLOCK_BYTES
        small.put(b"new")
        assert small.usage().stored_bytes == 3 * BLOCK_BYTES
