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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from noria.market.miner.numbers import NumberSet, decode_numbers
from noria.primitives.types import Hash32

SCHEMA: Final = 1
WAITING_MAX: Final = 100_000
"""Statements that wait to be written; a disk that is slower than that must not fill the memory."""
PLACES_MAX: Final = 10_000
"""Ended places whose earnings are remembered one by one."""

Statement: TypeAlias = tuple[str, tuple[Any, ...]]
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
    opened INTEGER NOT NULL, UNIQUE (job, k, mark)
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


@dataclass(slots=True)
class PlaceRecord:
    """A place as it is remembered; see `noria.market.miner.terms`.

    Attributes
    ----------
    id
        Its name in the journal.
    price, royalty
        Wei per fuel.
    state
        ``open``, ``ended``, or ``gone`` where the chain has another job under this number.
    spent
        Numbers of units that have a receipt.
    next_index, earned, fuel, weight
        Of all that was released.
    paid, gas
        Wei received for it, and spent on transactions about it.
    credited
        Weight.
    opened
        Unix seconds.
    """

    id: int
    job: int
    k: int
    mark: bytes
    program: bytes
    price: int
    royalty: int
    credits: bool
    state: str
    allow_total: int
    allow_signature: bytes
    spent: NumberSet
    next_index: int
    earned: int
    fuel: int
    weight: int
    paid: int
    credited: int
    gas: int
    opened: int


@dataclass(frozen=True, slots=True)
class ReceiptRecord:
    """A released receipt with what is behind it and what came of it; `parts` are the input's, encoded."""

    index: int
    number: int
    digest: bytes
    unit: bytes
    input: bytes
    parts: bytes
    fuel_limit: int
    status: int
    fuel: int
    weight: int
    output_id: bytes
    nonce: bytes
    output: bytes | None
    output_bytes: int
    log: bytes
    milliseconds: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch that was offered; `fixed` once it may have been sent, from when on its borders do not move."""

    root: Hash32
    first_index: int
    count: int
    fuel: int
    weight: int
    approval: bytes
    fixed: bool

    @property
    def end(self) -> int:
        """Index after its last receipt."""
        return self.first_index + self.count


_PLACE: Final = (
    "id, job, k, mark, program, price, royalty, credits, state, allow_total, allow_signature, spent,"
    " next_index, earned, fuel, weight, paid, credited, gas, opened"
)
_RECEIPT: Final = (
    "idx, number, digest, unit, input, parts, fuel_limit, status, fuel, weight, output_id, nonce, output,"
    " output_bytes, log, milliseconds, signature"
)


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
        query = f"SELECT {_PLACE} FROM place WHERE job = ? AND k = ? AND mark = ?"
        return await self._read(
            lambda connection: next(map(_place, connection.execute(query, (job, k, mark))), None)
        )

    async def places(self, *, open_only: bool = False, limit: int = PLACES_MAX) -> list[PlaceRecord]:
        """Return places, the latest first."""
        where = "WHERE state = 'open'" if open_only else ""
        query = f"SELECT {_PLACE} FROM place {where} ORDER BY id DESC LIMIT ?"
        return await self._read(lambda connection: list(map(_place, connection.execute(query, (limit,)))))

    async def receipts(self, place: int, first: int, count: int) -> list[ReceiptRecord]:
        """Return receipts by index, without outputs and logs."""
        columns = _RECEIPT.replace(" output,", " NULL,").replace(" log,", " x'',")
        query = f"SELECT {columns} FROM receipt WHERE place = ? AND idx >= ? ORDER BY idx LIMIT ?"
        return await self._read(
            lambda connection: [
                ReceiptRecord(*row) for row in connection.execute(query, (place, first, count))
            ]
        )

    async def sums(self, place: int, first: int, count: int) -> tuple[int, int]:
        """Return how many of so many receipts from an index on there are, and their fuel."""
        query = (
            "SELECT COUNT(*), COALESCE(SUM(fuel), 0) FROM receipt WHERE place = ? AND idx >= ? AND idx < ?"
        )
        values = (place, first, first + count)
        return await self._read(lambda connection: connection.execute(query, values).fetchone())

    async def untaken(self, place: int) -> list[ReceiptRecord]:
        """Return the receipts whose results the requester has not taken, in order, with everything."""
        query = f"SELECT {_RECEIPT} FROM receipt WHERE place = ? AND taken = 0 ORDER BY idx"
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

        def read(connection: sqlite3.Connection) -> dict[str, int]:
            found = {"earned": 0, "paid": 0, "gas": 0, "fuel": 0, "credited": 0, "jobs": 0}
            for (value,) in connection.execute("SELECT value FROM about WHERE name = 'forgotten'"):
                found |= dict(zip(found, map(int, value.split(b" ")), strict=True))
            query = "SELECT earned, paid, gas, fuel, credited FROM place"
            for earned, paid, gas, fuel, credited in connection.execute(query):
                numbers = (int(earned), int(paid), int(gas), fuel, credited, 1)
                found = {name: found[name] + more for name, more in zip(found, numbers, strict=True)}
            return found

        return await self._read(read)


async def open_journal(path: Path, genesis_root: Hash32, miner: bytes) -> Journal:
    """Open a miner's journal; raises as `Journal.open`."""
    journal = Journal(path)
    await journal.open(genesis_root, miner)
    return journal


