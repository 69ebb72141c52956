"""Bytes on disk under the hash of what they are: programs, inputs, outputs, batches.

A blob appears whole or not at all, however the writer ends, and every read is checked against its name. Any
number of processes of one user may use the same folder at once. The store keeps to a quota by removing what
was not used for the longest time, except what somebody has pinned.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from noria.work.blob_errors import (
    BlobMismatch,
    BlobMissing,
    BlobPinned,
    BlobTooLarge,
    InvalidHolder,
    QuotaExceeded,
)
from noria.work.blob_files import INDEX, BlobFiles, Damaged, named_errors
from noria.work.blob_index import FOR_EVER, BlobIndex, Change
from noria.work.ids import BlobId, blob_id

DEFAULT_QUOTA_BYTES: Final = 8 << 30
DEFAULT_BLOB_BYTES_MAX: Final = 64 << 20
"""The longest output that a unit may have (protocol 9)."""
BLOCK_BYTES: Final = 4096
"""A blob counts in whole blocks, at least one: tiny ones take room too, and so their number is bounded."""
LOCK_SECONDS: Final = 60.0

_HOLDER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
LEASE_SECONDS_MAX: Final = 10**9


@dataclass(frozen=True, slots=True)
class BlobUsage:
    """How full a store is. Bytes are counted in blocks of `BLOCK_BYTES`.

    Attributes
    ----------
    blobs
        Number of blobs.
    stored_bytes, pinned_bytes, quota_bytes
        Of all blobs; of those that somebody holds; at most.
    """

    blobs: int
    stored_bytes: int
    pinned_bytes: int
    quota_bytes: int


class BlobStore:
    """A folder of blobs.

    Methods may be called from any thread, and block while they read, write and wait for other processes: an
    event loop calls them in a thread. A child process opens the store itself.

    Parameters
    ----------
    folder
        Made with permissions for its owner alone if it is not there.
    quota_bytes
        Most bytes of all blobs together, in blocks of `BLOCK_BYTES`.
    blob_bytes_max
        Most bytes of one blob.
    durable
        Whether what was put survives a power cut. It always survives a killed process.
    now_ns
        Clock of leases and last uses, nanoseconds since 1970.

    Raises
    ------
    BlobStoreError
        Where the folder cannot be used; a subclass says why.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, BlobStore(Path(folder) / "blobs") as store:
    ...     name = store.put(b"input")
    ...     store.pin(name, "batch:7", lease_seconds=3600)
    ...     store.get(name), name == blob_id(b"input")
    (b'input', True)
    """

    def __init__(
        self,
        folder: Path,
        *,
        quota_bytes: int = DEFAULT_QUOTA_BYTES,
        blob_bytes_max: int = DEFAULT_BLOB_BYTES_MAX,
        durable: bool = True,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.folder = folder
        self.quota_bytes = quota_bytes
        self.blob_bytes_max = blob_bytes_max
        self._now_ns = now_ns
        with named_errors(folder):
            self._files = BlobFiles(folder, durable=durable)
        try:
            with named_errors(folder):
                self._index = BlobIndex(folder / INDEX, durable=durable, lock_seconds=LOCK_SECONDS)
        except BaseException:
            self._files.close()
            raise
        try:
            with named_errors(folder):
                self._enter()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the store; what was put stays."""
        self._index.close()
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------ blobs

    def put(
        self,
        data: bytes,
        *,
        expected: BlobId | None = None,
        holder: str | None = None,
        lease_seconds: float | None = None,
    ) -> BlobId:
        """Store bytes. If they are here already, they count as used now.

        Parameters
        ----------
        data
            At most `blob_bytes_max` bytes.
        expected
            The name that they should have, where somebody else sent them.
        holder, lease_seconds
            Pin them at once, as `pin` does.

        Returns
        -------
        BlobId

        Raises
        ------
        BlobTooLarge, BlobMismatch, InvalidHolder
            Where the arguments are wrong.
        QuotaExceeded
            Where too much is pinned; nothing was removed for it.
        DiskFull
            Where the disk is; nothing is left of the attempt.
        BlobStoreError
            Where the folder cannot be used.
        """
        if len(data) > self.blob_bytes_max:
            raise BlobTooLarge(f"{len(data)} bytes are too many for one blob: at most {self.blob_bytes_max}")
        until = FOR_EVER if holder is None else self._end(holder, lease_seconds)
        blob = blob_id(data)
        if expected is not None and blob != expected:
            raise BlobMismatch(f"these {len(data)} bytes are blob {blob.hex()}, not {expected.hex()}")
        with named_errors(self.folder):
            if not self._renew(blob, data, holder, until):
                with self._files.partial(data, self._now_ns()) as partial:
                    self._place(partial, blob, data, holder, until)
        return blob

    def get(self, blob: BlobId) -> bytes:
        """Return a blob's bytes, checked against its name.

        Parameters
        ----------
        blob
            Its name.

        Returns
        -------
        bytes

        Raises
        ------
        InvalidId
            Where the name is none.
        BlobMissing
            Where it is not here.
        BlobCorrupt
            Where the file was damaged: it is gone now, and the blob may be put again.
        BlobTooLarge
            Where it is longer than this store's limit.
        BlobStoreError
            Where it cannot be read.
        """
        descriptor, data = self._read(blob)
        os.close(descriptor)
        return data

    def open(self, blob: BlobId) -> BinaryIO:
        """Open a blob as a file; its bytes have been checked when this returns.

        It stays readable after the blob has been removed from the store.

        Parameters
        ----------
        blob
            Its name.

        Returns
        -------
        BinaryIO
            Whose ``fileno`` can be handed to a worker process.

        Raises
        ------
        InvalidId, BlobMissing, BlobCorrupt, BlobTooLarge, BlobStoreError
            As in `get`.
        """
        descriptor, _ = self._read(blob)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return os.fdopen(descriptor, "rb")

    def has(self, blob: BlobId) -> bool:
        """Tell whether a blob is here, without reading it.

        Raises
        ------
        InvalidId
            Where the name is none.
        """
        with named_errors(self.folder):
            return self._files.has(blob)

    def delete(self, blob: BlobId) -> None:
        """Remove a blob now.

        Raises
        ------
        InvalidId, BlobMissing
            Where the name is none, or the blob not here.
        BlobPinned
            Where somebody holds it.
        """
        with named_errors(self.folder), self._index.change() as change:
            change.expire(self._now_ns())
            if holders := change.holders(blob):
                raise BlobPinned(f"blob {blob.hex()} is held by {', '.join(holders[:5])}")
            self._require(blob)
            self._evict(change, [blob])

    # ------------------------------------------------------------ pins

    def pin(self, blob: BlobId, holder: str, *, lease_seconds: float | None = None) -> None:
        """Keep a blob until its holder, and all others, let go of it.

        A holder has one pin per blob: saying it twice, for example after a crash, changes only the lease. A
        pin outlasts damage: when the blob is put again, it is held again.

        Parameters
        ----------
        blob
            Its name.
        holder
            Who wants it: at most 128 letters, digits and ``._:/-``.
        lease_seconds
            How long, from now; without it, until `unpin` or `release`.

        Raises
        ------
        InvalidId, InvalidHolder
            Where a name or the lease is none.
        BlobMissing
            Where it is not here.
        """
        until = self._end(holder, lease_seconds)
        with named_errors(self.folder), self._index.change() as change:
            self._require(blob)
            change.pin(blob, holder, until)

    def unpin(self, blob: BlobId, holder: str) -> bool:
        """Let go of a blob; tell whether the holder had it."""
        with self._index.change() as change:
            return change.unpin(blob, holder)

    def release(self, holder: str) -> int:
        """Let go of everything that a holder has, and return how many blobs that were."""
        with self._index.change() as change:
            return change.release(holder)

    def holders(self, blob: BlobId) -> list[str]:
        """Return who holds a blob now."""
        with self._index.change() as change:
            change.expire(self._now_ns())
            return change.holders(blob)

    # ------------------------------------------------------------ room

    def usage(self) -> BlobUsage:
        """Return how full the store is."""
        with self._index.change() as change:
            change.expire(self._now_ns())
            stored, blobs = change.total()
            return BlobUsage(blobs, stored, change.pinned_bytes(), self.quota_bytes)

    def collect(self, stored_bytes_max: int | None = None) -> int:
        """Clean up: what killed processes left, then the least recently used blobs above a bound.

        Parameters
        ----------
        stored_bytes_max
            The bound; the quota if absent. Pinned blobs stay all the same.

        Returns
        -------
        int
            Bytes won by removing blobs, in blocks.
        """
        bound = self.quota_bytes if stored_bytes_max is None else stored_bytes_max
        with named_errors(self.folder):
            self._files.clean_partials()
            with self._index.change() as change:
                self._reconcile(change)
                change.expire(self._now_ns())
                before, _ = change.total()
                self._evict(change, change.least_used(before - bound, self._files.last_use)[0])
                return before - change.total()[0]

    # ------------------------------------------------------------ inside

    def _read(self, blob: BlobId) -> tuple[int, bytes]:
        """Open, read and check; the caller closes the descriptor."""
        with named_errors(self.folder):
            try:
                return self._files.read(blob, self.blob_bytes_max, self._now_ns())
            except Damaged as damaged:
                with self._index.change() as change:
                    corrupt = self._files.set_aside(blob, damaged, change)
            raise corrupt

    def _renew(self, blob: BlobId, data: bytes, holder: str | None, until: int) -> bool:
        """Pin a blob if it is here undamaged; tell whether it is."""
        if self._files.holds(blob, data, self._now_ns()):
            with self._index.change() as change:
                if self._files.has(blob):  # Nobody has removed it before the lock was ours.
                    change.add(blob, _counted(len(data)), self._now_ns())
                    _pin(change, blob, holder, until)
                    return True
        return False

    def _require(self, blob: BlobId) -> None:
        if not self._files.has(blob):
            raise BlobMissing(f"blob {blob.hex()} is not in {self.folder}")

    def _place(self, partial: Path, blob: BlobId, data: bytes, holder: str | None, until: int) -> None:
        """Make room and give the file its name, or change nothing."""
        placing = False
        try:
            with self._index.change() as change:
                if not self._files.holds(blob, data, self._now_ns()):  # Or another writer was faster.
                    if not change.has(blob):
                        self._make_room(change, _counted(len(data)))
                    placing = True
                    self._files.place(partial, blob)
                change.add(blob, _counted(len(data)), self._now_ns())
                _pin(change, blob, holder, until)
        except BaseException:
            if placing:
                self._files.remove(blob)
            raise

    def _make_room(self, change: Change, size: int) -> None:
        change.expire(self._now_ns())
        short = change.total()[0] + size - self.quota_bytes
        victims, won = change.least_used(short, self._files.last_use)
        if won < short:
            raise QuotaExceeded(
                f"{size} bytes do not fit: of a quota of {self.quota_bytes} bytes {change.pinned_bytes()} "
                "are pinned; release some or raise the quota"
            )
        self._evict(change, victims)

    def _evict(self, change: Change, blobs: list[BlobId]) -> None:
        for blob in blobs:
            self._files.remove(blob)
            change.remove(blob)

    def _end(self, holder: str, lease_seconds: float | None) -> int:
        if not _HOLDER.fullmatch(holder):
            raise InvalidHolder(
                "a holder is a letter or digit and up to 127 letters, digits and ._:/- after it, "
                f"unlike {ascii(holder)[:80]}"
            )
        if lease_seconds is None:
            return FOR_EVER
        if not 0 < lease_seconds <= LEASE_SECONDS_MAX:
            raise InvalidHolder(f"a lease lasts up to {LEASE_SECONDS_MAX} seconds, not {lease_seconds}")
        return self._now_ns() + int(lease_seconds * 1e9)

    def _enter(self) -> None:
        """Count what is here if nobody else uses the store; those who do have counted."""
        with self._files.entering() as alone:
            if alone:
                with self._index.change() as change:
                    self._reconcile(change)
        self._files.clean_partials()

    def _reconcile(self, change: Change) -> None:
        """Bring the index up to what the files say."""
        for first_byte in range(256):
            noted, here = change.starting_with(first_byte), self._files.sizes(first_byte)
            for blob in here.keys() - noted:
                size, used_ns = here[blob]
                change.add(blob, _counted(size), used_ns)
            for blob in noted - here.keys():
                change.remove(blob)


def _pin(change: Change, blob: BlobId, holder: str | None, until: int) -> None:
    if holder is not None:
        change.pin(blob, holder, until)


def _counted(size: int) -> int:
    return max(1, -(-size // BLOCK_BYTES)) * BLOCK_BYTES
