"""Random histories of a blob store against a plain model of it."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from noria.work.blob_errors import BlobCorrupt, BlobMissing, BlobPinned, QuotaExceeded
from noria.work.blobs import BLOCK_BYTES, BlobStore, BlobUsage
from noria.work.ids import BlobId, blob_id

QUOTA_BLOCKS = 6
DATA = {blob_id(data): data for data in (bytes([n]) * (n * 1500) for n in range(8))}
BLOCKS = {blob: max(1, -(-len(data) // BLOCK_BYTES)) for blob, data in DATA.items()}
END = 10**30
blobs = st.sampled_from(list(DATA))
holders = st.sampled_from(["one", "two"])
leases = st.none() | st.integers(1, 5)


class StoreMachine(RuleBasedStateMachine):
    """The model: when each blob was last used, who holds what until when, which files are damaged."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.now = 1_700_000_000
        self.used: dict[BlobId, int] = {}
        self.pins: dict[tuple[BlobId, str], int] = {}
        self.damaged: set[BlobId] = set()

    def open_store(self) -> BlobStore:
        return BlobStore(
            self.folder / "store",
            quota_bytes=QUOTA_BLOCKS * BLOCK_BYTES,
            durable=False,
            now_ns=lambda: self.now * 10**9,
        )

    @initialize()
    def start(self) -> None:
        self.stores = [self.open_store(), self.open_store()]

    def teardown(self) -> None:
        for store in getattr(self, "stores", []):
            store.close()
        shutil.rmtree(self.folder)

    def store(self) -> BlobStore:
        """Both handles of the folder in turn, one second later each time."""
        self.now += 1
        return self.stores[self.now % 2]

    def held(self, blob: BlobId) -> bool:
        return any(until > self.now for (pinned, _), until in self.pins.items() if pinned == blob)

    def forget(self, blob: BlobId) -> None:
        del self.used[blob]
        self.damaged.discard(blob)

    def make_room(self, blocks: int) -> bool:
        """Forget as few of the least recently used as it takes, or none if that is not enough."""
        free = QUOTA_BLOCKS - sum(BLOCKS[blob] for blob in self.used)
        victims = []
        for blob in sorted(self.used, key=lambda blob: self.used[blob]):
            if free >= blocks:
                break
            if not self.held(blob):
                victims.append(blob)
                free += BLOCKS[blob]
        if free >= blocks:
            for blob in victims:
                self.forget(blob)
        return free >= blocks

    @rule(blob=blobs, holder=st.none() | holders, lease=leases)
    def put(self, blob: BlobId, holder: str | None, lease: int | None) -> None:
        store = self.store()
        if blob not in self.used and not self.make_room(BLOCKS[blob]):
            with pytest.raises(QuotaExceeded):
                store.put(DATA[blob], holder=holder, lease_seconds=lease)
            return
        assert store.put(DATA[blob], holder=holder, lease_seconds=lease) == blob
        self.used[blob] = self.now
        self.damaged.discard(blob)
        if holder is not None:
            self.pins[blob, holder] = END if lease is None else self.now + lease

    @rule(blob=blobs, opened=st.booleans())
    def get(self, blob: BlobId, opened: bool) -> None:
        store = self.store()
        if blob not in self.used:
            with pytest.raises(BlobMissing):
                store.get(blob)
        elif blob in self.damaged:
            with pytest.raises(BlobCorrupt):
                store.get(blob)
            self.forget(blob)
        elif opened:
            with store.open(blob) as file:
                assert file.read() == DATA[blob]
            self.used[blob] = self.now
        else:
            assert store.get(blob) == DATA[blob]
            self.used[blob] = self.now

    @rule(blob=blobs, holder=holders, lease=leases)
    def pin(self, blob: BlobId, holder: str, lease: int | None) -> None:
        store = self.store()
        if blob in self.used:
            store.pin(blob, holder, lease_seconds=lease)
            self.pins[blob, holder] = END if lease is None else self.now + lease
        else:
            with pytest.raises(BlobMissing):
                store.pin(blob, holder, lease_seconds=lease)

    @rule(blob=blobs, holder=holders)
    def unpin(self, blob: BlobId, holder: str) -> None:
        had = self.store().unpin(blob, holder)
        until = self.pins.pop((blob, holder), 0)
        # Whether an ended lease is still noted depends on who last made room.
        assert had or until <= self.now
        assert until or not had

    @rule(holder=holders)
    def release(self, holder: str) -> None:
        self.store().release(holder)
        self.pins = {key: until for key, until in self.pins.items() if key[1] != holder}

    @rule(blob=blobs)
    def delete(self, blob: BlobId) -> None:
        store = self.store()
        if self.held(blob):
            with pytest.raises(BlobPinned):
                store.delete(blob)
        elif blob in self.used:
            store.delete(blob)
            self.forget(blob)
        else:
            with pytest.raises(BlobMissing):
                store.delete(blob)

    @rule(seconds=st.integers(1, 10))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(bound=st.integers(0, QUOTA_BLOCKS))
    def collect(self, bound: int) -> None:
        store = self.store()
        won, total = 0, sum(BLOCKS[blob] for blob in self.used)
        for blob in sorted(self.used, key=lambda blob: self.used[blob]):
            if total - won > bound and not self.held(blob):
                won += BLOCKS[blob]
                self.forget(blob)
        assert store.collect(bound * BLOCK_BYTES) == won * BLOCK_BYTES

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        blob = data.draw(st.sampled_from(sorted(self.used)))
        path = self.folder / "store" / "blobs" / blob.hex()[:2] / blob.hex()[2:]
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.seek(len(DATA[blob]) // 2)
            file.write(b"\xff")
        self.damaged.add(blob)
        # A disk that fails does not set the time of last use.
        os.utime(path, ns=(0, self.used[blob] * 10**9))

    @rule(which=st.integers(0, 1), lost=st.booleans())
    def reopen(self, which: int, lost: bool) -> None:
        self.stores[which].close()
        if lost and not self.pins:
            # Without its index a store knows what it did, but for pins.
            self.stores[1 - which].close()
            for path in (self.folder / "store").glob("index.sqlite*"):
                path.unlink()
            self.stores[1 - which] = self.open_store()
        self.stores[which] = self.open_store()

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        for store in getattr(self, "stores", []):
            held = sum(BLOCKS[blob] for blob in self.used if self.held(blob))
            total = sum(BLOCKS[blob] for blob in self.used)
            assert store.usage() == BlobUsage(
                len(self.used), total * BLOCK_BYTES, held * BLOCK_BYTES, QUOTA_BLOCKS * BLOCK_BYTES
            )
            assert [blob for blob in DATA if store.has(blob)] == [blob for blob in DATA if blob in self.used]
            assert not list((self.folder / "store" / "partial").iterdir())


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=40, stateful_step_count=40)
