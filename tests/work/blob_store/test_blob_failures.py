"""The blob store in one process: what fails, who else is there, and what it refuses to open."""

import errno
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from noria.work import blob_index
from noria.work.blob_errors import (
    BlobMissing,
    BlobStoreError,
    DiskFull,
    IndexDamaged,
    StoreBusy,
    StoreUnavailable,
    UnsafeFolder,
)
from noria.work.blobs import BLOCK_BYTES, BlobStore, BlobUsage
from noria.work.ids import blob_id
from tests.work.blob_store.filling import Clock, file_of, files, fill

# ---------------------------------------------------------------- failures


def test_a_full_disk_leaves_nothing(store: BlobStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store.put(b"kept")
    before = files(folder)
    real_write = os.write

    def write(descriptor: int, data: Any) -> int:
        if len(data) <= 5000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, data[:5000])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(DiskFull, match=r"no room left for blob store .* free some space"):
            store.put(bytes(2 * BLOCK_BYTES))
    assert files(folder) == before
    assert store.usage().blobs == 1
    assert store.get(kept) == b"kept"
    store.put(bytes(2 * BLOCK_BYTES))


@pytest.mark.parametrize("step", ["place", "add"])
def test_a_failure_at_any_step_leaves_nothing(
    store: BlobStore, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = files(folder)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(*{"place": (Path, "replace"), "add": (blob_index.Change, "add")}[step], fail)
        with pytest.raises(StoreUnavailable, match="cannot be used: Input/output error"):
            store.put(b"data", holder="x")
    assert files(folder) == before
    assert not store.has(blob_id(b"data"))
    assert store.usage() == BlobUsage(0, 0, 0, 10 * BLOCK_BYTES)
    assert store.holders(blob_id(b"data")) == []


def test_a_failed_placing_harms_no_blob_of_another_writer(
    store: BlobStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with BlobStore(folder, durable=False) as other:
        place = store._place

        def other_is_faster(*arguments: Any) -> None:
            other.put(b"data", holder="other")
            with monkeypatch.context() as patch:
                patch.setattr(blob_index.Change, "add", fail)
                place(*arguments)

        monkeypatch.setattr(store, "_place", other_is_faster)
        with pytest.raises(StoreUnavailable):
            store.put(b"data")
        assert other.get(blob_id(b"data")) == b"data"


def test_the_folder_is_private(store: BlobStore, folder: Path) -> None:
    blob = store.put(b"data")
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert file_of(store, blob).stat().st_mode & 0o777 == 0o400


def test_a_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(UnsafeFolder, match=r"is open to other users; chmod 700 "):
        BlobStore(folder)
    folder.chmod(0o700)
    BlobStore(folder).close()


def test_a_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BlobStore(folder).close()
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(UnsafeFolder, match="belongs to another user"):
        BlobStore(folder)


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    (folder / "thesis.tex").write_text("precious")
    with pytest.raises(UnsafeFolder, match=r"holds 'thesis.tex', which is no part of a blob store"):
        BlobStore(folder)
    assert files(folder) == ["thesis.tex"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be used: File exists"):
        BlobStore(tmp_path / "file")
    with pytest.raises(StoreUnavailable, match="Not a directory"):
        BlobStore(tmp_path / "file" / "below")


def test_an_index_that_is_none_is_named(folder: Path) -> None:
    BlobStore(folder).close()
    (folder / "index.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(IndexDamaged, match=r"index\.sqlite is damaged .*remove it and pin again"):
        BlobStore(folder)


def test_an_index_of_a_later_version_is_named(folder: Path) -> None:
    BlobStore(folder).close()
    connection = sqlite3.connect(folder / "index.sqlite")
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(IndexDamaged, match="has version 9, not 1: use another folder"):
        BlobStore(folder)


def test_without_its_index_the_store_counts_again(store: BlobStore, folder: Path, clock: Clock) -> None:
    blobs = fill(store, clock, 4)
    clock.seconds += 1
    store.get(blobs[0])
    store.close()
    for path in folder.glob("index.sqlite*"):
        path.unlink()
    (folder / "blobs" / "notes").mkdir()
    (folder / "blobs" / blobs[0].hex()[:2] / "strange").write_text("not a blob")
    with BlobStore(folder, quota_bytes=4 * BLOCK_BYTES, durable=False, now_ns=clock) as again:
        assert again.usage() == BlobUsage(4, 4 * BLOCK_BYTES, 0, 4 * BLOCK_BYTES)
        again.put(b"new")
        assert [again.has(blob) for blob in blobs] == [True, False, True, True]


def test_files_that_somebody_removed_are_not_counted_for_long(
    store: BlobStore, folder: Path, clock: Clock
) -> None:
    for blob in fill(store, clock):
        file_of(store, blob).unlink()
    assert store.usage().blobs == 10
    store.put(bytes(3 * BLOCK_BYTES))
    assert store.usage().stored_bytes == 10 * BLOCK_BYTES
    assert store.collect() == 0
    assert store.usage().blobs == 1


def test_a_fresh_store_opened_by_several_at_once(tmp_path: Path) -> None:
    openers = 4
    with ThreadPoolExecutor(openers) as pool:
        for attempt in range(60):
            together = threading.Barrier(openers)

            def open_it(
                folder: Path = tmp_path / str(attempt), together: threading.Barrier = together
            ) -> None:
                together.wait(30)
                BlobStore(folder, durable=False).close()

            for opened in [pool.submit(open_it) for _ in range(openers)]:
                opened.result(30)


def test_a_store_that_another_process_never_finishes_opening_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "fresh"
    folder.mkdir(mode=0o700)
    holder = sqlite3.connect(folder / "index.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("noria.work.blobs.LOCK_SECONDS", 0.05)
    with pytest.raises(StoreBusy, match="another process holds the lock"):
        BlobStore(folder)
    holder.close()


def test_a_lock_held_too_long_is_named(store: BlobStore, folder: Path) -> None:
    store._index._connection.execute("PRAGMA busy_timeout = 10")
    holder = sqlite3.connect(folder / "index.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy, match="another process holds the lock"):
        store.put(b"data")
    holder.execute("ROLLBACK")
    holder.close()
    assert not store.has(blob_id(b"data"))
    assert list((folder / "partial").iterdir()) == []
    store.put(b"data")


def test_a_closed_store_says_so(folder: Path) -> None:
    store = BlobStore(folder)
    store.close()
    store.close()
    with pytest.raises(BlobStoreError, match="closed"):
        store.put(b"data")
    assert list((folder / "partial").iterdir()) == []


def test_many_threads_share_a_store(store: BlobStore) -> None:
    start = threading.Barrier(8)

    def work(thread: int) -> int:
        start.wait()
        seen = 0
        for number in range(40):
            data = b"%d" % (number * (1 + thread % 2) % 25)
            blob = store.put(data)
            try:
                assert store.get(blob) == data
                seen += 1
            except BlobMissing:  # Removed to make room: ten blocks for 25 blobs.
                assert store.usage().stored_bytes <= store.quota_bytes
        return seen

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) > 100
    assert store.usage().stored_bytes == 10 * BLOCK_BYTES
    store.collect()
    assert store.usage().stored_bytes == 10 * BLOCK_BYTES
