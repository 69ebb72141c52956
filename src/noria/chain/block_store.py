"""Blocks on disk, beside the engine's store: envelopes, the inputs that came with them, what is final.

One SQLite file. A block is one transaction, written after the engine has its payload, so that after
``kill -9`` the engine is never behind: what it has beyond this store is not asked for by anybody. A block of
others may be lost to a power cut, for they have it; one's own is on the disk before `put` returns.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noria.consensus.votes import Checkpoint
from noria.primitives.types import Hash32

SCHEMA: Final = 1
RANGE_MAX: Final = 1024
"""Most blocks that one read returns."""
_INTEGER_END: Final = 1 << 63
"""What the store takes for a number is below."""

_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    root BLOB PRIMARY KEY,
    parent BLOB NOT NULL,
    slot INTEGER NOT NULL,
    height INTEGER NOT NULL,
    payload BLOB NOT NULL,
    final INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX by_height ON blocks (height);
CREATE INDEX by_payload ON blocks (payload);
CREATE INDEX by_final_slot ON blocks (final, slot);
CREATE TABLE bodies (root BLOB PRIMARY KEY, block BLOB NOT NULL, input BLOB);
CREATE TABLE finals (epoch INTEGER PRIMARY KEY, root BLOB NOT NULL);
CREATE TABLE verdicts (receipt BLOB PRIMARY KEY, is_right INTEGER NOT NULL, slot INTEGER NOT NULL);
"""


class BlockStoreError(Exception):
    """The store of blocks cannot be used; the message says why and what to do."""


class BlockStoreForeign(BlockStoreError):
    """The file holds another chain's blocks, those of another version, or something else."""


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """Where a stored block stands.

    Attributes
    ----------
    root, parent, slot, height
        As in its envelope; height counts blocks since genesis.
    payload
        Hash of its payload.
    final
        Whether it is final.
    """

    root: Hash32
    parent: Hash32
    slot: int
    height: int
    payload: Hash32
    final: bool


@dataclass(frozen=True, slots=True)
class BlockBody:
    """A stored block as it is sent: its encoding, and the input of its certificate's unit if it has one."""

    block: bytes
    input: bytes | None


