"""What a miner must not forget: allows, released receipts, outputs until they are taken, batches, earnings.

One SQLite file. Writes come from the event loop, wait together, and are on the disk when they return: what is
released or relied upon is written first and sent afterwards. What costs nothing is not kept: units that were
ordered and not released are ordered again after a restart.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from noria.market.miner.entries import (
    PLACE_COLUMNS,
    RECEIPT_COLUMNS,
    BatchRecord,
    PlaceRecord,
    ReceiptRecord,
    Statement,
    place_of,
)
from noria.primitives.types import Hash32

SCHEMA: Final = 1
WAITING_MAX: Final = 100_000
"""Statements that wait to be written; a disk that is slower than that must not fill the memory."""
PLACES_MAX: Final = 10_000
"""Ended places whose earnings are remembered one by one."""

_SUMS: Final = ("earned", "paid", "gas", "fuel", "credited", "jobs")

T = TypeVar("T")

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS place (
    id INTEGER PRIMARY KEY, job INTEGER NOT NULL, k INTEGER NOT NULL, mark BLOB NOT NULL,
    program BLOB NOT NULL, price TEXT NOT NULL, royalty TEXT NOT NULL, credits INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'open',
    allow_total TEXT NOT NULL DEFAULT '0', allow_signature BLOB NOT NULL DEFAULT x'',
    spent BLOB NOT NULL DEFAULT x'90', next_index INTEGER NOT NULL DEFAULT 0,
    earned TEXT NOT NULL DEFAULT '0', fuel INTEGER NOT NULL DEFAULT 0, weight INTEGER NOT NULL DEFAULT 0,
    paid TEXT NOT NULL DEFAULT '0', credited INTEGER NOT NULL DEFAULT 0, gas TEXT NOT NULL DEFAULT '0',
    opened INTEGER NOT NULL, seen INTEGER NOT NULL DEFAULT 0, UNIQUE (job, k, mark)
);
CREATE TABLE IF NOT EXISTS receipt (
    place INTEGER NOT NULL, idx INTEGER NOT NULL, number INTEGER NOT NULL, digest BLOB NOT NULL,
    unit BLOB NOT NULL, input BLOB NOT NULL, parts BLOB NOT NULL, fuel_limit INTEGER NOT NULL,
    status INTEGER NOT NULL, fuel INTEGER NOT NULL, weight INTEGER NOT NULL, output_id BLOB NOT NULL,
    nonce BLOB NOT NULL, output BLOB, output_bytes INTEGER NOT NULL, log BLOB NOT NULL,
    milliseconds INTEGER NOT NULL, signature BLOB NOT NULL, taken INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (place, idx)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch (
    root BLOB PRIMARY KEY, place INTEGER NOT NULL, first_index INTEGER NOT NULL, count INTEGER NOT NULL,
    fuel INTEGER NOT NULL, weight INTEGER NOT NULL, approval BLOB NOT NULL DEFAULT x'',
    fixed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS batch_of_place ON batch (place, first_index);
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""


class JournalError(Exception):
    """The journal cannot be used; the message says what to do."""


class JournalForeign(JournalError):
    """The file is another miner's, or of another chain, or no journal."""


