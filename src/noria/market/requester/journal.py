"""What a requester must not forget: its jobs, their session keys, the receipts, and who has lied.

One SQLite file in the user's data folder, readable by its owner alone. A session key can spend its job's
budget and nothing else. Every process of the user writes its own jobs; any of them can list all.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from noria.market.requester.evidence import SignedReceipt
from noria.primitives.types import Address, Hash32

JOURNAL_VARIABLE: Final = "NORIA_JOBS"
"""Environment variable that names another file."""
NAME: Final = "jobs.sqlite"
LOG_BYTES_MAX: Final = 16 << 10
"""Of each unit's log that is kept."""
BUSY_SECONDS: Final = 10.0
BAN_SECONDS: Final = 7 * 24 * 3600
"""How long a miner that lied is left alone."""
LIVE_STATES: Final = ("opening", "assigning", "running", "closing")
VERSION: Final = 2

_SCHEMA: Final = """
create table if not exists jobs (
    id integer primary key,
    chain blob not null,
    number integer,
    requester blob not null,
    session_key blob not null,
    title text not null,
    node text not null,
    state text not null,
    budget text not null,
    created real not null,
    updated real not null,
    pid integer not null,
    process_start integer not null,
    wants_close integer not null default 0,
    view blob,
    opening_nonce integer,
    opening_block integer
);
create index if not exists jobs_by_number on jobs (chain, number);
create table if not exists receipts (
    job integer not null references jobs (id),
    k integer not null,
    position integer not null,
    unit blob not null,
    receipt blob not null,
    signature blob not null,
    nonce blob not null,
    seal blob,
    price text not null,
    milliseconds integer not null,
    log blob not null,
    primary key (job, k, position)
) without rowid;
create table if not exists bans (
    chain blob not null,
    miner blob not null,
    reason text not null,
    at real not null,
    primary key (chain, miner)
) without rowid;
"""


_OPENINGS: Final = (
    "alter table jobs add column opening_nonce integer",
    "alter table jobs add column opening_block integer",
)
"""What version 1 has not."""


class JournalError(Exception):
    """The file cannot be read or written; the message says why."""


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job of this user.

    Attributes
    ----------
    id
        Its row.
    chain
        Genesis root of its chain.
    number
        Its number there; None before it is open.
    requester
        Who pays.
    session_key
        32 secret bytes; the representation leaves them out.
    title
        What it was opened for, for people.
    node
        URL of the node that was used.
    state
        As `noria.market.requester.reasons.JobView` has it.
    budget
        Wei as text.
    created, updated
        Unix seconds.
    pid
        Process that works on it.
    is_alive
        Whether that process is still there.
    wants_close
        Whether another process has asked to end it.
    view
        Its latest snapshot as JSON of a `JobView`, if there is one.
    opening_nonce, opening_block
        The account's next nonce and the chain's head just before the job's opening was sent; None if that has
        never been tried.
    """

    id: int
    chain: Hash32
    number: int | None
    requester: Address
    session_key: bytes
    title: str
    node: str
    state: str
    budget: str
    created: float
    updated: float
    pid: int
    is_alive: bool
    wants_close: bool
    view: bytes | None
    opening_nonce: int | None = None
    opening_block: int | None = None

    def __repr__(self) -> str:
        """Leave the key out: representations end in logs."""
        return f"StoredJob(id={self.id}, number={self.number}, state={self.state!r}, title={self.title!r})"


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A receipt as it was kept: encoded, with what belongs to it."""

    k: int
    index: int
    unit: Hash32
    receipt: bytes
    signature: bytes
    nonce: bytes
    seal: bytes | None
    price: str
    milliseconds: int
    log: bytes


@dataclass(frozen=True, slots=True)
class StoredBan:
    """A miner that lied to this user."""

    miner: Address
    reason: str
    at: float