class BlockStore:
    """The blocks of one chain. Any thread may use it; reads and writes take turns.

    Parameters
    ----------
    path
        The file; made if it is not there.
    genesis_root
        Of the chain.
    durable
        Whether what is put durably survives a power cut; everything always survives a killed process.
    read_only
        Only to look at it, while another process may be writing.

    Raises
    ------
    BlockStoreForeign
        Where the file belongs to another chain, or is no store.
    BlockStoreError
        Where it cannot be opened.
    """

    def __init__(
        self, path: Path, genesis_root: Hash32, *, durable: bool = True, read_only: bool = False
    ) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            where = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
            self._db = sqlite3.connect(
                where, uri=True, isolation_level=None, check_same_thread=False, timeout=10.0
            )
        except (OSError, sqlite3.Error) as error:
            raise BlockStoreError(f"{path} cannot be opened: {error}") from error
        try:
            if read_only:
                self._check(genesis_root)
            else:
                self._open(genesis_root, durable)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise BlockStoreForeign(f"{path} is no store of blocks: {error}; use another folder") from error
        except BaseException:
            self._db.close()
            raise

    def _open(self, genesis_root: Hash32, durable: bool) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._durable = durable
        with self._transaction() as db:
            if db.execute("SELECT name FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
                for statement in _TABLES.split(";"):
                    db.execute(statement)
                db.executemany(
                    "INSERT INTO meta VALUES (?, ?)",
                    [("schema", SCHEMA.to_bytes(4, "big")), ("genesis", genesis_root)],
                )
                return
        self._check(genesis_root)

    def _check(self, genesis_root: Hash32) -> None:
        found = dict(self._db.execute("SELECT name, value FROM meta"))
        if found.get("schema") != SCHEMA.to_bytes(4, "big"):
            raise BlockStoreForeign(
                f"{self._path} was written by another version: start with an empty folder"
            )
        if found.get("genesis") != genesis_root:
            raise BlockStoreForeign(
                f"{self._path} holds the chain 0x{found.get('genesis', b'').hex()}, asked for is"
                f" 0x{genesis_root.hex()}: use its specification or another folder"
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    # ------------------------------------------------------------ writing

    def put(self, blocks: Iterable[tuple[StoredBlock, BlockBody]], *, durable: bool = False) -> None:
        """Store blocks, all of them or none; those that are there already stay as they are.

        Parameters
        ----------
        blocks
            Which.
        durable
            Whether they, and all before them, are on the disk when this returns.
        """
        with self._transaction(durable=durable and self._durable) as db:
            for block, body in blocks:
                db.execute(
                    "INSERT OR IGNORE INTO blocks VALUES (?, ?, ?, ?, ?, ?)",
                    (block.root, block.parent, block.slot, block.height, block.payload, int(block.final)),
                )
                db.execute(
                    "INSERT OR IGNORE INTO bodies VALUES (?, ?, ?)", (block.root, body.block, body.input)
                )

    def finalise(self, checkpoint: Checkpoint, final: Sequence[Hash32], dropped: Iterable[Hash32]) -> None:
        """Mark blocks as final because a checkpoint is, and forget those that can never be."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO finals VALUES (?, ?)", (checkpoint.epoch, checkpoint.root))
            db.executemany("UPDATE blocks SET final = 1 WHERE root = ?", [(root,) for root in final])
            for root in dropped:
                db.execute("DELETE FROM blocks WHERE root = ? AND final = 0", (root,))
                db.execute(
                    "DELETE FROM bodies WHERE root = ? AND root NOT IN (SELECT root FROM blocks)", (root,)
                )

    def begin_again(self, checkpoint: Checkpoint | None) -> None:
        """Take back the finality of everything above a checkpoint; of everything if there is none."""
        with self._transaction() as db:
            height = 0
            if checkpoint is not None:
                row = db.execute("SELECT height FROM blocks WHERE root = ?", (checkpoint.root,)).fetchone()
                height = row[0] if row else 0
            db.execute("UPDATE blocks SET final = 0 WHERE height > ?", (height,))
            db.execute("DELETE FROM finals WHERE epoch > ?", (checkpoint.epoch if checkpoint else -1,))

    def put_verdict(self, receipt: Hash32, is_right: bool, slot: int) -> None:
        """Remember what running a receipt's unit again has shown."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", (receipt, int(is_right), slot))

    def forget_verdicts(self, before_slot: int) -> None:
        """Forget verdicts about blocks of slots before one."""
        with self._transaction() as db:
            db.execute("DELETE FROM verdicts WHERE slot < ?", (before_slot,))

    # ------------------------------------------------------------ reading

    def block(self, root: Hash32) -> StoredBlock | None:
        """Return where a block stands."""
        return self._one("WHERE root = ?", root)

    def by_payload(self, payload_hash: Hash32) -> StoredBlock | None:
        """Return where the block with a payload stands."""
        return self._one("WHERE payload = ?", payload_hash)

    def final_checkpoints(self) -> Iterator[Checkpoint]:
        """Return the final checkpoints after genesis, highest first."""
        below = 1 << 62
        while True:
            with self._lock:
                row = self._db.execute(
                    "SELECT epoch, root FROM finals WHERE epoch < ? ORDER BY epoch DESC LIMIT 1", (below,)
                ).fetchone()
            if row is None:
                return
            below = row[0]
            yield Checkpoint(row[0], Hash32(row[1]))

    def last_final_before(self, slot: int) -> StoredBlock | None:
        """Return the last final block of a slot before one; `None` if that is genesis."""
        return self._one("WHERE final = 1 AND slot < ? ORDER BY slot DESC", slot)

    def not_final(self) -> Iterator[StoredBlock]:
        """Return what may become final, parents first, as it is when its turn comes."""
        slot, root = -1, Hash32(b"")
        where = "WHERE final = 0 AND (slot, root) > (?, ?) ORDER BY slot, root LIMIT ?"
        while part := self._many(where, (slot, root, RANGE_MAX)):
            yield from part
            slot, root = part[-1].slot, part[-1].root

    def final_range(self, first_height: int, count: int) -> list[StoredBlock]:
        """Return final blocks from a height on, in order."""
        if first_height >= _INTEGER_END:
            return []
        return self._many(
            "WHERE final = 1 AND height >= ? ORDER BY height LIMIT ?", (first_height, min(count, RANGE_MAX))
        )

    def body(self, root: Hash32) -> BlockBody | None:
        """Return a block as it is sent."""
        with self._lock:
            row = self._db.execute("SELECT block, input FROM bodies WHERE root = ?", (root,)).fetchone()
        return None if row is None else BlockBody(*row)

    def verdict(self, receipt: Hash32) -> bool | None:
        """Return what is remembered about a receipt's unit."""
        with self._lock:
            row = self._db.execute("SELECT is_right FROM verdicts WHERE receipt = ?", (receipt,)).fetchone()
        return None if row is None else bool(row[0])

    # ------------------------------------------------------------ inside

    def _one(self, where: str, *arguments: object) -> StoredBlock | None:
        found = self._many(f"{where} LIMIT 1", arguments)
        return found[0] if found else None

    def _many(self, where: str, arguments: Sequence[object]) -> list[StoredBlock]:
        query = f"SELECT root, parent, slot, height, payload, final FROM blocks {where}"
        with self._lock:
            rows = self._db.execute(query, tuple(arguments)).fetchall()
        return [
            StoredBlock(Hash32(root), Hash32(parent), slot, height, Hash32(payload), bool(final))
            for root, parent, slot, height, payload, final in rows
        ]

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if durable:
                    self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
                if durable:
                    self._db.execute("PRAGMA synchronous = NORMAL")
            except sqlite3.OperationalError as error:
                raise BlockStoreError(f"{self._path}: {error}; is the disk full?") from error