# ---------------------------------------------------------------- statements


def begin_place(record: PlaceRecord) -> Statement:
    """Remember a place; its id is given by the caller, who knows the highest."""
    return (
        "INSERT OR IGNORE INTO place (id, job, k, mark, program, price, royalty, credits, opened)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.id,
            record.job,
            record.k,
            record.mark,
            record.program,
            str(record.price),
            str(record.royalty),
            int(record.credits),
            record.opened,
        ),
    )


def keep_allow(place: int, total: int, signature: bytes) -> Statement:
    """Remember an allow."""
    return (
        "UPDATE place SET allow_total = ?, allow_signature = ? WHERE id = ?",
        (str(total), signature, place),
    )


def release(place: int, record: ReceiptRecord) -> Statement:
    """Remember a receipt."""
    return (
        f"INSERT INTO receipt (place, {_RECEIPT}) VALUES (?, {', '.join('?' * 17)})",
        (
            place,
            record.index,
            record.number,
            record.digest,
            record.unit,
            record.input,
            record.parts,
            record.fuel_limit,
            record.status,
            record.fuel,
            record.weight,
            record.output_id,
            record.nonce,
            record.output,
            record.output_bytes,
            record.log,
            record.milliseconds,
            record.signature,
        ),
    )


def keep_sums(record: PlaceRecord) -> Statement:
    """Remember what all receipts of a place amount to."""
    return (
        "UPDATE place SET spent = ?, next_index = ?, earned = ?, fuel = ?, weight = ? WHERE id = ?",
        (
            record.spent.encode(),
            record.next_index,
            str(record.earned),
            record.fuel,
            record.weight,
            record.id,
        ),
    )


def keep_income(record: PlaceRecord) -> Statement:
    """Remember what came of a place on chain."""
    return (
        "UPDATE place SET paid = ?, credited = ?, gas = ?, state = ? WHERE id = ?",
        (str(record.paid), record.credited, str(record.gas), record.state, record.id),
    )


def take(place: int, index: int) -> Statement:
    """Forget a result that has arrived; its receipt stays."""
    return (
        "UPDATE receipt SET taken = 1, output = NULL, log = x'' WHERE place = ? AND idx = ?",
        (place, index),
    )


def offer(place: int, batch: BatchRecord) -> Statement:
    """Remember a batch."""
    return (
        "INSERT OR IGNORE INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            batch.root,
            place,
            batch.first_index,
            batch.count,
            batch.fuel,
            batch.weight,
            batch.approval,
            int(batch.fixed),
        ),
    )


def keep_approval(root: Hash32, signature: bytes) -> Statement:
    """Remember the requester's consent to a batch."""
    return ("UPDATE batch SET approval = ? WHERE root = ?", (signature, root))


def fix(root: Hash32) -> Statement:
    """Remember that a batch may have been sent."""
    return ("UPDATE batch SET fixed = 1 WHERE root = ?", (root,))


def withdraw_offer(root: Hash32) -> Statement:
    """Forget a batch that a longer one takes the place of."""
    return ("DELETE FROM batch WHERE root = ? AND fixed = 0", (root,))


def forget_batch(place: int, batch: BatchRecord) -> tuple[Statement, Statement]:
    """Forget a batch that is done with for ever, and those of its receipts whose results were taken."""
    return (
        ("DELETE FROM batch WHERE root = ?", (batch.root,)),
        (
            "DELETE FROM receipt WHERE place = ? AND idx >= ? AND idx < ? AND taken = 1",
            (place, batch.first_index, batch.end),
        ),
    )


def forget_receipts(place: int) -> tuple[Statement, Statement]:
    """Forget everything of a place but its earnings."""
    return (
        ("DELETE FROM receipt WHERE place = ?", (place,)),
        ("DELETE FROM batch WHERE place = ?", (place,)),
    )


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _place(row: tuple[Any, ...]) -> PlaceRecord:
    values = list(row)
    for place in (5, 6, 9, 13, 16, 18):
        values[place] = int(values[place])
    values[7] = bool(values[7])
    values[11] = decode_numbers(values[11])
    return PlaceRecord(*values)


def _looked_at(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