class Journal:
    """The journal of one miner on one chain. Made by `open_journal`; its methods belong to one event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = ThreadPoolExecutor(1, "noria-journal")
        self._reader = ThreadPoolExecutor(1, "noria-journal-read")
        self._waiting: list[Statement] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._broken: JournalError | None = None
        self._write_to: sqlite3.Connection | None = None
        self._read_from: sqlite3.Connection | None = None

    # ------------------------------------------------------------ life

    async def open(self, genesis_root: Hash32, miner: bytes) -> None:
        """Open the file, which is made if it is not there.

        Raises
        ------
        JournalForeign, JournalError
            Where it is another's, or cannot be used.
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._writer, self._open_to_write, bytes(genesis_root) + bytes(miner))
            await loop.run_in_executor(self._reader, self._open_to_read)
        except sqlite3.DatabaseError as error:
            await self.close()
            raise JournalError(
                f"{self._path} cannot be used: {error}; restore it, or remove it and lose what it remembers"
            ) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Write what waits, and close the file."""
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)
        loop = asyncio.get_running_loop()
        for connection, executor in ((self._write_to, self._writer), (self._read_from, self._reader)):
            if connection is not None:
                await loop.run_in_executor(executor, connection.close)
            executor.shutdown(wait=False)
        self._write_to = self._read_from = None

    def _open_to_write(self, owner: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._write_to = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 2000")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA):
            raise JournalForeign(
                f"{self._path} is of version {version}, not {SCHEMA}: use this node's own folder"
            )
        connection.executescript(_TABLES)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute("INSERT OR IGNORE INTO about VALUES ('owner', ?)", (owner,))
        (found,) = connection.execute("SELECT value FROM about WHERE name = 'owner'").fetchone()
        if found != owner:
            raise JournalForeign(f"{self._path} is the journal of another miner or chain: use another folder")
        _forget_oldest(connection)

    def _open_to_read(self) -> None:
        self._read_from = _connect(self._path)
        self._read_from.execute("PRAGMA query_only = TRUE")

    # ------------------------------------------------------------ writing

    async def write(self, *statements: Statement) -> None:
        """Write; what was written before is never lost without this.

        Raises
        ------
        JournalError
            Where it cannot be written: rely on nothing of it, send nothing.
        """
        await asyncio.shield(self.write_soon(*statements))

    def write_soon(self, *statements: Statement) -> asyncio.Future[None]:
        """Like `write`, in the order of calls; the future says when it is on the disk."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_looked_at)
        if self._broken is None and len(self._waiting) > WAITING_MAX:
            self._broken = JournalError(f"{self._path}: the disk does not keep up")
        if self._broken is not None:
            future.set_exception(self._broken)
            return future
        self._waiting.extend(statements)
        self._waiters.append(future)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._flush())
        return future

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiters:
            statements, self._waiting = self._waiting, []
            waiters, self._waiters = self._waiters, []
            error: JournalError | None = None
            try:
                await loop.run_in_executor(self._writer, self._apply, statements)
            except (sqlite3.Error, OSError) as problem:
                error = self._broken = JournalError(
                    f"{self._path} cannot be written: {problem}; nothing more is released until a restart"
                )
            for waiter in waiters:
                if waiter.done():
                    continue
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)

    def _apply(self, statements: Sequence[Statement]) -> None:
        connection = self._write_to
        if connection is None:
            raise sqlite3.OperationalError("it is closed")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for text, values in statements:
                connection.execute(text, values)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    # ------------------------------------------------------------ reading

    async def _read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._read_from
        if connection is None:
            raise JournalError(f"{self._path} is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, function, connection)
        except (sqlite3.Error, ValueError) as error:
            raise JournalError(f"{self._path} cannot be read: {error}") from error

    async def place(self, job: int, k: int, mark: bytes) -> PlaceRecord | None:
        """Return a place."""
        query = f"SELECT {PLACE_COLUMNS} FROM place WHERE job = ? AND k = ? AND mark = ?"
        return await self._read(
            lambda connection: next(map(place_of, connection.execute(query, (job, k, mark))), None)
        )

    async def places(self, *, limit: int) -> list[PlaceRecord]:
        """Return places, the latest first."""
        query = f"SELECT {PLACE_COLUMNS} FROM place ORDER BY id DESC LIMIT ?"
        return await self._read(lambda connection: list(map(place_of, connection.execute(query, (limit,)))))

    async def open_places(self, limit: int) -> list[PlaceRecord]:
        """Return places that are not over: first those to which most is owed, then the latest."""
        query = (
            f"SELECT {PLACE_COLUMNS} FROM place WHERE state = 'open'"
            " ORDER BY CAST(earned AS REAL) - CAST(paid AS REAL) DESC, id DESC LIMIT ?"
        )
        return await self._read(lambda connection: list(map(place_of, connection.execute(query, (limit,)))))

    async def receipts(self, place: int, first: int, count: int) -> list[ReceiptRecord]:
        """Return receipts by index, without outputs and logs."""
        columns = RECEIPT_COLUMNS.replace(" output,", " NULL,").replace(" log,", " x'',")
        query = f"SELECT {columns} FROM receipt WHERE place = ? AND idx >= ? ORDER BY idx LIMIT ?"
        return await self._read(
            lambda connection: [
                ReceiptRecord(*row) for row in connection.execute(query, (place, first, count))
            ]
        )

    async def sums(self, place: int, first: int, count: int) -> tuple[int, int]:
        """Return how many of so many receipts from an index on there are, and their fuel."""
        query = (
            "SELECT COUNT(*), COALESCE(SUM(fuel), 0), MIN(idx) FROM receipt"
            " WHERE place = ? AND idx >= ? AND idx < ?"
        )
        values = (place, first, first + count)
        found, fuel, least = await self._read(lambda connection: connection.execute(query, values).fetchone())
        return (found, fuel) if least == first else (0, 0)

    async def untaken(self, place: int) -> list[ReceiptRecord]:
        """Return the receipts whose results the requester has not taken, in order, with everything."""
        query = f"SELECT {RECEIPT_COLUMNS} FROM receipt WHERE place = ? AND taken = 0 ORDER BY idx"
        return await self._read(
            lambda connection: [ReceiptRecord(*row) for row in connection.execute(query, (place,))]
        )

    async def batches(self, place: int) -> list[BatchRecord]:
        """Return the batches of a place, in order."""
        query = (
            "SELECT root, first_index, count, fuel, weight, approval, fixed FROM batch WHERE place = ?"
            " ORDER BY first_index, count"
        )
        return await self._read(
            lambda connection: [
                BatchRecord(Hash32(root), first, count, fuel, weight, approval, bool(fixed))
                for root, first, count, fuel, weight, approval, fixed in connection.execute(query, (place,))
            ]
        )

    async def roots(self) -> frozenset[Hash32]:
        """Return the roots of all batches that are not done with."""
        query = "SELECT root FROM batch"

        def read(connection: sqlite3.Connection) -> frozenset[Hash32]:
            return frozenset(Hash32(root) for (root,) in connection.execute(query))

        return await self._read(read)

    async def totals(self) -> dict[str, int]:
        """Return sums over all places there ever were: earned, paid, gas (wei), fuel, credited."""
        return await self._read(_totals)


async def open_journal(path: Path, genesis_root: Hash32, miner: bytes) -> Journal:
    """Open a miner's journal; raises as `Journal.open`."""
    journal = Journal(path)
    await journal.open(genesis_root, miner)
    return journal


def _totals(connection: sqlite3.Connection) -> dict[str, int]:
    found = dict.fromkeys(_SUMS, 0)
    for (value,) in connection.execute("SELECT value FROM about WHERE name = 'forgotten'"):
        found = dict(zip(_SUMS, map(int, value.split(b" ")), strict=True))
    for row in connection.execute("SELECT earned, paid, gas, fuel, credited, 1 FROM place"):
        found = {name: found[name] + int(more) for name, more in zip(_SUMS, row, strict=True)}
    return found


def _forget_oldest(connection: sqlite3.Connection) -> None:
    """Let go of ended places beyond `PLACES_MAX`; what they have earned stays in the totals."""
    connection.execute("BEGIN IMMEDIATE")
    before = _totals(connection)
    connection.execute(
        "DELETE FROM place WHERE state <> 'open' AND id <= (SELECT COALESCE(MAX(id), 0) - ? FROM place)",
        (PLACES_MAX,),
    )
    gone = (before[name] - now for name, now in _totals(connection).items())
    old = connection.execute("SELECT value FROM about WHERE name = 'forgotten'").fetchone()
    known = map(int, old[0].split(b" ")) if old else [0] * len(_SUMS)
    sums = " ".join(str(one + other) for one, other in zip(known, gone, strict=True))
    connection.execute("INSERT OR REPLACE INTO about VALUES ('forgotten', ?)", (sums.encode(),))
    connection.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _looked_at(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
