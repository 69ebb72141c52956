"""The files of a blob store: how they appear whole, how they are read, where damaged ones go.

::

    blobs/ab/cdef…      the blob abcdef…, read-only
    partial/…           what is being written; locked by its writer as long as that lives
    quarantine/…        files that did not hold what their name says
    index.sqlite        see `blob_index`
    users               locked by everybody who has the store open
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from noria.primitives.types import HASH_BYTES, Hash32
from noria.work.blob_errors import BlobCorrupt, BlobMissing, BlobTooLarge, UnsafeFolder, os_failure
from noria.work.blob_index import Change
from noria.work.ids import BlobId, InvalidId, blob_id

QUARANTINED_MAX: Final = 8
"""Damaged files that are kept for a look at them."""
INDEX: Final = "index.sqlite"

_INDEX_FILES: Final = {INDEX + suffix for suffix in ("", "-wal", "-shm", "-journal")}
_OURS: Final = {"blobs", "partial", "quarantine", "users"} | _INDEX_FILES
_BLOB_NAME: Final = re.compile(r"[0-9a-f]{64}")


class Damaged(Exception):
    """A file that is not the blob it should be. Whoever holds the store's lock puts it aside.

    Attributes
    ----------
    status
        Of the file that was looked at.
    """

    def __init__(self, status: os.stat_result) -> None:
        super().__init__()
        self.status = status


class BlobFiles:
    """The files in one folder.

    Parameters
    ----------
    folder
        Made with permissions for its owner alone if it is not there.
    durable
        Whether files survive a power cut once they are placed.

    Raises
    ------
    UnsafeFolder
        Where the folder is not for this.
    OSError
        Where it cannot be used; so do all methods.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.folder = folder
        self.blobs = folder / "blobs"
        self.partials = folder / "partial"
        self.quarantine = folder / "quarantine"
        self._durable = durable
        _make_private(folder)
        for child in (self.blobs, self.partials, self.quarantine):
            child.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._users = os.open(folder / "users", flags, 0o600)

    def close(self) -> None:
        """Stop being a user of the folder."""
        if self._users >= 0:
            os.close(self._users)
            self._users = -1

    @contextmanager
    def entering(self) -> Iterator[bool]:
        """Become a user; inside, tell whether there is no other. Others who enter wait that long."""
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        yield alone
        fcntl.flock(self._users, fcntl.LOCK_SH)

    def path(self, blob: BlobId) -> Path:
        """Return where a blob lies.

        Raises
        ------
        InvalidId
            Where the name is none: whatever it is, it never becomes a path.
        """
        if not isinstance(blob, bytes) or len(blob) != HASH_BYTES:
            raise InvalidId(f"a blob's name has {HASH_BYTES} bytes, unlike {ascii(blob)[:80]}")
        name = blob.hex()
        return self.blobs / name[:2] / name[2:]

    def read(self, blob: BlobId, blob_bytes_max: int, now_ns: int) -> tuple[int, bytes]:
        """Open, read and check a blob and note the use; the caller closes the descriptor.

        Raises
        ------
        BlobMissing
            Where it is not here.
        BlobTooLarge
            Where it has more bytes than may be read.
        Damaged
            Where the file is not that blob.
        """
        path = self.path(blob)
        try:
            # A pipe must not block, and a link is not followed.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise BlobMissing(f"blob {blob.hex()} is not in {self.folder}") from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):  # A link or a socket.
                raise Damaged(path.lstat()) from None
            raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Damaged(status)
            if status.st_size > blob_bytes_max:
                raise BlobTooLarge(
                    f"blob {blob.hex()} has {status.st_size} bytes, at most {blob_bytes_max} are read"
                )
            data = _read_all(descriptor, status.st_size + 1)
            if blob_id(data) != blob:
                raise Damaged(status)
            used = max(now_ns, status.st_mtime_ns)
            os.utime(descriptor, ns=(used, used))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, data

    def holds(self, blob: BlobId, data: bytes, now_ns: int) -> bool:
        """Tell whether a blob is here undamaged, knowing its bytes; if so, that is a use."""
        try:
            descriptor, found = self.read(blob, len(data), now_ns)
        except (BlobMissing, BlobTooLarge, Damaged):
            return False
        os.close(descriptor)
        return found == data

    def set_aside(self, blob: BlobId, damaged: Damaged, change: Change) -> BlobCorrupt:
        """Take a damaged file out of the store, unless it has been replaced since; return what to raise."""
        path = self.path(blob)
        with suppress(FileNotFoundError):
            found = path.lstat()
            if (found.st_dev, found.st_ino) == (damaged.status.st_dev, damaged.status.st_ino):
                path.replace(self.quarantine / f"{time.time_ns():020}-{blob.hex()}")
                change.remove(blob)
        for old in sorted(self.quarantine.iterdir())[:-QUARANTINED_MAX]:
            with suppress(OSError):
                old.unlink()
        return BlobCorrupt(f"blob {blob.hex()} was damaged on disk; the file is now in {self.quarantine}")

    @contextmanager
    def partial(self, data: bytes, now_ns: int) -> Iterator[Path]:
        """Write bytes where nobody looks for blobs; what is still there at the end is removed."""
        path, descriptor = self._new_partial()
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.utime(descriptor, ns=(now_ns, now_ns))
            if self._durable:
                os.fsync(descriptor)
            yield path
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def place(self, partial: Path, blob: BlobId) -> None:
        """Give a written file its blob's name, replacing what may be there."""
        path = self.path(blob)
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._sync(self.blobs)
        partial.replace(path)
        self._sync(path.parent)

    def remove(self, blob: BlobId) -> None:
        """Remove a blob's file, if there is one."""
        self.path(blob).unlink(missing_ok=True)

    def has(self, blob: BlobId) -> bool:
        """Tell whether a blob's file is here."""
        return self.path(blob).is_file()

    def last_use(self, blob: BlobId) -> int | None:
        """Return when a blob was last used, in nanoseconds since 1970; ``None`` if it is not here."""
        try:
            return self.path(blob).lstat().st_mtime_ns
        except FileNotFoundError:
            return None

    def sizes(self, first_byte: int) -> dict[BlobId, tuple[int, int]]:
        """Return (bytes, last use) of the blobs here whose name begins with a byte."""
        folder = self.blobs / f"{first_byte:02x}"
        found = {}
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                name = folder.name + entry.name
                if _BLOB_NAME.fullmatch(name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found[BlobId(Hash32(bytes.fromhex(name)))] = (status.st_size, status.st_mtime_ns)
        return found

    def clean_partials(self) -> None:
        """Remove what killed writers have left."""
        for path in list(self.partials.iterdir()):
            with suppress(FileNotFoundError, BlockingIOError):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(descriptor)

    def _new_partial(self) -> tuple[Path, int]:
        while True:
            path = self.partials / secrets.token_hex(16)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            # The lock tells those who clean up that the writer lives, and goes with it. One of them may have
            # been faster; then the next name is tried.
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:
                    return path, descriptor
            os.close(descriptor)

    def _sync(self, folder: Path) -> None:
        if self._durable:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextmanager
def named_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the operating system into the store's."""
    try:
        yield
    except OSError as error:
        raise os_failure(folder, error) from error


def _read_all(descriptor: int, size_max: int) -> bytes:
    """Read to the end, but no more than so many bytes."""
    parts = []
    while size_max > 0 and (part := os.read(descriptor, size_max)):
        parts.append(part)
        size_max -= len(part)
    return b"".join(parts)


def _make_private(folder: Path) -> None:
    """Make the folder, or check that it is ours alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise UnsafeFolder(f"{folder} belongs to another user; choose another folder")
    if status.st_mode & 0o077:
        raise UnsafeFolder(f"{folder} is open to other users; chmod 700 {folder}")
    if strangers := {entry.name for entry in folder.iterdir()} - _OURS:
        name = ascii(min(strangers))[:80]
        raise UnsafeFolder(f"{folder} holds {name}, which is no part of a blob store; choose another folder")