def journal_path() -> Path:
    """Return the user's journal file, which need not exist: ``NORIA_JOBS`` or one in the data folder."""
    named = os.environ.get(JOURNAL_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("noria", appauthor=False) / NAME


class JobJournal:
    """The file. Any thread may use it; every write is on the disk when it returns, save for a power cut.

    Parameters
    ----------
    path
        `journal_path` if left out.

    Raises
    ------
    JournalError
        Where it cannot be opened.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or journal_path()
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The file must never have been readable by others.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._database = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            [version] = self._database.execute("pragma user_version").fetchone()
            if version not in (0, 1, VERSION):
                self._database.close()
                raise JournalError(f"{self.path} is of version {version}: 1 to {VERSION} are read")
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = normal")
            self._database.executescript(_SCHEMA)
            if version == 1:
                self._add_openings()
            self._database.execute(f"pragma user_version = {VERSION}")
        except (OSError, sqlite3.Error) as error:
            raise JournalError(f"the journal {self.path} cannot be opened: {error}") from None

    def _add_openings(self) -> None:
        self._database.execute("begin immediate")
        # Another process may have been faster.
        if self._database.execute("pragma user_version").fetchone() == (1,):
            for statement in _OPENINGS:
                self._database.execute(statement)
            self._database.execute(f"pragma user_version = {VERSION}")
        self._database.execute("commit")

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    # ------------------------------------------------------------ jobs

    def create(
        self,
        chain: Hash32,
        requester: Address,
        session_key: bytes,
        *,
        title: str,
        node: str,
        budget: int,
    ) -> int:
        """Note a job that is about to be opened; return its row."""
        now = time.time()
        pid = os.getpid()
        row = (
            chain,
            requester,
            session_key,
            title,
            node,
            "opening",
            str(budget),
            now,
            now,
            pid,
            _start_of(pid),
        )
        cursor = self._do(
            "insert into jobs (chain, requester, session_key, title, node, state, budget, created, updated,"
            " pid, process_start) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def note_opening(self, job: int, *, nonce: int, block: int) -> None:
        """Note that a job's opening is about to be sent: with this nonce or a later one, after this block."""
        self._do("update jobs set opening_nonce = ?, opening_block = ? where id = ?", (nonce, block, job))

    def update(self, job: int, *, number: int | None, state: str, view: bytes) -> bool:
        """Note where a job stands; return whether another process has asked to end it."""
        self._do(
            "update jobs set number = ?, state = ?, view = ?, updated = ? where id = ?",
            (number, state, view, time.time(), job),
        )
        [wanted] = self._do("select wants_close from jobs where id = ?", (job,)).fetchone() or [0]
        return bool(wanted)

    def adopt(self, job: int) -> None:
        """Take over a job of a process that is gone."""
        pid = os.getpid()
        self._do(
            "update jobs set pid = ?, process_start = ? where id = ?",
            (pid, _start_of(pid), job),
        )

    def release(self, job: int) -> None:
        """Leave a job to whoever looks after leftovers next, though this process may live on for long."""
        self._do("update jobs set process_start = 0 where id = ?", (job,))

    def set_state(self, job: int, state: str, number: int | None = None) -> None:
        """Note a job's state, and its number where that is known, alone."""
        self._do(
            "update jobs set state = ?, number = coalesce(?, number), updated = ? where id = ?",
            (state, number, time.time(), job),
        )

    def ask_close(self, job: int) -> None:
        """Ask the process that works on a job to end it."""
        self._do("update jobs set wants_close = 1 where id = ?", (job,))

    def jobs(self, *, chain: Hash32 | None = None, limit: int = 1000) -> list[StoredJob]:
        """Return this user's jobs, the latest first."""
        where, values = ("where chain = ?", (chain,)) if chain is not None else ("", ())
        rows = self._do(f"{_SELECT} {where} order by id desc limit ?", (*values, limit)).fetchall()
        return [_job(row) for row in rows]

    def find(self, number: int, chain: Hash32 | None = None) -> StoredJob | None:
        """Return the latest job with a number."""
        rows = self._do(f"{_SELECT} where number = ? order by id desc", (number,)).fetchall()
        return next((job for job in map(_job, rows) if chain is None or job.chain == chain), None)

    def leftovers(self, chain: Hash32) -> list[StoredJob]:
        """Return jobs that are not over and that nobody works on; those that end may have a process still.

        What was noted longest ago comes first.
        """
        states = ", ".join("?" * len(LIVE_STATES))
        where = f"where chain = ? and state in ({states}) order by updated, id"
        rows = self._do(f"{_SELECT} {where}", (chain, *LIVE_STATES)).fetchall()
        return [job for job in map(_job, rows) if job.state == "closing" or not job.is_alive]

    # ------------------------------------------------------------ receipts

    def add_receipts(self, job: int, receipts: Iterable[tuple[SignedReceipt, bytes]]) -> None:
        """Keep receipts, each with the log of its unit."""
        rows = [
            (
                job,
                signed.receipt.k,
                signed.receipt.index,
                signed.receipt.unit_id,
                signed.receipt.encode(),
                signed.signature,
                signed.nonce,
                signed.seal,
                str(signed.price),
                signed.milliseconds,
                log[:LOG_BYTES_MAX],
            )
            for signed, log in receipts
        ]
        with self._lock, self._guard():
            self._database.execute("begin")
            self._database.executemany(
                "insert or replace into receipts values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
            )
            self._database.execute("commit")

    def receipts(self, job: int) -> list[StoredReceipt]:
        """Return a job's receipts, by place and index."""
        rows = self._do(
            "select k, position, unit, receipt, signature, nonce, seal, price, milliseconds, log"
            " from receipts where job = ? order by k, position",
            (job,),
        ).fetchall()
        return [StoredReceipt(*row) for row in rows]

    # ------------------------------------------------------------ miners

    def ban(self, chain: Hash32, miner: Address, reason: str) -> None:
        """Note that a miner lied."""
        self._do("insert or replace into bans values (?, ?, ?, ?)", (chain, miner, reason, time.time()))

    def unban(self, chain: Hash32, miner: Address) -> None:
        """Forget what a miner did."""
        self._do("delete from bans where chain = ? and miner = ?", (chain, miner))

    def bans(self, chain: Hash32) -> dict[Address, StoredBan]:
        """Return who is banned now."""
        rows = self._do(
            "select miner, reason, at from bans where chain = ? and at > ?",
            (chain, time.time() - BAN_SECONDS),
        ).fetchall()
        return {Address(miner): StoredBan(Address(miner), reason, at) for miner, reason, at in rows}

    # ------------------------------------------------------------ inside

    def _do(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        with self._lock, self._guard():
            return self._database.execute(statement, values)

    def _guard(self) -> _Guard:
        return _Guard(self.path)


class _Guard:
    """Names the errors of the database."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Name what went wrong."""
        if isinstance(error, sqlite3.Error):
            raise JournalError(f"the journal {self._path} cannot be used: {error}") from None


_SELECT: Final = (
    "select id, chain, number, requester, session_key, title, node, state, budget, created, updated, pid,"
    " process_start, wants_close, view, opening_nonce, opening_block from jobs"
)


def _job(row: tuple[Any, ...]) -> StoredJob:
    pid, process_start, wants_close = row[11:14]
    return StoredJob(
        id=row[0],
        chain=Hash32(row[1]),
        number=row[2],
        requester=Address(row[3]),
        session_key=row[4],
        title=row[5],
        node=row[6],
        state=row[7],
        budget=row[8],
        created=row[9],
        updated=row[10],
        pid=pid,
        is_alive=process_start != 0 and _start_of(pid) == process_start,
        wants_close=bool(wants_close),
        view=row[14],
        opening_nonce=row[15],
        opening_block=row[16],
    )


def _start_of(pid: int) -> int:
    """Return when a process started, in the system's ticks; 0 if it is gone. A number alone comes again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0
