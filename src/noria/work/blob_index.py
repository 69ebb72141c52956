"""What a blob store knows beside the files themselves: sizes, last uses, and who wants which blob kept.

An SQLite database shared by all processes that use the store. Its write lock is the store's lock: whoever
adds or removes files does it inside `BlobIndex.change`. Files are the truth about what is there. A row
without a file or a file without a row, left by a process that was killed, only makes the count of bytes wrong
until that is noticed.
"""

from __future__ import annotations

import heapq
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from noria.primitives.types import Hash32
from noria.work.blob_errors import DiskFull, IndexDamaged, StoreBusy, StoreForked, StoreUnavailable
from noria.work.ids import BlobId

FOR_EVER: Final = 2**63 - 1
"""End of a pin without one, in nanoseconds since 1970."""
_APPLICATION_ID: Final = 0x4E4F5242
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE blobs (id BLOB PRIMARY KEY, bytes INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX blobs_by_use ON blobs (used);
CREATE TABLE pins (id BLOB, holder TEXT, until INTEGER NOT NULL, PRIMARY KEY (id, holder)) WITHOUT ROWID;
CREATE INDEX pins_by_holder ON pins (holder);
CREATE INDEX pins_by_end ON pins (until);
CREATE TABLE total (bytes INTEGER NOT NULL, count INTEGER NOT NULL);
INSERT INTO total VALUES (0, 0);
CREATE TRIGGER blob_added AFTER INSERT ON blobs
    BEGIN UPDATE total SET bytes = bytes + new.bytes, count = count + 1; END;
CREATE TRIGGER blob_removed AFTER DELETE ON blobs
    BEGIN UPDATE total SET bytes = bytes - old.bytes, count = count - 1; END;
"""


class Change:
    """One atomic change of the index, while nobody else makes one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(self, blob: BlobId, size: int, used_ns: int) -> None:
        """Note a blob that is now here; one that was noted before stays as it is."""
        self._connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", (blob, size, used_ns))

    def remove(self, blob: BlobId) -> None:
        """Forget a blob, but not its pins: they hold it again when it comes back."""
        self._connection.execute("DELETE FROM blobs WHERE id = ?", (blob,))

    def has(self, blob: BlobId) -> bool:
        """Tell whether a blob is noted."""
        return self._connection.execute("SELECT 1 FROM blobs WHERE id = ?", (blob,)).fetchone() is not None

    def total(self) -> tuple[int, int]:
        """Return (bytes, count) of the blobs noted."""
        size, count = self._connection.execute("SELECT bytes, count FROM total").fetchone()
        return size, count

    def pinned_bytes(self) -> int:
        """Return the bytes of the blobs that somebody holds."""
        query = "SELECT coalesce(sum(bytes), 0) FROM blobs WHERE id IN (SELECT id FROM pins)"
        return int(self._connection.execute(query).fetchone()[0])

    def starting_with(self, first_byte: int) -> set[BlobId]:
        """Return the noted blobs whose id begins with a byte."""
        bounds = (bytes([first_byte]), bytes([first_byte]) + b"\xff" * 32)
        rows = self._connection.execute("SELECT id FROM blobs WHERE id BETWEEN ? AND ?", bounds)
        return {BlobId(Hash32(blob)) for (blob,) in rows}

    def pin(self, blob: BlobId, holder: str, until_ns: int) -> None:
        """Note that a holder wants a blob kept until then; a later word of the same holder replaces it."""
        self._connection.execute("INSERT OR REPLACE INTO pins VALUES (?, ?, ?)", (blob, holder, until_ns))

    def unpin(self, blob: BlobId, holder: str) -> bool:
        """Take a holder's pin away; tell whether there was one."""
        query = "DELETE FROM pins WHERE id = ? AND holder = ?"
        return self._connection.execute(query, (blob, holder)).rowcount > 0

    def release(self, holder: str) -> int:
        """Take all pins of a holder away and return how many there were."""
        return self._connection.execute("DELETE FROM pins WHERE holder = ?", (holder,)).rowcount

    def expire(self, now_ns: int) -> None:
        """Take away the pins that have ended."""
        self._connection.execute("DELETE FROM pins WHERE until <= ?", (now_ns,))

    def holders(self, blob: BlobId) -> list[str]:
        """Return who holds a blob."""
        rows = self._connection.execute("SELECT holder FROM pins WHERE id = ? ORDER BY holder", (blob,))
        return [holder for (holder,) in rows]

    def least_used(self, short: int, last_use: Callable[[BlobId], int | None]) -> tuple[list[BlobId], int]:
        """Choose unpinned blobs to remove, least recently used first.

        Uses are noted late, so a row's time is only a lower bound of the true one, which `last_use` tells;
        what it told is noted now. The heap keeps the blobs whose true time was looked up.

        Parameters
        ----------
        short
            Bytes to be won.
        last_use
            True time of a blob's last use, in nanoseconds; ``None`` where it is not here at all.

        Returns
        -------
        tuple of list and int
            The blobs, and their bytes: less than `short` where there are no more.
        """
        chosen: list[BlobId] = []
        won = 0
        looked_up: list[tuple[int, bytes, int]] = []
        query = "SELECT used, id, bytes FROM blobs WHERE id NOT IN (SELECT id FROM pins) ORDER BY used, id"
        with closing(self._connection.cursor()) as rows:
            rows.execute(query)
            row = rows.fetchone()
            while won < short and (row is not None or looked_up):
                if looked_up and (row is None or looked_up[0] <= row):
                    _, blob, size = heapq.heappop(looked_up)
                else:
                    used, blob, size = row
                    true_use = last_use(BlobId(Hash32(blob)))
                    row = rows.fetchone()
                    if true_use is not None and true_use > used:
                        heapq.heappush(looked_up, (true_use, blob, size))
                        continue
                chosen.append(BlobId(Hash32(blob)))
                won += size
        for true_use, blob, _ in looked_up:
            self._connection.execute("UPDATE blobs SET used = ? WHERE id = ?", (true_use, blob))
        return chosen, won


class BlobIndex:
    """The index of one store, in this process.

    Parameters
    ----------
    path
        The database file.
    durable
        Whether a change survives a power cut once it has been made. It always survives a killed process.
    lock_seconds
        How long to wait for another process's change.

    Raises
    ------
    BlobStoreError
        Where it cannot be opened.
    """

    def __init__(self, path: Path, *, durable: bool, lock_seconds: float) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._process = os.getpid()
        # SQLite would ask the umask for permissions.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        with self._named_errors():
            self._connection = sqlite3.connect(
                path, timeout=lock_seconds, isolation_level=None, check_same_thread=False
            )
            try:
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
                self._use_wal(lock_seconds)
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Close the database; in a forked child this leaves the parent's alone."""
        if os.getpid() == self._process:
            with self._lock:
                self._connection.close()

    @contextmanager
    def change(self) -> Iterator[Change]:
        """Hold the store's lock and make one atomic change; an exception inside undoes it.

        Raises
        ------
        BlobStoreError
            Where the database cannot be read or written.
        """
        if os.getpid() != self._process:
            raise StoreForked("the blob store was opened before a fork; open it again in the new process")
        with self._lock, self._named_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield Change(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # Where SQLite itself has undone it.
                    self._connection.execute("ROLLBACK")
                raise

    def _use_wal(self, lock_seconds: float) -> None:
        """Switch to the write-ahead log; SQLite's own wait for a lock does not cover this switch."""
        deadline = time.monotonic() + lock_seconds
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                busy = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
                if not busy or time.monotonic() >= deadline:
                    raise
            time.sleep(0.005)

    def _prepare(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _statements(_SCHEMA):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            elif version != _SCHEMA_VERSION:
                raise IndexDamaged(
                    f"{self._path} has version {version}, not {_SCHEMA_VERSION}: use another folder"
                )
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            folder = self._path.parent
            if name == "SQLITE_FULL":
                raise DiskFull(f"no room left for blob store {folder}; free some space") from error
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise StoreBusy(
                    f"another process holds the lock of blob store {folder}; try again"
                ) from error
            if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                raise IndexDamaged(
                    f"{self._path} is damaged ({error}); without it the blobs stay, but their pins are lost: "
                    "remove it and pin again"
                ) from error
            raise StoreUnavailable(f"blob store {folder} cannot be used: {error}") from error


def _statements(script: str) -> Iterator[str]:
    """Split a script: `executescript` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
