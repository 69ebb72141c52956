"""What a blob store refuses or cannot do, each by its own name."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class BlobStoreError(Exception):
    """A blob store cannot do what it was asked for; base of the errors below."""


class BlobMissing(BlobStoreError):
    """The blob is not here."""


class BlobCorrupt(BlobStoreError):
    """The file did not hold what its name says. It has been taken out of the store."""


class BlobTooLarge(BlobStoreError):
    """More bytes than the store takes in one blob."""


class BlobMismatch(BlobStoreError):
    """The bytes are not those of the blob that was expected."""


class BlobPinned(BlobStoreError):
    """The blob cannot be deleted while somebody holds it."""


class InvalidHolder(BlobStoreError):
    """A holder's name, or the length of a lease, that is none."""


class QuotaExceeded(BlobStoreError):
    """There is no room under the quota that is not pinned. Nothing was stored or removed."""


class DiskFull(BlobStoreError):
    """The disk, or the user's share of it, has no room left. Nothing was stored."""


class StoreUnavailable(BlobStoreError):
    """The store's folder cannot be made, read or written."""


class UnsafeFolder(BlobStoreError):
    """The folder is another user's, open to other users, or holds something else."""


class StoreBusy(BlobStoreError):
    """Another process held the store's lock for too long."""


class StoreForked(BlobStoreError):
    """The store was opened before a fork: a child process opens it again."""


class IndexDamaged(BlobStoreError):
    """The index is not one, or of another version."""


def os_failure(folder: Path, error: OSError) -> BlobStoreError:
    """Return the named error for one of the operating system."""
    if error.errno in _DISK_FULL:
        return DiskFull(f"no room left for blob store {folder} ({error.strerror}); free some space")
    return StoreUnavailable(f"blob store {folder} cannot be used: {error.strerror or error}")
